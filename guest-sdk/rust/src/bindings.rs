//! What wit-bindgen makes of the contract in `wit/`. Nothing is written by hand here, and nothing outside
//! the SDK should name these modules: guests see them only through the macros.
#![allow(missing_docs, reason = "generated")]
#![allow(unsafe_code, reason = "generated: the calling convention of components")]
#![allow(rust_2018_idioms, clippy::all, reason = "generated")]

/// World `workflow`.
pub mod workflow {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "workflow",
        pub_export_macro: true,
        export_macro_name: "export_workflow",
        default_bindings_module: "rehydrate::__private::workflow",
        runtime_path: "::rehydrate::__private::wit_bindgen::rt",
        generate_all,
    });
}

/// World `activity`; the types it shares with world `workflow` are the same Rust types.
pub mod activity {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "activity",
        pub_export_macro: true,
        export_macro_name: "export_activity",
        default_bindings_module: "rehydrate::__private::activity",
        runtime_path: "::rehydrate::__private::wit_bindgen::rt",
        with: {
            "rehydrate:workflow/types@0.1.0": crate::bindings::workflow::rehydrate::workflow::types,
        },
        generate_all,
    });
}

/// World `entity`; the types it shares with world `workflow` are the same Rust types.
pub mod entity {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "entity",
        pub_export_macro: true,
        export_macro_name: "export_entity",
        default_bindings_module: "rehydrate::__private::entity",
        runtime_path: "::rehydrate::__private::wit_bindgen::rt",
        with: {
            "rehydrate:workflow/types@0.1.0": crate::bindings::workflow::rehydrate::workflow::types,
        },
        generate_all,
    });
}
