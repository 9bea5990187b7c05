//! The attribute macros of the `rehydrate` crate, which re-exports and documents them. They only write the
//! glue between a function and the component's exports; what it does is in `rehydrate::__private`.

mod entity;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{ToTokens, format_ident, quote};
use syn::parse::Parser;
use syn::{Error, FnArg, ItemFn, ItemImpl, LitStr, parse_macro_input};

/// Makes an `async fn` the workflow of this component. One per crate.
///
/// Its parameters are a `Context` and, if it has one, the input: any type that serde can read. It returns
/// `Result<T, E>` with a `T` that serde can write and `E: Into<Failure>`.
///
/// ```ignore
/// #[rehydrate::workflow]
/// async fn greet(ctx: Context, name: String) -> Result<String, Failure> {
///     ctx.sleep(Duration::from_secs(3600)).await?;
///     Ok(format!("Hello, {name}"))
/// }
/// ```
#[proc_macro_attribute]
pub fn workflow(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let glue = no_arguments(arguments.into()).and_then(|()| workflow_glue(&function));
    finish(&function, glue)
}

/// Makes a function, `async` or not, an activity, to be offered with `rehydrate::activities!`.
///
/// Its parameters are, in this order and each only if it has it, an `ActivityContext` and the input; with one
/// parameter, that is the input. It returns `Result<T, E>` as a workflow does. Its name is the function's, or
/// that of `#[rehydrate::activity(name = "card.charge")]`.
#[proc_macro_attribute]
pub fn activity(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let glue = activity_name(arguments, &function).and_then(|name| activity_glue(&function, &name));
    finish(&function, glue)
}

/// Makes a type the entity of this component. One per crate.
///
/// It stands on an `impl` block; the methods in it are the operations, known by their names. After `self` each takes,
/// in this order and only if it has it, an `EntityContext` (recognized by that name) and an input that serde can read.
/// It returns `Result<T, E>` with a `T` that serde can write and `E: Into<Failure>`. Functions without `self` are no
/// operations.
///
/// The type is the entity's state: it is read before an operation, `Default` if there is none yet, and written after
/// it if the method takes `&mut self`, it did not fail, and the state has changed. A method that takes `self` uses the
/// state up: it is removed. The operation `delete` is built in and removes all values, unless there is a method of
/// that name.
///
/// ```ignore
/// #[derive(Default, Serialize, Deserialize)]
/// struct Counter { value: i64 }
///
/// #[rehydrate::entity]
/// impl Counter {
///     fn add(&mut self, n: i64) -> Result<i64, Failure> {
///         self.value += n;
///         Ok(self.value)
///     }
///
///     fn get(&self) -> Result<i64, Failure> {
///         Ok(self.value)
///     }
/// }
/// ```
///
/// More values than one, each under its own key, are kept with `EntityContext::get` and `set`.
#[proc_macro_attribute]
pub fn entity(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as ItemImpl);
    let glue = no_arguments(arguments.into()).and_then(|()| entity::glue(&item));
    finish(&item, glue)
}

fn finish(item: &impl ToTokens, glue: Result<Tokens, Error>) -> TokenStream {
    let glue = glue.unwrap_or_else(Error::into_compile_error);
    quote! { #item #glue }.into()
}

fn no_arguments(arguments: Tokens) -> Result<(), Error> {
    if arguments.is_empty() { Ok(()) } else { Err(Error::new_spanned(arguments, "takes no arguments")) }
}

fn check(function: &ItemFn) -> Result<(), Error> {
    let signature = &function.sig;
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, "must not be generic: the host calls it with JSON"));
    }
    match signature.inputs.iter().find(|input| matches!(input, FnArg::Receiver(_))) {
        Some(receiver) => Err(Error::new_spanned(receiver, "must be a free function")),
        None => Ok(()),
    }
}

fn workflow_glue(function: &ItemFn) -> Result<Tokens, Error> {
    check(function)?;
    let (name, inputs) = (&function.sig.ident, &function.sig.inputs);
    if function.sig.asyncness.is_none() {
        return Err(Error::new_spanned(function.sig.fn_token, "a workflow is an `async fn`"));
    }
    let body = match inputs.len() {
        1 => quote! { |ctx, _: ::rehydrate::__private::IgnoredAny| #name(ctx) },
        2 => quote! { #name },
        _ => return Err(Error::new_spanned(inputs, "a workflow takes a `Context` and at most one input")),
    };
    Ok(quote! {
        // In a native build nothing but unit tests calls it; it is checked, and counts as used, all the same.
        #[cfg(not(target_family = "wasm"))]
        const _: fn(&str) -> ::std::result::Result<::std::string::String, ::rehydrate::Failure> =
            |input| ::rehydrate::__private::run_workflow(input, #body);

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "the exports of a component are unsafe functions")]
        const _: () = {
            struct Export;

            impl ::rehydrate::__private::workflow::Guest for Export {
                fn run(
                    input: ::std::string::String,
                ) -> ::std::result::Result<::std::string::String, ::rehydrate::__private::WireFailure> {
                    ::std::result::Result::Ok(::rehydrate::__private::run_workflow(&input, #body)?)
                }
            }

            ::rehydrate::__private::workflow::export_workflow!(Export with_types_in ::rehydrate::__private::workflow);
        };
    })
}

fn activity_name(arguments: TokenStream, function: &ItemFn) -> Result<LitStr, Error> {
    let mut name = None;
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("name") {
            return Err(meta.error("the only argument is `name = \"...\"`"));
        }
        name = Some(meta.value()?.parse::<LitStr>()?);
        Ok(())
    });
    parser.parse(arguments)?;
    Ok(name.unwrap_or_else(|| LitStr::new(&function.sig.ident.to_string(), function.sig.ident.span())))
}

fn activity_glue(function: &ItemFn, name: &LitStr) -> Result<Tokens, Error> {
    check(function)?;
    let (visibility, ident, inputs) = (&function.vis, &function.sig.ident, &function.sig.inputs);
    let wait = if function.sig.asyncness.is_some() {
        quote! { .await }
    } else {
        Tokens::new()
    };
    let input = format_ident!("input");
    let (binding, arguments) = match inputs.len() {
        0 => (quote! { _: ::rehydrate::__private::IgnoredAny }, quote! {}),
        1 => (quote! { #input }, quote! { #input }),
        2 => (quote! { #input }, quote! { ctx, #input }),
        _ => return Err(Error::new_spanned(inputs, "an activity takes an `ActivityContext` and an input at most")),
    };
    // A type of the function's name: types and functions have separate names, so both can be used.
    Ok(quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, reason = "it has the function's name, for `activities!`")]
        #visibility struct #ident {}

        impl ::rehydrate::__private::Activity for #ident {
            const NAME: &'static str = #name;

            fn run(input: &str) -> ::std::result::Result<::std::string::String, ::rehydrate::Failure> {
                ::rehydrate::__private::run_activity(input, |ctx, #binding| async move {
                    let _ = &ctx;
                    #ident(#arguments)#wait
                })
            }
        }
    })
}
