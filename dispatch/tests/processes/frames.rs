//! What is on the frame of a process, and where it comes from.

use frame_dispatch::interceptor::{TIMEOUT, Timeout};
use frame_dispatch::process::{
    HostConfig, PROCESS, ProcessContext, ProcessManager, RegisterError, Spawn, SpawnError,
};
use frame_dispatch::{CallContext, CallError, ErrorKind, FUNCTION, Host, PID, Payload, Pid, Task};
use frame_registry::{Key, Options};
use serde_json::{Value, json};

use crate::support::{LONG, TENANT_KEY, manager, register, start, tenant_option, within};

static SEEN: Key<u32> = Key::new("seen");

/// What is on its frame, as JSON.
async fn show(ctx: ProcessContext, _: Payload) -> Result<Payload, CallError> {
    let frame = ctx.frame();
    assert_eq!(ctx.ctx().frame().get(&PID), frame.get(&PID));
    Ok(Payload::from(json!({
        "tenant": frame.get(&TENANT_KEY),
        "seen": frame.get(&SEEN),
        "process": frame.get(&PROCESS).map(ToString::to_string),
        "function": frame.get(&FUNCTION).map(ToString::to_string),
        "pid": frame.get(&PID).map(ToString::to_string),
        "is_own": frame.get(&PID) == Some(&ctx.pid()),
        "parent": ctx.processes().info(ctx.pid()).unwrap().parent.map(|pid| pid.to_string()),
    })))
}

async fn shown(processes: &ProcessManager, ctx: &CallContext, start: Spawn) -> Value {
    let shown = within("exec", processes.exec(ctx, start)).await.unwrap();
    shown.as_json().unwrap().clone()
}

#[tokio::test]
async fn options_of_the_start_go_over_those_of_the_entry() {
    let (processes, root) = manager(HostConfig::default());
    processes.register("test:show".parse().unwrap(), tenant_option("entry"), show).unwrap();
    assert_eq!(shown(&processes, &root, start("test:show")).await["tenant"], "entry");
    let with_own = start("test:show").with_options(tenant_option("start"));
    assert_eq!(shown(&processes, &root, with_own).await["tenant"], "start");
    assert_eq!(shown(&processes, &root, start("test:show")).await["tenant"], "entry", "as it was");
}

#[tokio::test]
async fn a_frame_has_its_id_and_pid_then_the_pairs_then_what_is_resolved() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:show", show);
    let with_pairs = || {
        let start = start("test:show").with_pair(SEEN.pair(1)).with_pair(SEEN.pair(2));
        start.with_pair(TENANT_KEY.pair("pair".to_owned()))
    };
    let first = shown(&processes, &root, with_pairs()).await;
    assert_eq!((&first["process"], &first["function"]), (&json!("test:show"), &json!(null)));
    assert_eq!(
        (&first["seen"], &first["tenant"], &first["is_own"]),
        (&json!(2), &json!("pair"), &json!(true))
    );
    assert_eq!(first["parent"], json!(null));
    let second = shown(&processes, &root, with_pairs().with_options(tenant_option("option"))).await;
    assert_eq!(second["tenant"], "option", "a resolver wins over a pair");
    let given = Pid::next(Host::named("test"));
    let other = shown(&processes, &root, start("test:show").with_pair(PID.pair(given))).await;
    assert_eq!((&other["pid"], &other["is_own"]), (&json!(given.to_string()), &json!(false)));
}

#[tokio::test]
async fn a_frame_inherits_from_the_starter() {
    let (processes, root) = manager(HostConfig::default());
    register(&processes, "test:show", show);
    let from_root = shown(&processes, &root, start("test:show")).await;
    assert_eq!(from_root["tenant"], json!(null));

    let inside = processes.clone();
    let function = move |ctx: CallContext, _| {
        let processes = inside.clone();
        async move {
            let shown = processes.exec(&ctx, start("test:show")).await?;
            let pid = ctx.frame().get(&PID).unwrap().to_string();
            Ok::<Payload, CallError>(json!([pid, shown.as_json()]).into())
        }
    };
    processes.functions().register("test:starts".parse().unwrap(), Options::new(), function).unwrap();
    let task = Task::new("test:starts".parse().unwrap()).with_options(tenant_option("function's"));
    let from_function = within("a call", root.call(task.with_pair(SEEN.pair(1)))).await.unwrap();
    let from_function = from_function.as_json().unwrap();
    assert_eq!(from_function[1]["tenant"], "function's");
    assert_eq!(from_function[1]["seen"], json!(null), "only what is inherited");
    assert_eq!(from_function[1]["function"], json!(null), "it is no function");
    assert_eq!(from_function[1]["parent"], from_function[0]);

    register(&processes, "test:starts", async |ctx, _| {
        let shown = ctx.processes().exec(ctx.ctx(), start("test:show")).await?;
        Ok(json!([ctx.pid().to_string(), shown.as_json()]).into())
    });
    let with_tenant = start("test:starts").with_options(tenant_option("process's"));
    let from_process = shown(&processes, &root, with_tenant).await;
    assert_eq!(from_process[1]["tenant"], "process's");
    assert_eq!(from_process[1]["parent"], from_process[0]);
    assert_eq!(from_process[1]["process"], "test:show");
}

#[tokio::test]
async fn a_function_that_a_process_calls_inherits_from_the_process() {
    let (processes, root) = manager(HostConfig::default());
    let function = async |ctx: CallContext, _| {
        let frame = ctx.frame();
        let has_process = frame.get(&PROCESS).is_some();
        Ok::<Payload, CallError>(json!([frame.get(&TENANT_KEY), has_process]).into())
    };
    processes.functions().register("test:show".parse().unwrap(), Options::new(), function).unwrap();
    register(&processes, "test:calls", async |ctx, _| {
        ctx.ctx().call(Task::new("test:show".parse().unwrap())).await
    });
    let start = start("test:calls").with_options(tenant_option("process's"));
    assert_eq!(shown(&processes, &root, start).await, json!(["process's", false]));
}

#[tokio::test]
async fn options_of_calls_are_refused() {
    let (processes, root) = manager(HostConfig::default());
    let options = Options::new().with(&TIMEOUT, Timeout::new(LONG).unwrap());
    let error = processes.spawn(&root, start("test:done").with_options(options.clone())).unwrap_err();
    assert!(matches!(error, SpawnError::DispatcherOption { option: "timeout" }), "{error:?}");
    assert_eq!(error.to_string(), "option `timeout` applies only to function calls; remove it");
    assert_eq!(CallError::from(error).kind(), ErrorKind::Invalid);
    let refused = processes.register("test:retried".parse().unwrap(), options.clone(), show).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "option `timeout` of `test:retried` applies only to function calls; remove it"
    );
    let replaced = processes.replace("test:done".parse().unwrap(), options, show).unwrap_err();
    let id = "test:done".parse().unwrap();
    assert_eq!(replaced, RegisterError::DispatcherOption { id, option: "timeout" });
}
