//! What takes part in the start and the end of every process.

use std::sync::{Arc, Mutex};

use frame_dispatch::process::{
    Exit, HostConfig, Lifecycle, ProcessManager, ProcessRef, RegisterError, SpawnError,
};
use frame_dispatch::{CallError, ErrorKind, PID};
use frame_registry::BoxError;
use serde_json::json;

use crate::support::{Counts, TENANT_KEY, all_gone, exit_of, manager, register, start, tenant_option};

/// Refuses all.
pub(crate) struct Refuses;

impl Lifecycle for Refuses {
    fn name(&self) -> &'static str {
        "refuses"
    }

    fn order(&self) -> i32 {
        1000
    }

    fn starting(&self, _: &ProcessRef<'_>) -> Result<(), BoxError> {
        Err("not today".into())
    }

    fn ended(&self, _: &ProcessRef<'_>, _: Option<&Exit>) {}
}

type Log = Arc<Mutex<Vec<String>>>;

/// What a handler does where it says so.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Nothing,
    Refuses,
    PanicsAtStart,
    PanicsAtEnd,
}

/// Writes down what it is told.
struct Logs {
    name: &'static str,
    order: i32,
    does: Does,
    log: Log,
}

impl Lifecycle for Logs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn order(&self) -> i32 {
        self.order
    }

    fn starting(&self, process: &ProcessRef<'_>) -> Result<(), BoxError> {
        assert_eq!(process.frame().get(&PID), Some(&process.pid()));
        self.log.lock().unwrap().push(format!("+{}", self.name));
        match self.does {
            Does::Refuses => Err("not today".into()),
            Does::PanicsAtStart => panic!("not today"),
            _ => Ok(()),
        }
    }

    fn ended(&self, _: &ProcessRef<'_>, exit: Option<&Exit>) {
        let how = exit.map_or("never", |exit| exit.reason.as_str());
        self.log.lock().unwrap().push(format!("-{} {how}", self.name));
        assert!(self.does != Does::PanicsAtEnd, "not today");
    }
}

fn logs<const N: usize>(processes: &ProcessManager, handlers: [(&'static str, i32, Does); N]) -> Log {
    let log = Log::default();
    for (name, order, does) in handlers {
        processes.register_lifecycle(Logs { name, order, does, log: Arc::clone(&log) }).unwrap();
    }
    log
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[tokio::test]
async fn handlers_are_told_in_order_and_at_the_end_the_other_way_round() {
    let (processes, root) = manager(HostConfig::default());
    let nothing = Does::Nothing;
    let log =
        logs(&processes, [("c", 10, nothing), ("b", 20, nothing), ("a", 20, nothing), ("d", -1, nothing)]);
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    assert_eq!(taken(&log), ["+d", "+c", "+a", "+b"]);
    processes.send(&root, pid, json!("fail")).await.unwrap();
    exit_of(&processes, pid).await;
    assert_eq!(taken(&log), ["-b failed", "-a failed", "-c failed", "-d failed"], "before it is told");
}

#[tokio::test]
async fn where_a_handler_refuses_those_before_it_are_undone_in_reverse() {
    for (does, why) in [(Does::Refuses, "not today"), (Does::PanicsAtStart, "panicked: not today")] {
        let (processes, root) = manager(HostConfig::default().with_processes(1));
        let others = Does::Nothing;
        let log = logs(&processes, [("a", 1, others), ("b", 2, others), ("no", 3, does), ("d", 4, others)]);
        let error = processes.spawn(&root, start("test:done").with_name("name")).unwrap_err();
        assert!(matches!(&error, SpawnError::Refused { handler: "no", .. }), "{error:?}");
        assert_eq!(error.to_string(), "the lifecycle handler `no` refused it");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), why);
        assert_eq!(CallError::from(error).kind(), ErrorKind::Denied);
        assert_eq!(taken(&log), ["+a", "+b", "+no", "-b never", "-a never"]);
        assert_eq!((processes.len(), processes.whereis("name")), (0, None));

        assert!(processes.unregister_lifecycle("no"));
        assert!(!processes.unregister_lifecycle("no"));
        let pid = processes.spawn(&root, start("test:done").with_name("name")).unwrap();
        exit_of(&processes, pid).await;
        assert_eq!(taken(&log), ["+a", "+b", "+d", "-d normal", "-b normal", "-a normal"]);
    }
}

#[tokio::test]
async fn where_an_undo_panics_the_others_are_undone_and_the_end_is_told() {
    let (processes, root) = manager(HostConfig::default());
    let log = logs(
        &processes,
        [
            ("a", 1, Does::Nothing),
            ("b", 2, Does::PanicsAtEnd),
            ("c", 3, Does::PanicsAtEnd),
            ("d", 4, Does::Nothing),
        ],
    );
    let pid = processes.spawn(&root, start("test:obey")).unwrap();
    processes.terminate(pid).unwrap();
    assert_eq!(exit_of(&processes, pid).await.reason.as_str(), "killed");
    assert_eq!(taken(&log), ["+a", "+b", "+c", "+d", "-d killed", "-c killed", "-b killed", "-a killed"]);

    processes.register_lifecycle(Refuses).unwrap();
    let error = processes.spawn(&root, start("test:done")).unwrap_err();
    assert!(matches!(error, SpawnError::Refused { handler: "refuses", .. }), "{error:?}");
    assert_eq!(taken(&log), ["+a", "+b", "+c", "+d", "-d never", "-c never", "-b never", "-a never"]);
    assert!(processes.is_empty());
}

#[tokio::test]
async fn each_that_is_told_of_a_start_is_told_of_its_end() {
    let (processes, root) = manager(HostConfig::default().with_processes(5));
    let counts = Counts::default();
    processes.register_lifecycle(counts.clone()).unwrap();
    let mut pids = Vec::new();
    for message in ["done", "fail", "panic"] {
        pids.push(processes.spawn(&root, start("test:obey").with_message(json!(message))).unwrap());
    }
    for _ in 0..5 {
        let _ = processes.spawn(&root, start("test:forever").with_name("name"));
        let _ = processes.spawn(&root, start("test:done").with_options(tenant_option("nobody")));
    }
    pids.extend(processes.whereis("name"));
    processes.terminate(processes.whereis("name").unwrap()).unwrap();
    for pid in pids {
        exit_of(&processes, pid).await;
    }
    all_gone(&processes).await;
    assert_eq!(counts.get(), (4, 4), "one each that was let start");
}

/// What a handler is told of those that it let start does not end with its registration.
#[tokio::test]
async fn a_handler_that_is_removed_is_told_of_the_end_of_those_it_let_start() {
    let (processes, root) = manager(HostConfig::default());
    let counts = Counts::default();
    processes.register_lifecycle(counts.clone()).unwrap();
    let error = processes.register_lifecycle(counts.clone()).unwrap_err();
    assert_eq!(error, RegisterError::HandlerTaken { name: "counts" });
    let before = processes.spawn(&root, start("test:obey")).unwrap();
    assert!(processes.unregister_lifecycle("counts"));
    let behind = processes.spawn(&root, start("test:obey")).unwrap();
    for pid in [before, behind] {
        processes.terminate(pid).unwrap();
        exit_of(&processes, pid).await;
    }
    assert_eq!(counts.get(), (1, 1));
}

/// Looks at all that a handler can see.
struct Looks(Log);

impl Lifecycle for Looks {
    fn name(&self) -> &'static str {
        "looks"
    }

    fn order(&self) -> i32 {
        0
    }

    fn starting(&self, process: &ProcessRef<'_>) -> Result<(), BoxError> {
        let tenant = process.frame().get(&TENANT_KEY).cloned();
        let is_child = process.parent().is_some();
        let seen = format!("{} {} {tenant:?} {is_child}", process.entry(), process.host());
        self.0.lock().unwrap().push(seen);
        Ok(())
    }

    fn ended(&self, process: &ProcessRef<'_>, exit: Option<&Exit>) {
        assert_eq!(exit.unwrap().pid, process.pid());
    }
}

#[tokio::test]
async fn a_handler_sees_what_is_started_where_by_whom_and_with_which_frame() {
    let (processes, root) = manager(HostConfig::default());
    let log = Log::default();
    processes.register_lifecycle(Looks(Arc::clone(&log))).unwrap();
    register(&processes, "test:parent", async |ctx, _| {
        Ok(ctx.processes().exec(ctx.ctx(), start("test:done")).await?)
    });
    let start = start("test:parent").with_options(tenant_option("acme"));
    processes.exec(&root, start).await.unwrap();
    assert_eq!(
        taken(&log),
        ["test:parent test:host Some(\"acme\") false", "test:done test:host Some(\"acme\") true"]
    );
}
