//! What components do with other processes, and what they may.

use std::time::Duration;

use frame_dispatch::process::{
    ExitReason, HostConfig, ManagerConfig, Message, ProcessContext, SPAWN_KEY, SpawnHosts,
};
use frame_dispatch::wasm::ProcessModule;
use frame_dispatch::{CallError, ErrorKind, Payload, Pid};
use frame_registry::Options;
use serde_json::json;
use tokio::time::Instant;

use super::{configured, starts, steps, surroundings, until_named, within};

#[tokio::test]
async fn a_component_starts_another_and_is_told_of_its_exit() {
    let all = surroundings();
    let said = all
        .run(steps(&[
            &starts("S", "", true, false),
            "r\n",
            &starts("!", "", true, false),
            "r\n",
            &starts("r|", "", true, false),
            "K\n$",
            "r\n",
            &starts("r|", "", false, false),
            "m\n$",
            "m\n$",
            "k\n$\nenough\n0",
            "r\n",
            "r\n",
            "m\n$",
            "d\n%",
            "m\n$",
            "r\n",
        ]))
        .await;
    // The result of the first ends a line of its own.
    assert_eq!(said[1], format!("x0 {}", said[0]), "{said:?}");
    assert!(said[4].starts_with("x1 it failed: "), "{said:?}");
    assert!(said[4].contains("`unreachable`"), "{said:?}");
    assert_eq!((&*said[6], &*said[7]), (".", "x4 it was terminated"));
    let is_reference = |text: &str| text.starts_with(&format!("{}#0x", said[8]));
    assert!(is_reference(&said[9]) && is_reference(&said[10]) && said[9] != said[10], "{said:?}");
    assert_eq!(said[11..14], [".", "x4 it was terminated", "x4 it was terminated"], "each delivers it");
    assert!(is_reference(&said[14]) && is_reference(&said[16]), "{said:?}");
    assert_eq!((&*said[15], &*said[17]), ("1", "x4 it was terminated"), "it is remembered");
}

#[tokio::test]
async fn a_component_executes_another_and_has_its_result_or_its_failure() {
    let all = surroundings();
    let execute = |script: &str, host: &str| format!("x\n{host}\napp:steps\n{script}\n\n\n0\n0");
    let said = all
        .run(steps(&[
            &execute("r|0", "app:host"),
            &execute("!", "app:host"),
            &execute("r|0", "app:nowhere"),
            &execute("r|0", "nowhere"),
        ]))
        .await;
    // What the other gives ends a line of its own.
    assert_eq!((&*said[0], &*said[1]), ("-", ""));
    assert!(
        said[2].starts_with("e7:{local@app:host|") && said[2].contains("ended without a result: it failed"),
        "{said:?}"
    );
    assert_eq!(said[3], "e1:the process was not spawned: unknown host `app:nowhere`; register it");
    assert!(said[4].starts_with("e0:host id \"nowhere\" has no namespace"), "{said:?}");
}

#[tokio::test]
async fn a_component_starts_others_on_its_own_host_and_on_those_that_it_is_granted() {
    let all = surroundings();
    all.processes.register_host("app:other".parse().unwrap(), HostConfig::default()).unwrap();
    let on = |way: &str, host: &str| format!("{way}\n{host}\napp:steps\nr|0\n\n\n0\n0");
    let tries = [on("x", "app:host"), on("x", "app:other"), on("b", "app:other"), on("o", "app:other")];
    let tries: Vec<_> = tries.iter().map(String::as_str).collect();
    let said = all.run(steps(&tries)).await;
    let denied = "e2:not allowed to spawn processes on `app:other`; grant it by the option `spawn`";
    assert_eq!((&*said[0], &said[2..]), ("-", &[denied; 3].map(str::to_owned)[..]));
    let other = SPAWN_KEY.pair(["app:other".parse().unwrap()].into_iter().collect::<SpawnHosts>());
    let said = all.run(steps(&tries).with_pair(other)).await;
    assert!(said.iter().all(|said| !said.starts_with('e')), "{said:?}");
    within("a test for the end of all", all.processes.stop(Duration::ZERO)).await;
}

#[tokio::test]
async fn a_message_goes_to_the_holder_of_a_name_or_starts_it() {
    let all = surroundings();
    let signal = |text: &str| format!("o\napp:host\napp:steps\nr||r||p|main|0\nworker\n{text}\n0\n0");
    let said = all.run(steps(&["n\nmain", &signal("1"), &signal("2"), "r\n"])).await;
    assert_eq!((&said[1][..1], &said[2][..1]), ("0", "1"), "{said:?}");
    assert_eq!(said[1][1..], said[2][1..], "{said:?}");
    assert_eq!(said[3], format!("s{} 0", &said[1][1..]));
}

#[tokio::test]
async fn linked_components_end_together_unless_one_traps_that() {
    let all = surroundings();
    let pid = all.start(steps(&[&starts("r||!", "child", false, true), "r\n"]));
    let exit = all.processes.monitor(pid).unwrap();
    let child = until_named(&all, "child").await;
    all.processes.send(&all.root, child, serde_json::json!(1)).await.unwrap();
    let exit = within("a test for one that is linked", exit).await;
    let ExitReason::LinkDown(down) = &exit.reason else { panic!("{exit:?}") };
    assert_eq!(down.origin, child);

    let said = all
        .run(steps(&[
            "T\n1",
            &starts("!", "", false, true),
            "r\n",
            &starts("r|", "", false, false),
            "l\n$",
            "l\n$",
            "K\n$",
            "r\n",
            &starts("r|", "", true, true),
            "u\n$",
            "K\n$",
            "r\n",
            "r\n0",
        ]))
        .await;
    assert!(said[2].starts_with("l1 it failed: "), "{said:?}");
    assert_eq!(said[4..8], [".", ".", ".", "l4 it was terminated"]);
    assert_eq!(said[9..], [".", ".", "x4 it was terminated", "-"]);
}

#[tokio::test]
async fn what_is_monitored_no_more_is_not_told() {
    let all = surroundings();
    let said = all.run(steps(&[&starts("r|", "", true, false), "d\n$", "d\n$", "K\n$", "r\n20"])).await;
    assert_eq!(said[1..], ["1", "0", ".", "-"]);
}

/// On a clock that stands still as long as there is something to do.
#[tokio::test(start_paused = true)]
async fn whoever_is_cancelled_has_five_seconds_unless_it_is_said_and_a_long_reason_is_cut() {
    let all = surroundings();
    all.processes
        .register(
            "app:asked".parse().unwrap(),
            Options::new(),
            async |mut ctx: ProcessContext, _: Payload| {
                let Message::Cancelled { reason, deadline } = ctx.receive().await else {
                    panic!("it was not")
                };
                let grace = deadline.unwrap() - Instant::now();
                Ok::<_, CallError>(json!([reason.len(), grace.as_secs_f64()]).into())
            },
        )
        .unwrap();
    let asked = "b\napp:host\napp:asked\n\n\n\n1\n0";
    let long = format!("k\n$\n{}\n", "x".repeat(5000));
    let said = all.run(steps(&[asked, &long, "r\n", asked, "k\n$\nenough\n60000", "r\n"])).await;
    assert_eq!(said[2], format!("x0 [{},5.0]", 4096 + '…'.len_utf8()), "{said:?}");
    assert_eq!(said[5], "x0 [6,60.0]", "{said:?}");
}

/// What a component tries with a process, by the PID or the name of it.
fn tries(process: &str) -> Vec<String> {
    let mut tries: Vec<_> = ["m", "l", "u", "K"].iter().map(|step| format!("{step}\n{process}")).collect();
    tries.push(format!("k\n{process}\nenough\n0"));
    tries
}

#[tokio::test]
async fn a_component_may_only_send_to_processes_that_it_did_not_start() {
    let all = surroundings();
    let other = all.start(steps(&["r\n", "r\n"]).with_name("other"));
    for process in [other.to_string(), "other".to_owned()] {
        let mut script = tries(&process);
        script.push("N\nother".to_owned());
        let script: Vec<_> = script.iter().map(String::as_str).collect();
        let said = all.run(steps(&script)).await;
        for (said, to_do) in said.iter().zip([
            "monitor",
            "link to",
            "end a link to",
            "terminate",
            "cancel",
            "unregister a name of",
        ]) {
            let expected = format!("e2:only {other} itself and the unit that spawned it may {to_do} it");
            assert_eq!(said, &expected);
        }
        assert_eq!(all.run(steps(&[&format!("p\n{process}\n1")])).await, ["."]);
    }
    let exit = all.exit(other).await;
    assert!(exit.reason.is_normal(), "{exit:?}");
}

#[tokio::test]
async fn a_component_may_do_to_itself_and_to_its_own_what_it_may_not_to_others() {
    let all = surroundings();
    let said = all
        .run(steps(&[
            "n\nme",
            "n\nme too",
            "N\nme too",
            "N\nme",
            "N\nme",
            &starts("r|", "child", false, false),
            "N\nchild",
            "K\n$",
        ]))
        .await;
    assert_eq!(said[..5], [".", ".", "1", "1", "0"]);
    assert_eq!(said[6..], ["1", "."]);
    let pid = all.start(steps(&["n\nme", "K\nme", "z"]));
    assert!(matches!(all.exit(pid).await.reason, ExitReason::Killed));
    // What its child starts is not its own.
    let child = starts("b|app:host|app:steps|r|grandchild||0|0|r|", "child", false, false);
    let parent = all.start(steps(&[&child, "r\n", "K\ngrandchild"]));
    let exit = all.processes.monitor(parent).unwrap();
    until_named(&all, "grandchild").await;
    all.processes.send(&all.root, parent, serde_json::json!(1)).await.unwrap();
    let exit = within("a test for a parent", exit).await;
    let said = super::lines(exit.result.as_deref().unwrap());
    assert!(said[2].starts_with("e2:only {") && said[2].ends_with("may terminate it"), "{said:?}");
    within("a test for the end of all", all.processes.stop(Duration::ZERO)).await;
}

#[tokio::test]
async fn a_component_that_is_trusted_may_do_so_to_all() {
    let trusted = |processes: &_| ProcessModule::new(processes).trusted();
    let all = configured(ManagerConfig::default(), HostConfig::default(), trusted);
    let other = all.start(steps(&["r\n"]).with_name("other"));
    let said = all
        .run(steps(&[
            "m\nother",
            "N\nother",
            &format!("l\n{other}"),
            &format!("u\n{other}"),
            &format!("K\n{other}"),
            "r\n",
        ]))
        .await;
    assert!(said[0].starts_with(&format!("{other}#0x")), "{said:?}");
    assert_eq!(said[1..], ["1", ".", ".", ".", "x4 it was terminated"]);
}

#[tokio::test]
async fn what_a_host_refuses_is_an_error_that_says_why() {
    let all =
        configured(ManagerConfig::default(), HostConfig::default().with_processes(1), ProcessModule::new);
    let said = all.run(steps(&[&starts("", "", false, false), &starts("", "{no name", false, false)])).await;
    assert_eq!(said[0], "e6:the process was not spawned: host `app:host` has reached its process limit of 1");
    assert!(
        said[1].starts_with("e0:the process was not spawned: \"{no name\" is not a valid name"),
        "{said:?}"
    );
    let error = all.processes.monitor("{local@app:host|0xfffffff}".parse::<Pid>().unwrap()).unwrap_err();
    assert_eq!(frame_dispatch::CallError::from(error).kind(), ErrorKind::NotFound);
}
