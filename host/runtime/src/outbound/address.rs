//! What kind of address an IP address is, after the forms that hide another address are unwrapped.
//!
//! The tables follow the IANA special-purpose registries. An address that is in no table and not plainly
//! global unicast counts as reserved: what is unknown is refused.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kinds that the outbound policy tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressClass {
    /// Global unicast.
    Public,
    /// This machine.
    Loopback,
    /// RFC 1918 networks.
    Private,
    /// 169.254.0.0/16 and fe80::/10.
    LinkLocal,
    /// fc00::/7 and the old fec0::/10.
    UniqueLocal,
    /// 100.64.0.0/10, the carriers' shared network.
    Shared,
    /// Where a cloud hands out a machine's credentials.
    Metadata,
    /// 0.0.0.0/8 and ::.
    Unspecified,
    /// Groups and broadcast.
    Multicast,
    /// Addresses for documentation and benchmarks.
    Documentation,
    /// Set aside for something else, or an IPv6 form that tunnels to an unknown place.
    Reserved,
}

impl AddressClass {
    /// Whether a host that is allowed by its exact name may resolve to such an address. Never metadata: a
    /// name's DNS must not be able to reach a machine's credentials.
    pub(crate) fn open_to_named_hosts(self) -> bool {
        use AddressClass::{LinkLocal, Loopback, Private, Public, Shared, UniqueLocal};
        matches!(self, Public | Loopback | Private | LinkLocal | UniqueLocal | Shared)
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressClass::Public => "a public address",
            AddressClass::Loopback => "a loopback address",
            AddressClass::Private => "a private address",
            AddressClass::LinkLocal => "a link-local address",
            AddressClass::UniqueLocal => "a unique-local address",
            AddressClass::Shared => "an address of a carrier's shared network",
            AddressClass::Metadata => "a cloud metadata address",
            AddressClass::Unspecified => "the unspecified address",
            AddressClass::Multicast => "a multicast or broadcast address",
            AddressClass::Documentation => "an address for documentation or benchmarks",
            AddressClass::Reserved => "a reserved address",
        })
    }
}

/// Link-local ones are in this list so that they are named as what they are; 168.63.129.16 (Azure) and
/// 192.0.0.192 (Oracle) lie outside every private network.
const METADATA: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

const V4: [(Ipv4Net, AddressClass); 16] = [
    (v4(0, 0, 0, 0, 8), AddressClass::Unspecified),
    (v4(10, 0, 0, 0, 8), AddressClass::Private),
    (v4(100, 64, 0, 0, 10), AddressClass::Shared),
    (v4(127, 0, 0, 0, 8), AddressClass::Loopback),
    (v4(169, 254, 0, 0, 16), AddressClass::LinkLocal),
    (v4(172, 16, 0, 0, 12), AddressClass::Private),
    (v4(192, 0, 0, 0, 24), AddressClass::Reserved),
    (v4(192, 0, 2, 0, 24), AddressClass::Documentation),
    (v4(192, 88, 99, 0, 24), AddressClass::Reserved),
    (v4(192, 168, 0, 0, 16), AddressClass::Private),
    (v4(198, 18, 0, 0, 15), AddressClass::Documentation),
    (v4(198, 51, 100, 0, 24), AddressClass::Documentation),
    (v4(203, 0, 113, 0, 24), AddressClass::Documentation),
    (v4(224, 0, 0, 0, 4), AddressClass::Multicast),
    (v4(255, 255, 255, 255, 32), AddressClass::Multicast),
    (v4(240, 0, 0, 0, 4), AddressClass::Reserved),
];

const V6: [(Ipv6Net, AddressClass); 11] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), AddressClass::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), AddressClass::Loopback),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), AddressClass::LinkLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), AddressClass::UniqueLocal),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), AddressClass::UniqueLocal),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), AddressClass::Multicast),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), AddressClass::Documentation),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), AddressClass::Documentation),
    // Teredo, ORCHID and other protocol assignments.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), AddressClass::Reserved),
    // 6to4 carries an IPv4 address of any kind.
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), AddressClass::Reserved),
    // The last word: global unicast. Whatever falls through is reserved.
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), AddressClass::Public),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(s: [u16; 8], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), bits)
}

/// The address that a connection to `ip` really reaches: IPv4 for the IPv4-mapped form.
pub(crate) fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// What kind of address this is.
pub(crate) fn classify(ip: IpAddr) -> AddressClass {
    let ip = canonical(ip);
    if METADATA.contains(&ip) {
        return AddressClass::Metadata;
    }
    match ip {
        IpAddr::V4(ip) => find(&V4, |net| net.contains(&ip)).unwrap_or(AddressClass::Public),
        // A NAT64 gateway turns 64:ff9b::/96 into the IPv4 address in its last 32 bits.
        IpAddr::V6(ip) => match nat64(ip) {
            Some(inner) => classify(IpAddr::V4(inner)),
            None => find(&V6, |net| net.contains(&ip)).unwrap_or(AddressClass::Reserved),
        },
    }
}

fn find<N>(table: &[(N, AddressClass)], contains: impl Fn(&N) -> bool) -> Option<AddressClass> {
    table.iter().find(|(net, _)| contains(net)).map(|(_, class)| *class)
}

fn nat64(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, ..] = ip.segments() else { return None };
    let [.., a, b, c, d] = ip.octets();
    Some(Ipv4Addr::new(a, b, c, d))
}

/// The loopback networks, which the entry `localhost` stands for beside the name.
pub(crate) fn loopback_nets() -> [IpNet; 2] {
    [IpNet::V4(v4(127, 0, 0, 0, 8)), IpNet::V6(v6([0, 0, 0, 0, 0, 0, 0, 1], 128))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> AddressClass {
        classify(text.parse().expect("an address"))
    }

    #[test]
    fn ordinary_addresses_are_public() {
        for text in ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"] {
            assert_eq!(class(text), AddressClass::Public, "{text}");
        }
    }

    #[test]
    fn every_special_network_is_recognised() {
        for (text, expected) in [
            ("127.0.0.1", AddressClass::Loopback),
            ("127.255.255.254", AddressClass::Loopback),
            ("::1", AddressClass::Loopback),
            ("10.255.0.1", AddressClass::Private),
            ("172.31.255.255", AddressClass::Private),
            ("192.168.1.1", AddressClass::Private),
            ("169.254.1.1", AddressClass::LinkLocal),
            ("fe80::1", AddressClass::LinkLocal),
            ("fd12:3456::1", AddressClass::UniqueLocal),
            ("100.64.0.1", AddressClass::Shared),
            ("0.0.0.0", AddressClass::Unspecified),
            ("0.1.2.3", AddressClass::Unspecified),
            ("::", AddressClass::Unspecified),
            ("224.0.0.1", AddressClass::Multicast),
            ("255.255.255.255", AddressClass::Multicast),
            ("ff02::1", AddressClass::Multicast),
            ("192.0.2.1", AddressClass::Documentation),
            ("198.19.0.1", AddressClass::Documentation),
            ("2001:db8::1", AddressClass::Documentation),
            ("240.0.0.1", AddressClass::Reserved),
            ("2002:7f00:1::", AddressClass::Reserved),
            ("2001::1", AddressClass::Reserved),
            ("::7f00:1", AddressClass::Reserved),
            ("4000::1", AddressClass::Reserved),
        ] {
            assert_eq!(class(text), expected, "{text}");
        }
    }

    #[test]
    fn metadata_services_are_told_apart_from_their_networks() {
        for text in ["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "::ffff:169.254.169.254"] {
            assert_eq!(class(text), AddressClass::Metadata, "{text}");
        }
    }

    #[test]
    fn an_address_hidden_in_ipv6_counts_as_itself() {
        assert_eq!(class("::ffff:127.0.0.1"), AddressClass::Loopback);
        assert_eq!(class("::ffff:10.0.0.1"), AddressClass::Private);
        assert_eq!(class("::ffff:8.8.8.8"), AddressClass::Public);
        assert_eq!(class("64:ff9b::7f00:1"), AddressClass::Loopback);
        assert_eq!(class("64:ff9b::808:808"), AddressClass::Public);
        assert_eq!(class("64:ff9b::a9fe:a9fe"), AddressClass::Metadata);
    }
}
