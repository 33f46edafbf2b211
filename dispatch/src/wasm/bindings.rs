//! The worlds of `wit`, as wasmtime calls them: that of processes, which has that of functions in it.

wasmtime::component::bindgen!({
    world: "frame:function/process",
    path: "wit",
    imports: {
        "frame:function/functions.call": async | trappable,
        "frame:function/processes.receive": async | trappable,
        "frame:function/processes.receive-matching": async | trappable,
        "frame:function/processes.call": async | trappable,
        "frame:function/processes.send": async | trappable,
        "frame:function/processes.spawn-or-signal": async | trappable,
        "frame:function/processes.exec": async | trappable,
        "frame:function/supervisors.start-child": async | trappable,
        "frame:function/supervisors.stop-child": async | trappable,
        "frame:function/processes.lookup": async | trappable,
        "frame:function/groups.publish": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: { "frame:function/processes.reply-to": crate::process::ReplyTo },
    require_store_data_send: true,
});
