//! An order: reserve the goods, charge the card, ship. What fails halfway, or is cancelled, is undone.
//!
//! Everything is done at a shop under the order's name, which the workflow chose. So a compensation is registered
//! before its step: it works whether or not the step took effect, and nobody needs to know which.

use rehydrate::{ActivityCall, Context, Failure, RetryPolicy};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The longest the shop may take for one request. Packing takes its time.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// For how long the shop is asked to undo something. What is not undone by then needs a person.
const UNDO_MAX: Duration = Duration::from_secs(24 * 3600);

/// The input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Where the shop is, such as `http://127.0.0.1:8091`.
    pub shop_url: String,
    /// What is ordered.
    pub sku: String,
    /// How many of them.
    pub count: u32,
    /// The card to charge.
    pub card: String,
    /// The price of all, in cents.
    pub cents: u64,
    /// Where to.
    pub address: String,
}

/// The output.
#[derive(Serialize, Debug)]
pub struct Output {
    /// The name of the order at the shop.
    pub order: String,
}

/// The workflow.
#[rehydrate::workflow]
async fn order_saga(ctx: Context, input: Input) -> Result<Output, Failure> {
    let shop = Shop { ctx: &ctx, url: &input.shop_url, order: ctx.uuid() };
    ctx.saga(async |saga| {
        ctx.set_status(&"reserving the goods")?;
        saga.compensate("reserve", || shop.undo("shop.release"))?;
        shop.act("shop.reserve", json!({ "sku": input.sku, "count": input.count })).await?;

        ctx.set_status(&"charging the card")?;
        saga.compensate("charge", || shop.undo("shop.refund"))?;
        shop.act("shop.charge", json!({ "card": input.card, "cents": input.cents })).await?;

        ctx.set_status(&"shipping")?;
        saga.compensate("ship", || shop.undo("shop.recall"))?;
        shop.act("shop.ship", json!({ "address": input.address })).await
    })
    .await?;
    ctx.set_status(&"shipped")?;
    Ok(Output { order: shop.order })
}

/// One order at the shop.
struct Shop<'a> {
    ctx: &'a Context,
    url: &'a str,
    order: String,
}

impl Shop<'_> {
    /// A step. The shop knows the order by its name, so the host may try as often as it takes.
    fn act(&self, activity: &str, what: Value) -> ActivityCall<()> {
        let retry = RetryPolicy::attempts(5).initial(Duration::from_millis(500));
        self.call(activity, what).start_to_close(REQUEST_MAX).retry(retry)
    }

    /// What undoes a step.
    fn undo(&self, activity: &str) -> ActivityCall<()> {
        let retry = RetryPolicy::within(UNDO_MAX).maximum(Duration::from_secs(600));
        self.call(activity, json!({})).start_to_close(REQUEST_MAX).retry(retry)
    }

    fn call(&self, activity: &str, what: Value) -> ActivityCall<()> {
        let mut input =
            Map::from_iter([("shop_url".into(), self.url.into()), ("order".into(), self.order.as_str().into())]);
        if let Value::Object(what) = what {
            input.extend(what);
        }
        self.ctx.activity(activity, &input)
    }
}

#[cfg(test)]
mod tests;
