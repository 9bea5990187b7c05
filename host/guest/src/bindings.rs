//! Host bindings generated from `wit/`.
#![allow(missing_docs, reason = "generated from the WIT, which has its own docs")]

pub mod workflow {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "rehydrate:workflow/workflow",
        imports: {
            "rehydrate:workflow/operations.[method]pending.wait": async | trappable,
            "rehydrate:workflow/operations.wait-any": async | trappable,
            "rehydrate:workflow/operations.wait-all": async | trappable,
            "rehydrate:workflow/timers.sleep": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "rehydrate:workflow/operations.pending": crate::contract::Pending,
            "rehydrate:workflow/callbacks.callback": crate::contract::Callback,
            "rehydrate:workflow/entities.lock": crate::contract::Lock,
        },
    });
}

pub mod activity {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "rehydrate:workflow/activity",
        imports: { default: trappable },
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "rehydrate:workflow/types": super::workflow::rehydrate::workflow::types,
        },
    });
}

pub mod entity {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "rehydrate:workflow/entity",
        imports: { default: trappable },
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "rehydrate:workflow/types": super::workflow::rehydrate::workflow::types,
        },
    });
}
