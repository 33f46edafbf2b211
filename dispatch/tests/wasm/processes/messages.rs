//! Sending and receiving.

use std::time::Duration;

use frame_dispatch::process::{HostConfig, ManagerConfig, Message, ProcessContext, SPAWN_KEY, SpawnHosts};
use frame_dispatch::wasm::{ProcessModule, WasmConfig};
use frame_dispatch::{CallError, Payload, Task};
use frame_registry::Options;
use serde_json::json;

use super::{configured, lines, start, starts, steps, surroundings, within};
use crate::common::{TENANT, id};

#[tokio::test]
async fn a_component_receives_in_order_what_it_is_sent_and_from_whom() {
    let all = surroundings();
    let pid = all.start(steps(&["S", "r\n", "r\n", "r\n", "r\n0"]));
    let exit = all.processes.monitor(pid).unwrap();
    all.processes.send(&all.root, pid, json!({ "a": 1 })).await.unwrap();
    all.processes.send(&all.root, pid, vec![0x61, 0x62]).await.unwrap();
    let sender = all.start(steps(&[&format!("p\n{pid}\n3")]));
    let exit = within("a test for a process that receives", exit).await;
    let said = lines(exit.result.as_deref().unwrap());
    let sent = [pid.to_string(), "s- {\"a\":1}".into(), "s- ab".into(), format!("s{sender} 3"), "-".into()];
    assert_eq!(said, sent);
}

#[tokio::test]
async fn receiving_waits_no_longer_than_it_says_and_with_zero_not_at_all() {
    let all = surroundings();
    assert_eq!(all.run(steps(&["r\n0", "r\n5", "r\n0"])).await, ["-", "-", "-"]);
    let begun = steps(&["r\n0", "r\n60000", "r\n0"]).with_message(json!(1)).with_message(json!(2));
    assert_eq!(all.run(begun).await, ["s- 1", "s- 2", "-"]);
}

#[tokio::test]
async fn two_components_talk_and_one_is_known_by_its_name() {
    let all = surroundings();
    let other = starts(r#"r||p|main|"pong""#, "", false, false);
    let said = all.run(steps(&["n\nmain", &other, "p\n$\n\"ping\"", "r\n", "w\nmain", "w\nnobody"])).await;
    assert_eq!((said[0].as_str(), said[2].as_str()), (".", "."), "{said:?}");
    assert_eq!(said[3], format!("s{} \"pong\"", said[1]));
    assert_eq!((said[4].starts_with("{local@app:host|"), said[5].as_str()), (true, "-"), "{said:?}");
}

#[tokio::test]
async fn what_cannot_be_sent_says_why() {
    let all = surroundings();
    let host = all.start(steps(&[]));
    all.exit(host).await;
    let host = host.to_string();
    let said = all
        .run(steps(&[
            "p\nnobody\n1",
            &format!("p\n{host}\n1"),
            "t\n{nonsense\n1",
            "t\n{local@no:host|0x00001}\n1",
            "p\nnobody\n{",
            &format!("p\n{}\n1", "a".repeat(600)),
        ]))
        .await;
    assert_eq!(said[0], "e1:the message to \"nobody\" was not delivered: unknown process");
    assert_eq!(said[1], format!("e1:the message to {host} was not delivered: the process has ended"));
    assert!(said[2].starts_with("e0:\"{nonsense\" is no PID"), "{said:?}");
    assert!(said[3].starts_with("e1:nothing has the PID"), "{said:?}");
    assert!(said[4].starts_with("e0:the message is not JSON"), "{said:?}");
    assert_eq!(said[5], "e0:600 bytes are too long for a PID, a name or an id");
}

/// Both wait for room at the other, which neither makes.
#[tokio::test]
async fn mailboxes_that_are_full_on_both_sides_hold_nobody_for_ever() {
    let manager = ManagerConfig::default().with_max_wait(Duration::from_millis(50));
    let all = configured(manager, HostConfig::default().with_mailbox(1), ProcessModule::new);
    let fills =
        |to: &str| steps(&["r\n", &format!("t\n{to}\n1"), &format!("t\n{to}\n2"), &format!("p\n{to}\n3")]);
    let one = all.start(fills("other").with_name("one"));
    let other = all.start(fills("one").with_name("other"));
    let exits = [one, other].map(|pid| all.processes.monitor(pid).unwrap());
    for pid in [one, other] {
        all.processes.send(&all.root, pid, json!("go")).await.unwrap();
    }
    let mut refused = 0;
    for exit in exits {
        let exit = within("a test for one that fills a mailbox", exit).await;
        let said = lines(exit.result.as_deref().unwrap());
        assert_eq!(said[0], "s- \"go\"");
        refused += said[1..].iter().filter(|said| said.starts_with("e6:")).count();
    }
    // The second of them finds room where the first has just ended, or finds it gone.
    assert!(refused >= 2, "{refused}");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_an_error_that_the_component_goes_on_from() {
    let all = surroundings();
    all.register("app:small", &frame_guests::guest("steps"), WasmConfig::process().with_payload(1000));
    let script = b"r\n\nr\n\nr\n\n".to_vec();
    let large = start("app:small", script)
        .with_message(vec![0x61; 1001])
        .with_message(json!("a".repeat(999)))
        .with_message(json!("a"));
    let refused = "e6:a message was larger than the 1000 bytes that this component is handed at once";
    assert_eq!(all.run(large).await, [refused, refused, "s- \"a\""]);

    // What fits exactly, both ways.
    all.register("app:second", &frame_guests::guest("second"), WasmConfig::process().with_payload(1000));
    for fits in [Payload::from(vec![0x61; 1000]), Payload::from(json!("a".repeat(998)))] {
        let start = start("app:second", Payload::default()).with_message(vec![0x61; 1001]);
        let exec = all.processes.exec(&all.root, start.with_message(fits.clone()));
        assert_eq!(within("a test for the second message", exec).await.unwrap(), fits);
    }
}

#[tokio::test]
async fn what_a_component_sends_is_limited_as_what_it_calls_with() {
    let all = surroundings();
    all.processes
        .register("app:sink".parse().unwrap(), Options::new(), async |mut ctx: ProcessContext, _: Payload| {
            ctx.receive().await;
            Ok::<_, CallError>(Payload::default())
        })
        .unwrap();
    all.start(start("app:sink", Payload::default()).with_name("sink"));
    let config = WasmConfig::process().with_json_memory(3000);
    all.register("app:small", &frame_guests::guest("steps"), config);
    let objects = format!("[{}0]", "{\"\":0},".repeat(50));
    let script = format!("p\nsink\n{objects}\nt\nsink\n{objects}\np\nsink\n1");
    let said = all.run(start("app:small", script.into_bytes())).await;
    let refused = "e6:the message is JSON that takes more than 3000 bytes of memory once it is read";
    assert_eq!(said, [refused, refused, "."]);

    // So is what it starts another with.
    let message = format!("[{}0]", "{\"\":0},".repeat(2));
    let script =
        format!("b\napp:host\napp:sink\n\n\n{message}\n0\n0\nb\napp:host\napp:sink\n\n\n{objects}\n0\n0");
    let said = all.run(start("app:small", script.into_bytes())).await;
    assert!(said[0].starts_with('{'), "{said:?}");
    assert_eq!(
        said[1],
        "e6:a message for a process of `app:sink` is JSON that takes more than 3000 bytes of memory once it is read"
    );
}

#[tokio::test]
async fn more_than_a_component_may_hand_over_at_once_fails_it() {
    let all = surroundings();
    all.register("app:small", &frame_guests::guest("steps"), WasmConfig::process().with_payload(1000));
    let pid = all.start(start("app:small", format!("p\nsink\n\"{}\"", "a".repeat(1000)).into_bytes()));
    let exit = all.exit(pid).await;
    assert!(exit.reason.to_string().contains("it handed over more than the 1000 bytes"), "{exit:?}");
    // It is what it hands over at once that counts, however long it lives.
    let script = [format!("t\nsink\n\"{}\"", "a".repeat(400)).as_str(); 8].join("\n");
    let said = all.run(start("app:small", script.into_bytes())).await;
    assert_eq!(said.len(), 8);
    assert!(said.iter().all(|said| said.starts_with("e1:")), "{said:?}");
}

#[tokio::test]
async fn a_component_as_a_function_does_all_but_what_needs_a_mailbox() {
    let all = surroundings();
    let function = all.engine.function(&frame_guests::guest("steps"), WasmConfig::default()).unwrap();
    all.functions.register(id("app:function"), Options::new(), function).unwrap();
    let child = starts("r||r|", "child", false, false);
    let script = [
        "S",
        "r\n",
        "c",
        "m\nchild",
        "d\nchild",
        "l\nchild",
        "u\nchild",
        "T\n1",
        "n\nname",
        &starts("", "", true, false),
        &starts("", "", false, true),
        &child,
        "w\nchild",
        "p\nchild\n1",
        "N\nchild",
        "w\nchild",
        "x\napp:host\napp:steps\nS\n\n\n0\n0",
    ]
    .join("\n");
    let host = SPAWN_KEY.pair(["app:host".parse().unwrap()].into_iter().collect::<SpawnHosts>());
    let task = Task::new(id("app:function")).with_payload(script.into_bytes()).with_pair(host);
    let said = lines(&within("a test for a function", all.root.call(task)).await.unwrap());
    assert_eq!(said[0], "-");
    for (said, what) in said[1..9].iter().zip([
        "receive",
        "cancelled",
        "monitor",
        "demonitor",
        "link",
        "unlink",
        "trap-links",
        "register",
    ]) {
        let expected = format!("e0:`{what}` is for processes, and this is a function");
        assert_eq!(said, &expected);
    }
    for (said, what) in said[9..11].iter().zip(["monitor", "link"]) {
        assert_eq!(said, &format!("e0:`{what}` is for processes, and this is a function"));
    }
    assert!(said[11].starts_with("{local@app:host|"), "{said:?}");
    assert_eq!(said[11], said[12]);
    assert_eq!(said[13..16], [".", "1", "-"]);
    assert!(said[16].starts_with("{local@app:host|"), "{said:?}");
}

#[tokio::test]
async fn a_function_that_a_process_calls_is_not_that_process() {
    let all = surroundings();
    let function = all.engine.function(&frame_guests::guest("steps"), WasmConfig::default()).unwrap();
    all.functions.register(id("app:function"), Options::new(), function).unwrap();
    all.processes
        .register("app:caller".parse().unwrap(), Options::new(), async |ctx: ProcessContext, _: Payload| {
            ctx.ctx().call(Task::new(id("app:function")).with_payload(b"S\nr\n0".to_vec())).await
        })
        .unwrap();
    let said = all.run(start("app:caller", Payload::default()).with_message(json!(1))).await;
    assert_eq!(said, ["-", "e0:`receive` is for processes, and this is a function"]);
}

#[tokio::test]
async fn a_process_sees_what_its_options_put_on_its_frame() {
    let all = surroundings();
    all.register("app:frame", &frame_guests::guest("frame"), WasmConfig::process());
    let options = || Options::new().with(&TENANT, "acme".to_owned());
    let run = |key: &str| {
        let start = start("app:frame", key.as_bytes().to_vec()).with_options(options());
        within("a test for a frame", all.processes.exec(&all.root, start))
    };
    assert_eq!(run("tenant").await.unwrap(), json!("acme").into());
    assert_eq!(run("process").await.unwrap(), json!("app:frame").into());
    assert_eq!(run("function").await.unwrap(), vec![].into());
    let pid = run("pid").await.unwrap();
    assert!(pid.as_json().unwrap().as_str().unwrap().starts_with("{local@app:host|"), "{pid:?}");
}

#[tokio::test]
async fn messages_that_wait_are_seen_where_it_is_cancelled() {
    let all = surroundings();
    let pid = all.start(steps(&["r\n", "r\n", "c"]).with_message(json!(1)));
    let exit = all.processes.monitor(pid).unwrap();
    all.processes.cancel(pid, "enough", Duration::from_hours(1)).unwrap();
    let said = lines(within("a test for the exit", exit).await.result.as_deref().unwrap());
    assert_eq!(said, ["s- 1", "cenough", "enough"]);
}

/// A native process says what it gets.
#[tokio::test]
async fn a_native_process_hears_of_a_component() {
    let all = surroundings();
    all.processes
        .register(
            "app:native".parse().unwrap(),
            Options::new(),
            async |mut ctx: ProcessContext, _: Payload| {
                let pid = ctx.spawn(steps(&[&format!("p\n{}\n7", ctx.pid())]).with_monitor())?;
                let Message::Sent { from, payload, .. } = ctx.receive().await else {
                    panic!("nothing was sent")
                };
                assert_eq!((from, payload), (Some(pid), json!(7).into()));
                let Message::Exited { exit, .. } = ctx.receive().await else { panic!("it did not end") };
                assert!(exit.reason.is_normal());
                Ok(Payload::default())
            },
        )
        .unwrap();
    let exec = all.processes.exec(&all.root, start("app:native", Payload::default()));
    within("a test for a native process", exec).await.unwrap();
}
