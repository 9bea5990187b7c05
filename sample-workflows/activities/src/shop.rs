//! A shop's API. What is done is known by the order it is done for, so doing it twice is doing it once, and undoing it
//! works also where it is not known whether it was done.

use crate::web;
use rehydrate::{Failure, HttpRequest};
use serde::{Deserialize, Serialize};

/// Where, and for which order. The order's name is put into a path, so it must be fit for one, as a UUID is.
#[derive(Deserialize)]
pub struct At {
    shop_url: String,
    order: String,
}

impl At {
    fn request(&self, method: &str, what: &str) -> HttpRequest {
        HttpRequest::new(method, format!("{}/{what}/{}", self.shop_url.trim_end_matches('/'), self.order))
    }

    async fn put(&self, what: &str, body: &impl Serialize) -> Result<(), Failure> {
        web::call(self.request("PUT", what).json(body)?).await.map(|_| ())
    }

    async fn delete(&self, what: &str) -> Result<(), Failure> {
        web::call(self.request("DELETE", what)).await.map(|_| ())
    }
}

/// An order's goods.
#[derive(Deserialize, Serialize)]
pub struct Goods {
    sku: String,
    count: u32,
}

/// An order's price.
#[derive(Deserialize, Serialize)]
pub struct Price {
    card: String,
    cents: u64,
}

/// Where an order goes.
#[derive(Deserialize, Serialize)]
pub struct Destination {
    address: String,
}

/// What to do, where, and for which order.
#[derive(Deserialize)]
pub struct Order<T> {
    #[serde(flatten)]
    at: At,
    #[serde(flatten)]
    what: T,
}

/// Takes goods out of stock.
#[rehydrate::activity(name = "shop.reserve")]
pub async fn reserve(order: Order<Goods>) -> Result<(), Failure> {
    order.at.put("reservations", &order.what).await
}

/// Undoes `shop.reserve`.
#[rehydrate::activity(name = "shop.release")]
pub async fn release(at: At) -> Result<(), Failure> {
    at.delete("reservations").await
}

/// Takes money from a card.
#[rehydrate::activity(name = "shop.charge")]
pub async fn charge(order: Order<Price>) -> Result<(), Failure> {
    order.at.put("charges", &order.what).await
}

/// Undoes `shop.charge`.
#[rehydrate::activity(name = "shop.refund")]
pub async fn refund(at: At) -> Result<(), Failure> {
    at.delete("charges").await
}

/// Sends the goods on their way.
#[rehydrate::activity(name = "shop.ship")]
pub async fn ship(order: Order<Destination>) -> Result<(), Failure> {
    order.at.put("shipments", &order.what).await
}

/// Undoes `shop.ship`.
#[rehydrate::activity(name = "shop.recall")]
pub async fn recall(at: At) -> Result<(), Failure> {
    at.delete("shipments").await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_order_is_read_flat_and_sent_without_what_is_in_the_path() {
        let input = json!({"shop_url": "http://shop.test/", "order": "7", "sku": "teapot", "count": 2});
        let order: Order<Goods> = serde_json::from_value(input).unwrap();
        assert_eq!(order.at.request("PUT", "reservations").url, "http://shop.test/reservations/7");
        assert_eq!(serde_json::to_value(&order.what).unwrap(), json!({"sku": "teapot", "count": 2}));
    }
}
