//! The world of `wit/function.wit`, as wasmtime calls it.

wasmtime::component::bindgen!({
    world: "frame:function/function",
    path: "wit",
    imports: {
        "frame:function/functions.call": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    require_store_data_send: true,
});
