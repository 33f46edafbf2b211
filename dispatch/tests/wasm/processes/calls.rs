//! Calls, and receiving certain messages.

use std::time::Duration;

use frame_dispatch::process::{HostConfig, ManagerConfig, ProcessCallError};
use frame_dispatch::wasm::ProcessModule;
use serde_json::json;

use super::{configured, lines, starts, steps, surroundings, within};

const LONG: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_component_replies_to_a_call_once_and_sees_whether_it_is_awaited() {
    let all = surroundings();
    let pid = all.start(steps(&["r\n", "A", "R\n\"well\"", "r\n", "r\n", "R\n2"]));
    let exit = all.processes.monitor(pid).unwrap();
    let reply = within("a call", all.processes.call(&all.root, pid, json!(1))).await.unwrap();
    assert_eq!(reply, json!("well").into());
    let late = all.processes.call_timeout(&all.root, pid, json!(2), Duration::from_millis(1)).await;
    assert!(matches!(late, Err(ProcessCallError::Deadline { .. })), "{late:?}");
    all.processes.send(&all.root, pid, json!(3)).await.unwrap();
    let said = lines(within("the exit", exit).await.result.as_deref().unwrap());
    assert_eq!(said[..5], ["q- 1", "1", "1", "q- 2", "s- 3"], "{said:?}");
    assert_eq!(said[5], "0", "it is late");
}

#[tokio::test]
async fn a_component_calls_another_and_each_failure_has_its_kind() {
    let config = ManagerConfig::default().with_max_wait(Duration::from_millis(5));
    let all = configured(config, HostConfig::default().with_mailbox(1), ProcessModule::new);
    let replies = starts("r||R|{\"a\":1}|r||D|r||!", "other", false, false);
    let full = all.start(steps(&["n\nfull", "z"]));
    super::until_named(&all, "full").await;
    all.processes.send(&all.root, full, json!(1)).await.unwrap();
    let said = all
        .run(steps(&[
            "n\nown",
            &replies,
            "C\nother\n1\n",
            "C\nother\n2\n3600000",
            "C\nother\n3\n3600000",
            "C\nnobody\n1\n",
            "C\nown\n1\n",
            "C\nfull\n1\n",
        ]))
        .await;
    assert_eq!(said[2], r#"{"a":1}"#, "{said:?}");
    assert!(
        said[3].starts_with("e5:") && said[3].ends_with("dropped the request without a reply"),
        "{said:?}"
    );
    assert!(said[4].starts_with("e5:") && said[4].contains("ended before it replied: it failed"), "{said:?}");
    assert!(said[5].starts_with("e1:"), "{said:?}");
    assert!(said[6].starts_with("e0:") && said[6].contains("is the caller"), "{said:?}");
    assert!(said[7].starts_with("e6:") && said[7].contains("full"), "{said:?}");
    all.processes.terminate(full).unwrap();
}

#[tokio::test]
async fn a_component_that_ends_with_a_call_in_its_hands_ends_the_call() {
    let all = surroundings();
    let pid = all.start(steps(&["r\n"]));
    let error =
        within("a call", all.processes.call_timeout(&all.root, pid, json!(1), LONG)).await.unwrap_err();
    let is_told = matches!(error, ProcessCallError::Ended { .. } | ProcessCallError::NoReply { .. });
    assert!(is_told, "{error}");
}

#[tokio::test]
async fn a_component_receives_what_matches_and_leaves_the_rest_in_order() {
    let all = surroundings();
    let pid = all.start(
        steps(&["M\n\n{\"tag\":\"b\"}\n", "M\n\n[2]\n", "M\n\n7\n0", "r\n", "M\n\n{\n", "r\n0"])
            .with_message(json!({ "tag": "a" }))
            .with_message(json!([2, 3]))
            .with_message(json!({ "tag": "b", "more": true })),
    );
    let said = lines(all.exit(pid).await.result.as_deref().unwrap());
    assert_eq!(
        said[..4],
        [r#"s- {"more":true,"tag":"b"}"#, "s- [2,3]", "-", r#"s- {"tag":"a"}"#],
        "{said:?}"
    );
    assert!(said[4].starts_with("e0:the pattern is not JSON"), "{said:?}");
    assert_eq!(said[5], "-");
}

/// Where replies go is memory of the program.
#[tokio::test]
async fn a_component_holds_no_more_calls_than_it_may() {
    let all = surroundings();
    let receives = "r\n\n".repeat(1101);
    let pid = all.start(steps(&[receives.trim_end()]));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1100 {
        let (processes, root) = (all.processes.clone(), all.root.clone());
        calls.spawn(async move { processes.call_timeout(&root, pid, json!(1), LONG).await });
    }
    for count in 0..1100 {
        if count == 76 {
            all.processes.terminate(pid).unwrap();
        }
        let error = within("the end of a call", calls.join_next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(matches!(error, ProcessCallError::NoReply { .. }), count < 76, "{count}: {error}");
        assert_eq!(matches!(error, ProcessCallError::Ended { .. }), count >= 76, "{count}: {error}");
    }
}
