//! Children of supervisors under `frame run`: those that are started while it runs, those that are quarantined, and what `frame ps`
//! tells of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::run::{App, HOST, PATIENCE, Run, child, process, supervisor, worker};
use crate::{json_of, stdout};

/// What `frame ps` says of an app that runs.
fn ps(app: &App) -> Value {
    json_of(&["ps", "--format", "json", &app.path().join("app.toml").display().to_string()])
}

/// Waits until what `frame ps` says of the app is as wanted, and returns that.
fn until(app: &App, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let running = ps(app);
        if is_wanted(&running) {
            return running;
        }
        assert!(begun.elapsed() < PATIENCE, "in vain for {what}: {running:#}");
        sleep(Duration::from_millis(20));
    }
}

/// The processes of an entry.
fn of_entry<'a>(running: &'a Value, entry: &str) -> Vec<&'a Value> {
    let processes = running["processes"].as_array().expect("a list");
    processes.iter().filter(|process| process["entry"] == entry).collect()
}

fn pids(running: &Value, entry: &str) -> Vec<String> {
    of_entry(running, entry).iter().map(|process| process["pid"].to_string()).collect()
}

/// Holds its thread for so long that it is quarantined.
#[cfg(target_os = "linux")]
const HOSTILE: &str = "local m, t = (1 << 18) - 1, {}
    for i = 1, (1 << 17) + 1 do t[i * m] = true end";

#[cfg(target_os = "linux")]
#[test]
fn a_quarantined_child_harms_no_sibling_and_is_started_again_by_a_reload() {
    let manifest = [
        HOST,
        &process("bad"),
        "limits = { time = \"2s\" }\n",
        &process("good"),
        &supervisor("strategy = \"one_for_all\"\nrestarts = 0\nwithin = \"1h\""),
        &child("bad", ""),
        &child("good", "name = \"good\""),
    ];
    let sources = [("bad.lua", HOSTILE), ("good.lua", &worker("the good one"))];
    let app = App::new(&manifest.concat(), &sources);
    let mut run = app.run(&[]);
    run.wait_for("a child is not restarted, because its code is quarantined");
    run.wait_for_times("the good one is up", 1);
    let running = until(&app, "the state", |running| running["down"] != json!([]));
    let down = &running["down"][0];
    assert_eq!(
        (&down["supervisor"], &down["id"], &down["state"], &down["restarts"]),
        (&json!("app:main"), &json!("bad"), &json!("quarantined"), &json!(0))
    );
    assert_eq!(down["last_exit"]["reason"], "failed");
    let message = down["last_exit"]["message"].as_str().expect("a text");
    assert!(message.contains("it failed: "), "{message}");
    let table = stdout(&["ps", &app.path().join("app.toml").display().to_string()]);
    let row = table.lines().find(|line| line.contains("quarantined ")).expect("a row");
    assert!(row.contains("app:main") && row.contains("bad") && row.contains(" ago: it failed: "), "{table}");

    // It does something else now, and may take its time for that.
    app.write("bad.lua", &worker("the reformed one"));
    app.write("app.toml", &manifest.concat().replace("limits = { time = \"2s\" }", ""));
    let reloaded = run.reload();
    assert!(reloaded.contains("restarted: bad (app:bad)"), "{reloaded}");
    run.wait_for_times("the reformed one is up", 1);
    let running = ps(&app);
    assert_eq!((&running["down"], &running["quarantined"]), (&json!([]), &json!([])));
    assert_eq!(run.times("the good one is up"), 1);
    assert_eq!(run.times("a child is not restarted"), 1, "it is said once");
    run.stop();
}

#[test]
fn restarts_and_the_last_exit_of_each_child_are_shown() {
    let flaky = "local message = process.receive()
        if message.kind == 'sent' then error('told to fail') end";
    let prod = "process.receive(0.05)
        process.send('flaky', 1)
        log.info('prodded')
        repeat local message = process.receive() until message.kind == 'cancelled'";
    let manifest = [
        HOST,
        &process("flaky"),
        &process("prod"),
        &process("once"),
        &supervisor(""),
        &child("flaky", "name = \"flaky\""),
        &child("prod", ""),
        &child("once", "restart = \"transient\""),
    ];
    let sources = [("flaky.lua", flaky), ("prod.lua", prod), ("once.lua", "return 1")];
    let app = App::new(&manifest.concat(), &sources);
    let mut run = app.run(&[]);
    run.wait_for("prodded");
    let is_restarted = |running: &Value| {
        of_entry(running, "app:flaky").iter().any(|process| process["supervised"]["restarts"] == 1)
    };
    let running = until(&app, "a restart", is_restarted);
    let flaky = of_entry(&running, "app:flaky")[0];
    let main = of_entry(&running, "app:main")[0];
    assert_eq!((&flaky["parent"], &flaky["owner"]), (&main["pid"], &main["pid"]));
    let supervised = &flaky["supervised"];
    let last = &supervised["last_exit"];
    assert_eq!((&supervised["supervisor"], &supervised["id"]), (&json!("app:main"), &json!("flaky")));
    assert_eq!((&supervised["restart"], &last["reason"]), (&json!("permanent"), &json!("failed")));
    assert!(last["message"].as_str().expect("a text").contains("told to fail"), "{last}");
    assert!((0.0..60.0).contains(&last["ago"].as_f64().expect("a number")), "{last}");
    let prod = &of_entry(&running, "app:prod")[0]["supervised"];
    assert_eq!((&prod["restarts"], &prod["last_exit"]), (&json!(0), &Value::Null));
    assert_eq!((&running["down"][0]["id"], &running["down"][0]["state"]), (&json!("once"), &json!("done")));
    assert_eq!(main["supervised"], Value::Null);

    let table = stdout(&["ps", &app.path().join("app.toml").display().to_string()]);
    for cell in
        ["restarts", "last exit", "ago: it failed: flaky.lua:2:", "once", "done", "ago: it ended normally"]
    {
        assert!(table.contains(cell), "{cell}: {table}");
    }
    run.stop();
}

#[test]
fn a_child_that_a_reload_adds_has_its_supervisor_for_a_parent() {
    let with = |more: &str| {
        [HOST, &process("one"), &process("two"), &supervisor(""), &child("one", ""), more].concat()
    };
    let sources = [("one.lua", &*worker("one")), ("two.lua", &*worker("two"))];
    let app = App::new(&with(""), &sources);
    let mut run = app.run(&[]);
    run.wait_for_times("one is up", 1);
    app.write("app.toml", &with(&child("two", "")));
    run.reload();
    run.wait_for_times("two is up", 1);
    let running = ps(&app);
    let main = of_entry(&running, "app:main")[0]["pid"].clone();
    for entry in ["app:one", "app:two"] {
        assert_eq!(of_entry(&running, entry)[0]["parent"], main, "{entry}: {running:#}");
    }
    run.stop();
}

/// Starts two rooms when it is told.
const FRONT: &str = "process.register('front')
    log.info('the front is up')
    for number = 1, 2 do
      local ok, failure = pcall(process.start_child, 'app:rooms', { payload = number, name = 'room ' .. number })
      if not ok then log.info('not started: ' .. failure.message) end
    end
    repeat local message = process.receive() until message.kind == 'cancelled'";

/// A manifest with the dynamic supervisor `app:rooms`, which has these settings and this template, and a front that starts rooms.
fn rooms(settings: &str, template: &str) -> String {
    [
        HOST,
        "[hosts.\"app:others\"]\n",
        &process("front"),
        &process("room"),
        &format!("[supervisors.\"app:rooms\"]\nhost = \"app:workers\"\n{settings}\n"),
        &format!("[supervisors.\"app:rooms\".template]\nprocess = \"app:room\"\n{template}\n"),
        "[supervisors.\"app:z\"]\nhost = \"app:workers\"\n",
        &child("front", "").replace("app:main", "app:z"),
    ]
    .concat()
}

fn room(version: &str) -> String {
    format!(
        "local number = ...\n{}",
        worker("room").replace("'room is up'", &format!("'{version} ' .. number .. ' is up'"))
    )
}

fn started_rooms(settings: &str, template: &str) -> (App, Run) {
    let app = App::new(&rooms(settings, template), &[("front.lua", FRONT), ("room.lua", &room("room"))]);
    let mut run = app.run(&[]);
    run.wait_for_times("room 1 is up", 1);
    run.wait_for_times("room 2 is up", 1);
    (app, run)
}

#[test]
fn a_script_starts_children_of_a_supervisor_of_the_manifest_and_they_are_shown() {
    let (app, run) = started_rooms("max_children = 5", "restart = \"transient\"");
    let running = ps(&app);
    let supervisor = of_entry(&running, "app:rooms")[0];
    let front = of_entry(&running, "app:front")[0];
    let rooms = of_entry(&running, "app:room");
    assert_eq!(rooms.len(), 2);
    for (room, number) in rooms.iter().zip(1..) {
        assert_eq!((&room["owner"], &room["parent"]), (&supervisor["pid"], &front["pid"]));
        assert_eq!(room["names"], json!([format!("room {number}")]));
        let supervised = &room["supervised"];
        assert_eq!(
            (&supervised["supervisor"], &supervised["restart"]),
            (&json!("app:rooms"), &json!("transient"))
        );
        assert_eq!(supervised["id"], format!("room#{number}"));
    }
    run.stop();
}

#[test]
fn what_changes_nothing_of_dynamic_children_leaves_them_alone() {
    let (app, mut run) = started_rooms("", "");
    let before = pids(&ps(&app), "app:room");
    for settings in
        ["max_children = 2", "restarts = 7\nwithin = \"1m\"\nbackoff = { first = \"1s\" }\nmax_children = 1"]
    {
        app.write("app.toml", &rooms(settings, ""));
        let reloaded = run.reload();
        assert!(reloaded.ends_with("changed: supervisors replaced: app:rooms"), "{reloaded}");
        assert_eq!(pids(&ps(&app), "app:room"), before);
    }
    // A front that is another starts no third.
    app.write("front.lua", &FRONT.replace("1, 2", "3, 3"));
    run.reload();
    run.wait_for_times("not started: the supervisor has reached its child limit of 1 (`max_children`)", 1);
    assert_eq!(pids(&ps(&app), "app:room"), before);
    run.stop();
}

#[test]
fn dynamic_children_that_are_something_else_are_restarted_as_what_they_were_started_with() {
    let (app, mut run) = started_rooms("", "");
    app.write("room.lua", &room("new room"));
    let reloaded = run.reload();
    assert!(reloaded.contains("restarted: 2 children of app:rooms"), "{reloaded}");
    run.wait_for_times("new room 1 is up", 1);
    run.wait_for_times("new room 2 is up", 1);
    app.write("app.toml", &rooms("", "options = { spawn = [] }"));
    let reloaded = run.reload();
    assert!(reloaded.contains("restarted: 2 children of app:rooms"), "{reloaded}");
    run.wait_for_times("new room 2 is up", 2);
    // On another host, as the next ones.
    app.write("app.toml", &rooms("", "host = \"app:others\""));
    let reloaded = run.reload();
    assert!(reloaded.contains("restarted: 2 children of app:rooms"), "{reloaded}");
    run.wait_for_times("new room 2 is up", 3);
    let running = ps(&app);
    assert!(of_entry(&running, "app:room").iter().all(|room| room["host"] == "app:others"), "{running:#}");
    assert_eq!(run.times("the front is up"), 1);
    run.stop();
}

#[test]
fn temporary_children_finish_as_what_they_were() {
    let (app, mut run) = started_rooms("", "restart = \"temporary\"");
    let before = pids(&ps(&app), "app:room");
    app.write("room.lua", &room("new room"));
    let reloaded = run.reload();
    assert!(!reloaded.contains("restarted"), "{reloaded}");
    assert_eq!(pids(&ps(&app), "app:room"), before);
    app.write("front.lua", &FRONT.replace("1, 2", "3, 3"));
    run.reload();
    run.wait_for_times("new room 3 is up", 1);
    run.stop();
}

#[test]
fn a_dynamic_supervisor_that_has_to_move_ends_its_children() {
    let (app, mut run) = started_rooms("", "");
    let moved =
        rooms("", "host = \"app:workers\"").replacen("host = \"app:workers\"", "host = \"app:others\"", 1);
    app.write("app.toml", &moved);
    let reloaded = run.reload();
    assert!(reloaded.contains("restarted: app:rooms"), "{reloaded}");
    assert!(pids(&ps(&app), "app:room").is_empty());
    run.stop();
}

#[test]
fn a_script_starts_no_children_on_a_host_that_it_is_not_granted() {
    let app =
        App::new(&rooms("", "host = \"app:others\""), &[("front.lua", FRONT), ("room.lua", &room("room"))]);
    let mut run = app.run(&[]);
    run.wait_for(
        "not started: not allowed to spawn processes on `app:others`; grant it by the option `spawn`",
    );
    run.signal(Signal::TERM);
    assert!(run.end().success());
}
