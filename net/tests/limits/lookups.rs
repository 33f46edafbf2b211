//! Lookups, where the name server is silent.

use std::net::IpAddr;
use std::time::Duration;

use frame_net::{HostName, LimitedResource};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::sealed::{LOCAL_NAME, PUBLIC, PUBLIC_V6, sealed_tests};
use crate::support::{endpoint, soon};
use crate::{app, dialer_of, limit};

/// How many threads this process has.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn everywhere() -> serde_json::Value {
    json!({ "clearnet": { "allow": ["0.0.0.0/0", "::/0"] } })
}

sealed_tests! {
    async fn lookups_that_nothing_waits_for_have_ended(_world: World) {
        let app = app(everywhere());
        let (threads_before, files_before) = (threads(), open_files());
        let greedy = dialer_of(&app, "greedy");
        for number in 0..3000 {
            let to = endpoint(&format!("h{number}.slow.example:80"));
            let connected = timeout(Duration::from_millis(1), greedy.connect(&to)).await;
            assert!(connected.is_err(), "it takes until the name server answers");
        }
        assert_eq!((threads(), open_files()), (threads_before, files_before));

        // Files are read on the threads that lookups must not take.
        let read = tokio::fs::read("/etc/resolv.conf");
        timeout(Duration::from_secs(5), read).await.expect("files can be read").unwrap();
        let other = dialer_of(&app, "other");
        let found = timeout(Duration::from_secs(5), other.lookup(&name(LOCAL_NAME))).await;
        let expected: [IpAddr; 2] = [PUBLIC, PUBLIC_V6].map(|address| address.parse().unwrap());
        assert_eq!(found.expect("names can be looked up").unwrap(), expected);
    }

    async fn a_unit_that_looks_up_all_it_can_leaves_room_for_others(_world: World) {
        let mut config = everywhere();
        config["limits"] = json!({ "lookups": 20 });
        let app = app(config);
        let greedy = dialer_of(&app, "greedy");
        let mut lookups = JoinSet::new();
        for number in 0..100 {
            let greedy = greedy.clone();
            lookups.spawn(async move { greedy.lookup(&name(&format!("h{number}.slow.example"))).await });
        }
        // The others wait for the name server.
        for _ in 0..90 {
            let error = soon(lookups.join_next()).await.unwrap().unwrap().unwrap_err();
            assert_eq!((limit(&error).resource, limit(&error).held), (LimitedResource::Lookups, 10));
            assert!(error.is_retryable());
        }
        let to = endpoint("h.slow.example:80");
        limit(&soon(greedy.connect(&to)).await.unwrap_err());

        let other = dialer_of(&app, "other");
        let remote = name("remote.example");
        let mut waits = Box::pin(other.lookup(&remote));
        assert!(timeout(Duration::from_millis(10), &mut waits).await.is_err());
        // What is in a file takes no room.
        assert_eq!(soon(greedy.lookup(&name(LOCAL_NAME))).await.unwrap().len(), 2);

        lookups.shutdown().await;
        let found = timeout(Duration::from_millis(10), greedy.lookup(&name("again.example"))).await;
        assert!(found.is_err(), "what was cancelled has given its place back");
    }

    async fn a_name_of_this_host_is_asked_of_nobody(world: World) {
        let app = app(everywhere());
        let dialer = dialer_of(&app, "unit");
        for text in ["localhost", "LocalHost.", "db.localhost"] {
            assert!(soon(dialer.lookup(&name(text))).await.unwrap().iter().all(IpAddr::is_loopback));
        }
        world.assert_silent_but_for(0);
    }

    async fn a_change_of_the_files_is_seen(world: World) {
        let app = app(everywhere());
        let dialer = dialer_of(&app, "unit");
        soon(dialer.lookup(&name("new.example"))).await.unwrap_err();
        assert!(world.dns_was_asked());

        std::fs::write("/etc/hosts", "192.0.2.7 new.example\n").unwrap();
        let found = soon(dialer.lookup(&name("new.example"))).await.unwrap();
        assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        while world.dns_was_asked() {}
        std::fs::write("/etc/resolv.conf", "nameserver 127.0.0.1\nsearch corp.example\noptions timeout:1 attempts:1\n")
            .unwrap();
        soon(dialer.lookup(&name("intranet"))).await.unwrap_err();
        let asked = world.dns_question().expect("the name server is asked");
        let contains = |text: &[u8]| asked.windows(text.len()).any(|part| part == text);
        assert!(contains(b"\x08intranet\x04corp\x07example\0"), "{asked:?}");
    }
}
