//! Components that start and stop the children of dynamic supervisors.

use std::time::Duration;

use frame_dispatch::process::supervisor::{
    Backoff, ChildSpec, DynamicChild, DynamicSpec, RestartPolicy, Supervisor, SupervisorHandle,
};
use frame_dispatch::process::{HostConfig, Spawn};
use frame_registry::Options;

use super::{Surroundings, start, steps, surroundings, until_named, within};

/// The dynamic supervisor `app:pool` of such components, on `host`.
async fn pool(all: &Surroundings, host: &str) -> SupervisorHandle {
    let child = Spawn::new(host.parse().unwrap(), "app:steps".parse().unwrap());
    let spec = DynamicSpec::new(ChildSpec::new("child", child.with_payload(b"r\n".to_vec())))
        .with_max_children(2)
        .with_restart_policy(RestartPolicy::default().with_backoff(Backoff::none()));
    let supervisor = Supervisor::dynamic(spec).unwrap();
    let handle = supervisor.handle();
    all.processes.register("app:pool".parse().unwrap(), Options::new(), supervisor).unwrap();
    all.start(start("app:pool", serde_json::Value::Null));
    within("a test for a supervisor", handle.ready()).await;
    handle
}

#[tokio::test]
async fn a_component_starts_children_and_stops_those_that_it_started() {
    let all = surroundings();
    let handle = pool(&all, "app:host").await;
    let other = handle.start_child(&all.root, DynamicChild::new().with_name("other")).await.unwrap();
    let said = all
        .run(steps(&[
            "a\napp:pool\nn|me|r|\nnamed",
            "a\napp:pool\n\n",
            "e\napp:pool\n$",
            "a\napp:pool\n\n",
            "e\napp:pool\nchild#3",
            &format!("e\napp:pool\n{}", other.id),
            &format!("e\napp:pool\n{}", other.pid),
            "a\napp:none\n\n",
        ]))
        .await;
    assert!(said[0].starts_with("child#2 {local@app:host|"), "{said:?}");
    assert_eq!(said[1], "e6:the supervisor has reached its child limit of 2 (`max_children`)");
    assert_eq!(said[2], ".");
    assert!(said[3].starts_with("child#3 {"), "{said:?}");
    let unknown = "e1:supervisor `app:pool` has no such child that was started by this unit";
    assert_eq!(said[4..7], [".", unknown, unknown].map(str::to_owned));
    assert_eq!(said[7], "e1:unknown supervisor `app:none`");
    assert_eq!(handle.children().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_component_starts_children_only_where_it_may_start_processes() {
    let all = surroundings();
    all.processes.register_host("app:other".parse().unwrap(), HostConfig::default()).unwrap();
    pool(&all, "app:other").await;
    let said = all.run(steps(&["a\napp:pool\n\n"])).await;
    assert_eq!(said, ["e2:not allowed to spawn processes on `app:other`; grant it by the option `spawn`"]);
}

#[tokio::test]
async fn a_child_of_a_component_is_restarted_as_what_it_was() {
    let all = surroundings();
    let handle = pool(&all, "app:host").await;
    all.run(steps(&["a\napp:pool\nn|inner|r||!\nouter"])).await;
    let first = until_named(&all, "inner").await;
    assert_eq!(all.processes.whereis("outer"), Some(first));
    all.processes.send(&all.root, first, serde_json::json!(1)).await.unwrap();
    all.exit(first).await;
    let again = until_named(&all, "inner").await;
    assert_eq!((all.processes.whereis("outer"), again == first), (Some(again), false));
    assert_eq!(handle.children().await.unwrap()[0].restarts, 1);
    within("a test for the end of all", all.processes.stop(Duration::ZERO)).await;
}
