//! Components that own the processes which they start.

use frame_dispatch::process::ExitReason;

use super::{steps, surroundings, until_named, within};

/// Starts a process that traps links, as the owner of it.
const OWNS: &str = "b\napp:host\napp:steps\nT|1|n|child|r|\n\n\n0\n2";

#[tokio::test]
async fn what_a_component_owns_ends_with_it_however_it_ends() {
    for (ends, reason) in [("S", "normal"), ("!", "failed"), ("z", "killed")] {
        let all = surroundings();
        let owner = all.start(steps(&[OWNS, "r\n", ends]));
        let child = until_named(&all, "child").await;
        let (exit, of_child) = (all.processes.monitor(owner).unwrap(), all.processes.monitor(child).unwrap());
        all.processes.send(&all.root, owner, serde_json::json!(1)).await.unwrap();
        if ends == "z" {
            all.processes.terminate(owner).unwrap();
        }
        assert_eq!(within("a test for an owner", exit).await.reason.as_str(), reason);
        assert!(all.processes.is_empty(), "its exit is told after that:\n{}", all.processes.processes());
        let exit = within("a test for what is owned", of_child).await;
        let ExitReason::LinkDown(down) = &exit.reason else { panic!("{exit:?}") };
        assert_eq!((down.origin, down.reason.as_str()), (owner, reason));
    }
}

#[tokio::test]
async fn a_function_owns_nothing() {
    let all = surroundings();
    let function =
        all.engine.function(&frame_guests::guest("steps"), frame_dispatch::wasm::WasmConfig::default());
    all.functions
        .register("app:f".parse().unwrap(), frame_registry::Options::new(), function.unwrap())
        .unwrap();
    let task = frame_dispatch::Task::new("app:f".parse().unwrap()).with_payload(OWNS.as_bytes().to_vec());
    let said = within("a test for a function", all.root.call(task)).await.unwrap();
    assert_eq!(super::lines(&said), ["e0:`owned` is for processes, and this is a function"]);
}
