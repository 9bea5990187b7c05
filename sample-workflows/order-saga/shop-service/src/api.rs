//! The HTTP side: routes and answers. What the shop does is decided in [`Shop`]; here is only translating, and the time
//! that packing takes.

use crate::shop::{Destination, Goods, Price, Refused, Shop};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;

/// The largest request body, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The shop and how long it takes to pack. Clones share them.
#[derive(Clone, Debug)]
pub struct Service {
    shop: Arc<Mutex<Shop>>,
    packing: Duration,
}

impl Service {
    /// A service for that shop; a shipment is answered when it is packed.
    pub fn new(shop: Shop, packing: Duration) -> Service {
        Service { shop: Arc::new(Mutex::new(shop)), packing }
    }

    fn shop(&self) -> MutexGuard<'_, Shop> {
        // No method of `Shop` leaves it half changed, so a panic elsewhere does not make it unusable.
        self.shop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the listener fails.
pub async fn serve(listener: TcpListener, service: Service) -> std::io::Result<()> {
    let router = Router::new()
        .route("/reservations/{order}", put(reserve).delete(release))
        .route("/charges/{order}", put(charge).delete(refund))
        .route("/shipments/{order}", put(ship).delete(recall))
        .route("/state", get(state))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(service);
    axum::serve(listener, router).await
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Refused::OutOfStock { .. } => (StatusCode::CONFLICT, "out-of-stock"),
            Refused::CardDeclined { .. } => (StatusCode::PAYMENT_REQUIRED, "card-declined"),
            Refused::NotServed { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "address-not-served"),
            Refused::Conflict { .. } => (StatusCode::CONFLICT, "order-differs"),
            Refused::Undone { .. } => (StatusCode::GONE, "order-undone"),
            Refused::Full => (StatusCode::SERVICE_UNAVAILABLE, "shop-full"),
        };
        (status, Json(json!({ "code": code, "message": self.to_string() }))).into_response()
    }
}

type Done = Result<StatusCode, Refused>;

fn done(result: Result<(), Refused>) -> Done {
    result.map(|()| StatusCode::NO_CONTENT)
}

async fn reserve(State(service): State<Service>, Path(order): Path<String>, Json(goods): Json<Goods>) -> Done {
    done(service.shop().reserve(&order, goods))
}

async fn release(State(service): State<Service>, Path(order): Path<String>) -> Done {
    done(service.shop().release(&order))
}

async fn charge(State(service): State<Service>, Path(order): Path<String>, Json(price): Json<Price>) -> Done {
    done(service.shop().charge(&order, price))
}

async fn refund(State(service): State<Service>, Path(order): Path<String>) -> Done {
    done(service.shop().refund(&order))
}

/// Enters the shipment, and then packs: whoever hangs up meanwhile does not know that it is under way.
async fn ship(State(service): State<Service>, Path(order): Path<String>, Json(to): Json<Destination>) -> Done {
    let shipped = service.shop().ship(&order, to);
    if shipped.is_ok() {
        tokio::time::sleep(service.packing).await;
    }
    done(shipped)
}

async fn recall(State(service): State<Service>, Path(order): Path<String>) -> Done {
    done(service.shop().recall(&order))
}

async fn state(State(service): State<Service>) -> Json<Value> {
    Json(service.shop().state())
}
