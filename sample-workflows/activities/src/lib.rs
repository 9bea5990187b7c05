//! The activities of the samples, as one component: a shop's API and pages of text, both over wasi:http and so
//! under the host's outbound policy.

mod pages;
mod shop;
mod web;

rehydrate::activities!(
    pages::fetch,
    pages::count_words,
    pages::report,
    pages::measure,
    shop::reserve,
    shop::release,
    shop::charge,
    shop::refund,
    shop::ship,
    shop::recall,
);
