//! The command `shop-service`: a small shop to try the saga with. Listens, prints its address, serves until it is asked
//! to stop.
//!
//! It must print exactly one line to stdout, once it accepts connections: scripts wait for it.

mod api;
mod shop;

use anyhow::Context;
use clap::Parser;
use std::io::Write;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;
use tokio::net::TcpListener;

/// A small shop: stock, cards, shipments. It keeps everything in memory.
#[derive(Parser, Debug)]
#[command(name = "shop-service", version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8091", env = "SHOP_SERVICE_LISTEN")]
    listen: SocketAddr,

    /// How many of an article are in stock; may be repeated.
    #[arg(long, value_name = "SKU=COUNT", default_value = "teapot=5", value_parser = pair::<u32>)]
    stock: Vec<(String, u32)>,

    /// How much is on a card; may be repeated.
    #[arg(long, value_name = "CARD=CENTS", default_value = "visa-1=10000", value_parser = pair::<u64>)]
    card: Vec<(String, u64)>,

    /// An address that is served; may be repeated.
    #[arg(long, default_value = "Bern")]
    address: Vec<String>,

    /// How long packing takes, in seconds: a shipment is answered only then.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    packing_seconds: u64,
}

/// `name=number`.
fn pair<N: FromStr>(text: &str) -> Result<(String, N), String> {
    let wrong = || format!("`{text}` is not of the form NAME=NUMBER, such as teapot=5");
    let (name, number) = text.split_once('=').ok_or_else(wrong)?;
    Ok((name.to_owned(), number.parse().map_err(|_| wrong())?))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("can't listen on {}; choose another address with --listen", arguments.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;
    println!("shop-service listening on http://{address}");
    std::io::stdout().flush().context("can't print the address")?;
    let (stock, cards) = (arguments.stock.into_iter().collect(), arguments.card.into_iter().collect());
    let shop = shop::Shop::new(stock, cards, arguments.address.into_iter().collect());
    let service = api::Service::new(shop, Duration::from_secs(arguments.packing_seconds));
    tokio::select! {
        served = api::serve(listener, service) => served.context("the service ended"),
        stopped = asked_to_stop() => stopped.context("can't listen for signals"),
    }
}

/// Completes at SIGTERM or ctrl-c.
async fn asked_to_stop() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            stopped = tokio::signal::ctrl_c() => stopped,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_a_name_and_a_number() {
        assert_eq!(pair::<u32>("teapot=5"), Ok(("teapot".to_owned(), 5)));
        for wrong in ["teapot", "teapot=", "teapot=-1", "=x"] {
            assert!(pair::<u32>(wrong).is_err(), "{wrong}");
        }
    }
}
