//! `#[rehydrate::entity]`: from the methods of an `impl` block to the operations of an entity.

use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ImplItem, ImplItemFn, ItemImpl, LitStr, Receiver, Type};

/// The glue of the entity: its operations, and the component's export.
pub(crate) fn glue(item: &ItemImpl) -> Result<Tokens, Error> {
    if let Some((_, path, _)) = &item.trait_ {
        return Err(Error::new_spanned(path, "an entity is the `impl` block of a type, not of a trait"));
    }
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "must not be generic: the host calls it with JSON"));
    }
    let operations = item.items.iter().filter_map(operation).collect::<Result<Vec<_>, Error>>()?;
    if operations.is_empty() {
        return Err(Error::new_spanned(&item.self_ty, "an entity has at least one operation: a method with `self`"));
    }
    let entity = &item.self_ty;
    let names = operations.iter().map(|(name, _)| name);
    let arms = operations.iter().map(|(name, perform)| quote! { #name => #perform });
    Ok(quote! {
        impl ::rehydrate::Entity for #entity {
            fn handle(
                ctx: ::rehydrate::EntityContext,
                operation: &str,
                input: &str,
            ) -> ::std::result::Result<::std::string::String, ::rehydrate::Failure> {
                match operation {
                    #(#arms,)*
                    other => ::std::result::Result::Err(
                        ::rehydrate::__private::no_such_operation(&ctx, other, &[#(#names),*]),
                    ),
                }
            }
        }

        // In a native build nothing but unit tests performs operations; they count as used all the same.
        #[cfg(not(target_family = "wasm"))]
        const _: fn(::rehydrate::EntityContext, &str, &str)
            -> ::std::result::Result<::std::string::String, ::rehydrate::Failure> =
            <#entity as ::rehydrate::Entity>::handle;

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "the exports of a component are unsafe functions")]
        const _: () = {
            struct Export;

            impl ::rehydrate::__private::entity::Guest for Export {
                fn handle(
                    operation: ::std::string::String,
                    input: ::std::string::String,
                ) -> ::std::result::Result<::std::string::String, ::rehydrate::__private::WireFailure> {
                    ::rehydrate::__private::handle::<#entity>(&operation, &input)
                }
            }

            ::rehydrate::__private::entity::export_entity!(Export with_types_in ::rehydrate::__private::entity);
        };
    })
}

/// An operation's name, and the expression that performs it; none for what is no method.
fn operation(item: &ImplItem) -> Option<Result<(LitStr, Tokens), Error>> {
    let ImplItem::Fn(method) = item else { return None };
    let receiver = method.sig.receiver()?;
    Some(check(method).and_then(|()| {
        let name = method.sig.ident.unraw();
        Ok((LitStr::new(&name.to_string(), name.span()), perform(method, receiver)?))
    }))
}

fn check(method: &ImplItemFn) -> Result<(), Error> {
    let signature = &method.sig;
    if let Some(asynchronous) = &signature.asyncness {
        return Err(Error::new_spanned(asynchronous, "an operation is not `async`: it has nothing to wait for"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, "must not be generic: the host calls it with JSON"));
    }
    Ok(())
}

fn perform(method: &ImplItemFn, receiver: &Receiver) -> Result<Tokens, Error> {
    let how = match (&receiver.reference, &receiver.mutability) {
        _ if receiver.colon_token.is_some() => {
            return Err(Error::new_spanned(receiver, "an operation takes `self`, `&self` or `&mut self`"));
        }
        (Some(_), Some(_)) => quote! { change },
        (Some(_), None) => quote! { read },
        (None, _) => quote! { consume },
    };
    let parameters: Vec<&FnArg> = method.sig.inputs.iter().skip(1).collect();
    let (binding, arguments) = match parameters.as_slice() {
        [] => (quote! { _: ::rehydrate::__private::IgnoredAny }, quote! {}),
        [only] if is_context(only) => (quote! { _: ::rehydrate::__private::IgnoredAny }, quote! { ctx }),
        [_] => (quote! { input }, quote! { input }),
        [first, _] if is_context(first) => (quote! { input }, quote! { ctx, input }),
        _ => {
            let message = "an operation takes, after `self`, an `EntityContext` and an input at most";
            return Err(Error::new(method.sig.inputs.span(), message));
        }
    };
    let ident = &method.sig.ident;
    Ok(quote! {
        ::rehydrate::__private::#how(ctx, input, |this, ctx, #binding| {
            let _ = &ctx;
            Self::#ident(this, #arguments)
        })
    })
}

/// Whether a parameter's type is named `EntityContext`.
fn is_context(parameter: &FnArg) -> bool {
    let FnArg::Typed(parameter) = parameter else { return false };
    let Type::Path(path) = parameter.ty.as_ref() else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "EntityContext")
}
