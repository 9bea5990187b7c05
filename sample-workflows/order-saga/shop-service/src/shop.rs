//! The shop itself: stock, cards, shipments. It decides; it does no I/O and knows no time.
//!
//! Everything is done under an order's name. The same request again changes nothing, and what was undone, even before
//! it was done, is never done again: a compensation may overtake the request that it undoes.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Orders that the shop remembers, for each thing that it does.
const ORDERS_MAX: usize = 100_000;

/// Why the shop does not do something.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// Too few are left.
    #[error("{left} of `{sku}` are left, and {count} are wanted")]
    OutOfStock { sku: String, count: u32, left: u32 },
    /// Too little money is on the card, or there is no such card.
    #[error("the card `{card}` has no {cents} cents")]
    CardDeclined { card: String, cents: u64 },
    /// Nobody goes there.
    #[error("nothing is shipped to `{address}`; choose one of: {served}")]
    NotServed { address: String, served: String },
    /// The order has done this already, in another way.
    #[error("the order `{order}` has asked for something else before; take another name")]
    Conflict { order: String },
    /// The order has undone this.
    #[error("the order `{order}` has been undone; take another name")]
    Undone { order: String },
    /// There are too many orders.
    #[error("the shop remembers {ORDERS_MAX} orders and no more; start it again")]
    Full,
}

/// Goods.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goods {
    pub sku: String,
    pub count: u32,
}

/// A price, and who pays it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub card: String,
    pub cents: u64,
}

/// Where goods go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    pub address: String,
}

/// What was done under each order's name; None where it was undone.
#[derive(Debug)]
struct Book<T>(BTreeMap<String, Option<T>>);

impl<T: PartialEq> Book<T> {
    /// Whether this is still to be done.
    fn is_new(&self, order: &str, what: &T) -> Result<bool, Refused> {
        match self.0.get(order) {
            Some(Some(done)) if done == what => Ok(false),
            Some(Some(_)) => Err(Refused::Conflict { order: order.to_owned() }),
            Some(None) => Err(Refused::Undone { order: order.to_owned() }),
            None if self.0.len() >= ORDERS_MAX => Err(Refused::Full),
            None => Ok(true),
        }
    }

    fn enter(&mut self, order: &str, what: T) {
        self.0.insert(order.to_owned(), Some(what));
    }

    /// What there is to give back.
    fn undo(&mut self, order: &str) -> Result<Option<T>, Refused> {
        if self.0.len() >= ORDERS_MAX && !self.0.contains_key(order) {
            return Err(Refused::Full);
        }
        Ok(self.0.insert(order.to_owned(), None).flatten())
    }

    fn standing(&self) -> BTreeMap<&String, &T> {
        self.0.iter().filter_map(|(order, what)| Some((order, what.as_ref()?))).collect()
    }
}

/// A shop.
#[derive(Debug)]
pub struct Shop {
    stock: BTreeMap<String, u32>,
    balances: BTreeMap<String, u64>,
    served: BTreeSet<String>,
    reservations: Book<Goods>,
    charges: Book<Price>,
    shipments: Book<Destination>,
}

impl Shop {
    /// A shop with that stock, those cards and what is on each, in cents, and the addresses it ships to.
    pub fn new(stock: BTreeMap<String, u32>, balances: BTreeMap<String, u64>, served: BTreeSet<String>) -> Shop {
        let (reservations, charges, shipments) = (Book(BTreeMap::new()), Book(BTreeMap::new()), Book(BTreeMap::new()));
        Shop { stock, balances, served, reservations, charges, shipments }
    }

    /// Takes goods out of stock.
    pub fn reserve(&mut self, order: &str, goods: Goods) -> Result<(), Refused> {
        if self.reservations.is_new(order, &goods)? {
            let left = self.stock.get(&goods.sku).copied().unwrap_or_default();
            let Some(rest) = left.checked_sub(goods.count) else {
                return Err(Refused::OutOfStock { sku: goods.sku, count: goods.count, left });
            };
            self.stock.insert(goods.sku.clone(), rest);
            self.reservations.enter(order, goods);
        }
        Ok(())
    }

    /// Puts them back.
    pub fn release(&mut self, order: &str) -> Result<(), Refused> {
        if let Some(goods) = self.reservations.undo(order)? {
            *self.stock.entry(goods.sku).or_default() += goods.count;
        }
        Ok(())
    }

    /// Takes money from a card.
    pub fn charge(&mut self, order: &str, price: Price) -> Result<(), Refused> {
        if self.charges.is_new(order, &price)? {
            let balance = self.balances.get(&price.card).copied().unwrap_or_default();
            let Some(rest) = balance.checked_sub(price.cents) else {
                return Err(Refused::CardDeclined { card: price.card, cents: price.cents });
            };
            self.balances.insert(price.card.clone(), rest);
            self.charges.enter(order, price);
        }
        Ok(())
    }

    /// Gives it back.
    pub fn refund(&mut self, order: &str) -> Result<(), Refused> {
        if let Some(price) = self.charges.undo(order)? {
            *self.balances.entry(price.card).or_default() += price.cents;
        }
        Ok(())
    }

    /// Sends the goods on their way.
    pub fn ship(&mut self, order: &str, to: Destination) -> Result<(), Refused> {
        if self.shipments.is_new(order, &to)? {
            if !self.served.contains(&to.address) {
                let served = self.served.iter().cloned().collect::<Vec<_>>().join(", ");
                return Err(Refused::NotServed { address: to.address, served });
            }
            self.shipments.enter(order, to);
        }
        Ok(())
    }

    /// Calls them back.
    pub fn recall(&mut self, order: &str) -> Result<(), Refused> {
        self.shipments.undo(order).map(|_| ())
    }

    /// Everything, as it stands.
    pub fn state(&self) -> Value {
        json!({
            "stock": self.stock,
            "balances": self.balances,
            "reservations": self.reservations.standing(),
            "charges": self.charges.standing(),
            "shipments": self.shipments.standing(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Shop {
        let stock = [("teapot".to_owned(), 3)].into();
        let balances = [("visa-1".to_owned(), 5000)].into();
        Shop::new(stock, balances, ["Bern".to_owned()].into())
    }

    fn teapots(count: u32) -> Goods {
        Goods { sku: "teapot".to_owned(), count }
    }

    fn cents(cents: u64) -> Price {
        Price { card: "visa-1".to_owned(), cents }
    }

    #[test]
    fn the_same_request_again_changes_nothing_and_another_one_is_refused() {
        let mut shop = shop();
        for _ in 0..2 {
            assert_eq!(shop.reserve("a", teapots(2)), Ok(()));
            assert_eq!(shop.charge("a", cents(4000)), Ok(()));
        }
        assert_eq!(shop.state()["stock"]["teapot"], 1);
        assert_eq!(shop.state()["balances"]["visa-1"], 1000);
        assert_eq!(shop.reserve("a", teapots(1)), Err(Refused::Conflict { order: "a".to_owned() }));
    }

    #[test]
    fn what_was_undone_is_given_back_once_and_never_done_again() {
        let mut shop = shop();
        let before = shop.state();
        shop.reserve("a", teapots(2)).unwrap();
        shop.charge("a", cents(4000)).unwrap();
        shop.ship("a", Destination { address: "Bern".to_owned() }).unwrap();
        for _ in 0..2 {
            assert_eq!((shop.recall("a"), shop.refund("a"), shop.release("a")), (Ok(()), Ok(()), Ok(())));
        }
        assert_eq!(shop.state(), before);
        assert_eq!(shop.charge("a", cents(4000)), Err(Refused::Undone { order: "a".to_owned() }));
    }

    #[test]
    fn what_is_undone_before_it_is_done_is_never_done() {
        let mut shop = shop();
        shop.refund("a").unwrap();
        assert_eq!(shop.charge("a", cents(1)), Err(Refused::Undone { order: "a".to_owned() }));
        assert_eq!(shop.state()["balances"]["visa-1"], 5000);
    }

    #[test]
    fn the_shop_refuses_what_it_can_not_do_and_says_why() {
        let mut shop = shop();
        let refused = shop.reserve("a", teapots(4)).unwrap_err();
        assert_eq!(refused.to_string(), "3 of `teapot` are left, and 4 are wanted");
        assert!(matches!(shop.charge("a", cents(5001)), Err(Refused::CardDeclined { .. })));
        let refused = shop.ship("a", Destination { address: "Mars".to_owned() }).unwrap_err();
        assert_eq!(refused.to_string(), "nothing is shipped to `Mars`; choose one of: Bern");
    }
}
