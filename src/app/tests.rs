//! Apps as a program that embeds them has them.

use std::fs;
use std::future::ready;
use std::time::Duration;

use frame_dispatch::process::SpawnRequest;
use frame_dispatch::{CallError, ErrorKind};
use tempfile::TempDir;
use tokio::time::Instant;

use super::RunningApp;
use crate::manifest::{self, Manifest};

const GRACE: Duration = Duration::from_mins(1);

const WORKER: &str = "repeat local message = process.receive() until message.kind == 'cancelled'";

/// A supervisor with one child for each of these names.
fn manifest(directory: &TempDir, children: &[&str]) -> Manifest {
    let mut text = "
        [hosts.'app:workers']
        [processes.'app:worker']
        engine = 'lua'
        source = 'worker.lua'
        [supervisors.'app:main']
        host = 'app:workers'
        "
    .to_owned();
    for child in children {
        let settings = format!("id = '{child}'\nprocess = 'app:worker'\nname = '{child}'\n");
        text.push_str("[[supervisors.'app:main'.children]]\n");
        text.push_str(&settings);
    }
    let path = directory.path().join("app.toml");
    fs::write(&path, text).unwrap();
    fs::write(directory.path().join("worker.lua"), WORKER).unwrap();
    manifest::read(&path).unwrap_or_else(|problems| panic!("{problems}"))
}

#[tokio::test]
async fn a_policy_of_the_program_holds_for_supervised_processes_and_for_reloads() {
    let directory = tempfile::tempdir().unwrap();
    let app = RunningApp::boot(manifest(&directory, &["one"])).await.unwrap();
    app.processes().set_spawn_policy(|request: &SpawnRequest<'_>| match request.name() {
        Some("two") => Err(CallError::new(ErrorKind::Denied, "there is to be no second")),
        _ => Ok(()),
    });
    app.supervise().await.unwrap();
    let one = app.processes().whereis("one");
    assert!(one.is_some());

    let problems = app.reload(manifest(&directory, &["one", "two"]), GRACE).await.unwrap_err();
    let said = problems.to_string();
    assert!(
        said.contains("`app:worker` may not be spawned on `app:workers`: there is to be no second"),
        "{said}"
    );
    assert_eq!((app.processes().whereis("one"), app.processes().whereis("two")), (one, None));
    assert!(app.degraded().is_none());

    app.reload(manifest(&directory, &["one", "three"]), GRACE).await.unwrap();
    assert!(app.processes().whereis("three").is_some());
    app.stop(Instant::now() + GRACE).await;
}

#[tokio::test]
async fn a_supervisor_whose_start_is_abandoned_ends_and_can_be_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let app = RunningApp::boot(manifest(&directory, &["one"])).await.unwrap();
    tokio::select! {
        biased;
        _ = app.supervise() => panic!("nothing ran that could start a child"),
        () = ready(()) => (),
    }
    app.supervise().await.unwrap();
    let supervisors =
        app.processes().processes().into_iter().filter(|process| process.entry.as_str() == "app:main");
    assert_eq!(supervisors.count(), 1);
    assert!(app.processes().whereis("one").is_some());
    app.stop(Instant::now() + GRACE).await;
}
