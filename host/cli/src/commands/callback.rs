//! `callback`: what an external system does with a callback's URL. Needs nothing but that URL.

use super::json_argument;
use crate::args::{CallbackCommand, Output};
use crate::client;
use crate::output::{self, Ended};
use anyhow::Context as _;
use rehydrate_http::dto::{MessageTaken, Rejection, Taken};
use reqwest::Url;

/// `callback`
pub async fn run(output: Output, command: CallbackCommand) -> anyhow::Result<Ended> {
    let (url, body, verb) = match command {
        CallbackCommand::Complete { url, value } => {
            (callback_url(&url, false)?, json_argument(&value)?.get().to_owned(), "completed")
        }
        CallbackCommand::Reject { url, code, message, retryable, details } => {
            let details = details.as_deref().map(json_argument).transpose()?;
            let rejection = Rejection { code, message, retryable, details };
            (callback_url(&url, true)?, serde_json::to_string(&rejection)?, "rejected")
        }
    };
    let answer = client::post_callback(url, body).await?;
    match output {
        Output::Json => output::line(&answer.text)?,
        Output::Table => match answer.parse::<MessageTaken>()?.status {
            Taken::Accepted => output::line(&format!("the callback is {verb}"))?,
            Taken::Duplicate => output::line(&format!("the callback was {verb} so before; nothing was added"))?,
        },
    }
    Ok(Ended::Well)
}

/// The URL to post to. The same URL serves both forms: a rejection goes below it.
fn callback_url(text: &str, reject: bool) -> anyhow::Result<Url> {
    // The text is a secret and must not be shown in full, whatever is wrong with it.
    let wrong = "this is no callback URL; give the whole URL that the workflow handed out";
    let mut url = Url::parse(text).context(wrong)?;
    anyhow::ensure!(matches!(url.scheme(), "http" | "https") && url.host().is_some(), wrong);
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/reject").unwrap_or(path).to_owned();
    url.set_path(&if reject { format!("{path}/reject") } else { path });
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_made_from_either_url() {
        for url in ["http://h:1/callbacks/t", "http://h:1/callbacks/t/", "http://h:1/callbacks/t/reject"] {
            assert_eq!(callback_url(url, false).expect("a URL").as_str(), "http://h:1/callbacks/t");
            assert_eq!(callback_url(url, true).expect("a URL").as_str(), "http://h:1/callbacks/t/reject");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_showing_it() {
        for wrong in ["secret-token", "file:///secret-token", "h:1/secret-token"] {
            let error = format!("{:#}", callback_url(wrong, false).expect_err(wrong));
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
