//! Components that set timers, wait for names and use groups.

use super::{configured, lines, steps, surroundings, within};
use frame_dispatch::Task;
use frame_dispatch::process::{HostConfig, ManagerConfig, SPAWN_KEY, SpawnHosts};
use frame_dispatch::wasm::{ProcessModule, WasmConfig};
use frame_registry::Options;

#[tokio::test]
async fn a_component_sends_itself_messages_later() {
    let host = HostConfig::default().with_timers(2);
    let all = configured(ManagerConfig::default(), host, ProcessModule::new);
    let said = all
        .run(steps(&[
            "S",
            "s\n1\n\"once\"",
            "r\n",
            "X\n%",
            "E\n1\n[2]",
            "r\n",
            "r\n",
            "X\n%",
            "X\n%",
            "r\n0",
            "E\n0\n1",
            "s\n60000\n1",
            "s\n60000\n2",
            "s\n1\n3",
            "X\nx",
            "s\n1\n{",
        ]))
        .await;
    assert_eq!(said[1], format!("{}#0x1", said[0]), "{said:?}");
    assert_eq!(said[2..4], ["t0 \"once\"", "0"], "{said:?}");
    assert!(said[5].starts_with('t') && said[5].ends_with(" [2]"), "{said:?}");
    assert_eq!(said[7..10], ["1", "0", "-"], "{said:?}");
    assert_eq!(said[10], "e0:the period of a timer must be greater than zero");
    assert!(said[13].starts_with("e6:") && said[13].contains("has reached its timer limit of 2"), "{said:?}");
    assert!(said[14].starts_with("e0:") && said[14].contains("is not the reference of a timer"), "{said:?}");
    assert!(said[15].starts_with("e0:the message is not JSON"), "{said:?}");
}

#[tokio::test]
async fn a_function_has_no_timers_and_joins_no_group() {
    let all = surroundings();
    let function = all.engine.function(&frame_guests::guest("steps"), WasmConfig::default()).unwrap();
    all.functions.register("app:steps".parse().unwrap(), Options::new(), function).unwrap();
    let task = Task::new("app:steps".parse().unwrap());
    let task =
        task.with_payload("s\n1\n1\nX\nx\nj\nnews\n\nG\nnews\n\nG\nnews\napp:host".as_bytes().to_vec());
    let said = lines(&within("a call", all.root.call(task)).await.unwrap());
    assert_eq!(said[0], "e0:`send-after` is for processes, and this is a function");
    assert_eq!(said[1], "e0:`cancel` is for processes, and this is a function");
    assert_eq!(said[2], "e0:`join` is for processes, and this is a function");
    assert!(said[3].starts_with("e0:no process has called this function"), "{said:?}");
    assert!(said[4].starts_with("e2:not allowed to use groups of `app:host`"), "{said:?}");
}

#[tokio::test]
async fn a_component_waits_for_a_name() {
    let all = surroundings();
    let pid = all.start(steps(&["W\ndb\n3600000", "W\nnone\n1", "W\n{\n1"]));
    let exit = all.processes.monitor(pid).unwrap();
    tokio::task::yield_now().await;
    let db = all.start(steps(&["r\n"]).with_name("db"));
    let said = lines(within("the exit", exit).await.result.as_deref().unwrap());
    assert_eq!(said[..2], [db.to_string(), "-".to_owned()]);
    assert!(said[2].starts_with("e0:") && said[2].contains("is not a valid name"), "{said:?}");
    all.processes.terminate(db).unwrap();
}

#[tokio::test]
async fn a_component_publishes_to_the_groups_that_it_may_use() {
    let all = configured(ManagerConfig::default(), HostConfig::default().with_mailbox(1), ProcessModule::new);
    all.processes.register_host("app:other".parse().unwrap(), HostConfig::default()).unwrap();
    let tries = steps(&[
        "j\nnews\n",
        "j\nnews\n",
        "G\nnews\n",
        "P\nnews\n\n\"rain\"",
        "P\nnews\n\n1",
        "r\n",
        "J\nnews\n",
        "J\nnews\n",
        "j\nnews\napp:other",
        "P\nnews\napp:other\n{",
    ]);
    let said = all.run(tries.clone()).await;
    assert_eq!(said[..5], ["1", "0", "1", "10", "01"], "{said:?}");
    assert!(said[5].starts_with("s{") && said[5].ends_with(" \"rain\""), "{said:?}");
    assert_eq!(said[6..8], ["1", "0"], "{said:?}");
    assert!(said[8].starts_with("e2:not allowed to use groups of `app:other`"), "{said:?}");
    let granted = ["app:other".parse().unwrap()].into_iter().collect::<SpawnHosts>();
    let said = all.run(tries.with_pair(SPAWN_KEY.pair(granted))).await;
    assert_eq!(said[8], "1", "{said:?}");
    assert!(said[9].starts_with("e0:the message is not JSON"), "{said:?}");
}

#[tokio::test]
async fn a_component_is_told_when_a_group_changes() {
    let all = surroundings();
    let said = all
        .run(steps(&[
            "v\nnews\n",
            "v\nnews\n",
            "j\nnews\n",
            "J\nnews\n",
            "r\n",
            "r\n0",
            "j\nnews\n",
            "V\nnews\n",
            "V\nnews\n",
            "r\n0",
        ]))
        .await;
    assert_eq!(said, ["1", "0", "1", "1", "vnews", "-", "1", "1", "0", "-"]);
}
