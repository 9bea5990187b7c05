//! Pages of text: fetching them, counting their words, and a report about that.

use crate::web;
use rehydrate::{Failure, HttpRequest};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The largest page, in bytes: it goes through the history, which has a limit for each value.
const PAGE_BYTES_MAX: usize = 256 * 1024;
/// The shortest word that is counted among the frequent ones, in characters.
const FREQUENT_CHARS_MIN: usize = 4;
/// How many frequent words are told.
const FREQUENT_MAX: usize = 5;

/// The words of a page.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct Words {
    /// All of them.
    total: usize,
    /// The most frequent long ones, in lower case, and how often each occurs.
    frequent: Vec<(String, usize)>,
}

/// A page's size.
#[derive(Serialize)]
pub struct Size {
    words: usize,
    bytes: usize,
}

/// Fetches a page of text.
#[rehydrate::activity(name = "page.fetch")]
pub async fn fetch(url: String) -> Result<String, Failure> {
    let answer = web::call(HttpRequest::get(&url)).await?;
    let text = answer.text.or_else(|| answer.json.map(|json| json.to_string())).unwrap_or_default();
    if text.len() > PAGE_BYTES_MAX {
        let message = format!("{url} has {} bytes; at most {PAGE_BYTES_MAX} are taken", text.len());
        return Err(Failure::rejected("page.too-large", message));
    }
    Ok(text)
}

/// Counts the words of a text.
#[rehydrate::activity(name = "page.count-words")]
pub fn count_words(text: String) -> Result<Words, Failure> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for word in words(&text).filter(|word| word.chars().count() >= FREQUENT_CHARS_MIN) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let mut frequent: Vec<_> = counts.into_iter().collect();
    // A stable sort: words that occur equally often stay in their own order.
    frequent.sort_by_key(|(_, count)| Reverse(*count));
    frequent.truncate(FREQUENT_MAX);
    Ok(Words { total: words(&text).count(), frequent })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Puts counts into words.
#[rehydrate::activity(name = "page.report")]
pub fn report(words: Words) -> Result<String, Failure> {
    let mut report = format!("{} words", words.total);
    for (index, (word, count)) in words.frequent.iter().enumerate() {
        let before = if index == 0 { "; most frequent: " } else { ", " };
        write!(report, "{before}{word} ({count})")
            .map_err(|error| Failure::application("page.report", error.to_string()))?;
    }
    Ok(report)
}

/// Fetches a page and measures it; the page itself does not go through the history.
#[rehydrate::activity(name = "page.measure")]
pub async fn measure(url: String) -> Result<Size, Failure> {
    let text = fetch(url).await?;
    Ok(Size { words: words(&text).count(), bytes: text.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_and_the_frequent_ones_told() {
        let words = count_words("Tea, tea; TEAPOT teapot a teapot — kettle kettle.".to_owned()).unwrap();
        let frequent = [("teapot", 3), ("kettle", 2)].map(|(word, count)| (word.to_owned(), count));
        assert_eq!(words, Words { total: 8, frequent: frequent.into() });
        assert_eq!(report(words).unwrap(), "8 words; most frequent: teapot (3), kettle (2)");
    }

    #[test]
    fn an_empty_page_has_no_words() {
        assert_eq!(report(count_words(String::new()).unwrap()).unwrap(), "0 words");
    }
}
