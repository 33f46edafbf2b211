//! Supervised trees under `frame run`: what a reload, a kill or a pause leaves of them.

use std::os::unix::net::UnixDatagram;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::json_of;
use crate::run::{App, HOST, PATIENCE, Run, child, one_worker, process, supervisor, worker};

/// Traps the ends of linked processes, and ignores that it is told to end.
const TRAP: &str = "process.trap_links(true)
    log.info('the trap is up')
    repeat
      if process.receive().kind == 'cancelled' then log.info('the trap ignores that') end
    until false";

/// What `frame ps` says of an app that runs.
fn ps(app: &App) -> Value {
    json_of(&["ps", "--format", "json", &app.path().join("app.toml").display().to_string()])
}

/// The entries of the processes that run.
fn entries(app: &App) -> Vec<String> {
    let running = ps(app);
    let processes = running["processes"].as_array().expect("a list");
    let mut entries: Vec<_> =
        processes.iter().map(|process| process["entry"].as_str().expect("a text").to_owned()).collect();
    entries.sort_unstable();
    entries
}

fn strategy(name: &str) -> String {
    supervisor(&format!("strategy = \"{name}\""))
}

#[test]
fn a_supervisor_that_is_killed_by_a_reload_leaves_no_orphans_and_that_is_logged() {
    let with = |name: &str| {
        let trap = child("trap", "name = \"trap\"\nshutdown = \"unlimited\"");
        [HOST, &process("trap"), &strategy(name), &trap].concat()
    };
    let app = App::new(&with("one_for_one"), &[("trap.lua", TRAP)]);
    let mut run = app.run(&["--grace", "300ms"]);
    run.wait_for("ready");
    run.wait_for_times("the trap is up", 1);
    for (times, name) in ["one_for_all", "rest_for_one", "one_for_one"].into_iter().enumerate() {
        app.write("app.toml", &with(name));
        run.signal(Signal::HUP);
        let killed = run.wait_for("was killed, with all that it supervises");
        assert!(killed.contains("app:main") && killed.contains("300ms"), "{killed}");
        let reloaded = run.wait_for("reloaded");
        assert!(reloaded.contains("restarted: app:main"), "{reloaded}");
        run.wait_for_times("the trap is up", times + 2);
        assert_eq!(entries(&app), ["app:main", "app:trap"]);
    }
}

/// An app whose reload to the second manifest fails, and whose put-back fails as long as a squatter has the name of a worker: a
/// slow end leaves it the time to take that. The squatter gives it back as `gives_back` says.
fn squatted(gives_back: &str) -> (App, [String; 2]) {
    let squatter = format!(
        "while not pcall(process.register, 'w') do
           local message = process.receive(0.01)
           if message and message.kind == 'cancelled' then return end
         end
         log.info('the squatter has the name')
         {gives_back}
         process.unregister('w')
         log.info('the squatter has given the name back')
         repeat local message = process.receive() until message.kind == 'cancelled'"
    );
    let slow = "repeat local message = process.receive() until message.kind == 'cancelled'
        process.receive(0.5)";
    let holder = format!("process.register('taken')\n{}", worker("the holder"));
    let others = [
        HOST,
        &["worker", "slow", "squatter", "holder"].map(process).concat(),
        "[supervisors.\"app:other\"]\nhost = \"app:workers\"\n",
        &["squatter", "holder"].map(|name| child(name, "").replace("app:main", "app:other")).concat(),
    ]
    .concat();
    let old = [others.as_str(), &strategy("one_for_one"), &child("worker", "name = \"w\"")].concat();
    let second = child("second", "name = \"taken\"").replace("app:second", "app:worker");
    let new = [others.as_str(), &strategy("one_for_all"), &child("slow", ""), &second].concat();
    let worker = worker("the worker");
    let sources = [
        ("worker.lua", worker.as_str()),
        ("slow.lua", slow),
        ("squatter.lua", &squatter),
        ("holder.lua", &holder),
    ];
    (App::new(&old, &sources), [old, new])
}

/// Runs such an app until it is degraded.
fn degraded(app: &App, new: &str, run: &mut Run) {
    run.wait_for_times("ready", 1);
    run.wait_for_times("the worker is up", 1);
    run.wait_for_times("the holder is up", 1);
    app.write("app.toml", new);
    run.signal(Signal::HUP);
    let refused = run.wait_for("not reloaded");
    assert!(refused.contains("not as it was") && refused.contains("without `app:main`"), "{refused}");
    assert!(refused.contains("\"w\""), "{refused}");
}

#[test]
fn a_reload_that_is_not_undone_at_first_is_undone_later_and_shown_until_then() {
    let (app, [_, new]) = squatted("process.receive(3)");
    let path = app.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let told = || {
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).expect("a message in time");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut run = app.run_with(&[], |command| command.env("NOTIFY_SOCKET", &path));
    degraded(&app, &new, &mut run);
    let shown = ps(&app)["degraded"].as_str().expect("it is degraded").to_owned();
    assert!(shown.starts_with("without `app:main` since a reload that failed and was not undone"), "{shown}");
    let manifest = app.path().join("app.toml").display().to_string();
    assert!(crate::stdout(&["ps", &manifest]).contains("\ndegraded: without `app:main`"));

    run.wait_for("the squatter has given the name back");
    run.wait_for("the app is what it was before the reload that failed");
    run.wait_for_times("the worker is up", 2);
    assert_eq!(ps(&app)["degraded"], Value::Null);
    assert_eq!(entries(&app), ["app:holder", "app:main", "app:other", "app:squatter", "app:worker"]);
    assert!(!run.has_said("goes on as it was"), "{}", run.said.join("\n"));
    #[cfg(target_os = "linux")]
    {
        assert_eq!(told(), "READY=1\n");
        assert!(told().starts_with("RELOADING=1\n"));
        let mut next = told();
        assert!(next.starts_with("STATUS=without `app:main`"), "{next}");
        while next.starts_with("STATUS=") {
            next = told();
        }
        assert_eq!(next, "READY=1\nSTATUS=ready\n");
    }
    run.stop();
}

#[test]
fn a_reload_that_is_never_undone_ends_the_program() {
    let (app, [_, new]) = squatted("repeat until process.receive().kind == 'cancelled'");
    let mut run = app.run(&[]);
    degraded(&app, &new, &mut run);
    let status = run.end();
    assert_eq!(status.code(), Some(1), "{}", run.said.join("\n"));
    assert!(run.has_said("the app was not put back after a reload that failed, in 10 attempts"));
    assert!(run.has_said("all ended in time"), "the rest is shut down:\n{}", run.said.join("\n"));
}

#[test]
fn another_reload_helps_an_app_that_is_degraded() {
    let (app, [old, new]) = squatted("repeat until process.receive().kind == 'cancelled'");
    let mut run = app.run(&[]);
    degraded(&app, &new, &mut run);
    app.write("app.toml", &old.replace("name = \"w\"", "name = \"another\""));
    run.reload();
    run.wait_for_times("the worker is up", 2);
    assert_eq!(ps(&app)["degraded"], Value::Null);
    run.stop();
}

/// The names of the workers in the order in which they were told to end.
fn ends(run: &mut Run) -> Vec<String> {
    run.signal(Signal::TERM);
    assert!(run.end().success());
    let said = run.said.iter().filter_map(|line| line.split_once(" was told to end"));
    said.filter_map(|(name, _)| name.rsplit(' ').next()).map(str::to_owned).collect()
}

#[test]
fn children_are_shut_down_in_the_reverse_order_of_the_manifest_after_every_reload() {
    for name in ["one_for_one", "one_for_all", "rest_for_one"] {
        let with = |children: &[(&str, &str)]| {
            let children: String = children.iter().map(|(name, settings)| child(name, settings)).collect();
            [HOST, &["db", "web", "log"].map(process).concat(), &strategy(name), &children].concat()
        };
        let scripts = ["db", "web", "log"].map(worker);
        let sources = [("db.lua", &*scripts[0]), ("web.lua", &*scripts[1]), ("log.lua", &*scripts[2])];
        let app = App::new(&with(&[("db", ""), ("web", ""), ("log", "")]), &sources);
        let mut run = app.run(&[]);
        for name in ["db", "web", "log"] {
            run.wait_for_times(&format!("{name} is up"), 1);
        }
        // Another child in the first place.
        app.write("app.toml", &with(&[("db", "payload = 1"), ("web", ""), ("log", "")]));
        run.reload();
        run.wait_for_times("db is up", 2);
        // Two that change places are moved, and nothing else happens.
        app.write("app.toml", &with(&[("db", "payload = 1"), ("log", ""), ("web", "")]));
        let moved = run.reload();
        assert!(moved.ends_with("changed: supervisors reordered: app:main"), "{moved}");
        let told = ends(&mut run);
        assert_eq!(told[told.len() - 3..], ["web", "log", "db"], "{name}: {}", run.said.join("\n"));
        let expected = if name == "one_for_one" { 4 } else { 6 };
        assert_eq!(told.len(), expected, "only what is another child is restarted: {}", run.said.join("\n"));
    }
}

/// Longer than the child has to end, and than its end is waited for after that.
#[test]
fn a_pause_of_the_program_leaves_no_child_behind_that_was_told_to_end() {
    let manifest =
        [HOST, &process("trap"), &supervisor(""), &child("trap", "name = \"trap\"\nshutdown = \"1s\"")];
    let app = App::new(&manifest.concat(), &[("trap.lua", TRAP)]);
    let mut run = app.run(&[]);
    run.wait_for_times("the trap is up", 1);
    app.write("trap.lua", &TRAP.replace("the trap is up", "the second trap is up"));
    run.signal(Signal::HUP);
    run.wait_for("the trap ignores that");
    run.signal(Signal::STOP);
    sleep(Duration::from_secs(8));
    run.signal(Signal::CONT);
    run.wait_for("reloaded");
    run.wait_for_times("the second trap is up", 1);
    assert!(
        run.has_said("a child was terminated, because it had not ended after 1s"),
        "{}",
        run.said.join("\n")
    );
    assert!(!run.has_said("goes on without it"), "{}", run.said.join("\n"));
    assert_eq!(entries(&app), ["app:main", "app:trap"]);
}

/// Fills a host until that is refused.
const FILL: &str = "local started = 0
    local ok, error
    repeat
      ok, error = pcall(process.spawn, { host = 'app:others', entry = 'app:idle' })
      if ok then started = started + 1 end
    until not ok
    log.info('started ' .. started .. ', then ' .. error.kind)
    repeat local message = process.receive() until message.kind == 'cancelled'";

#[test]
fn a_script_fills_no_host_but_its_own_and_those_that_the_manifest_grants() {
    let with = |options: &str| {
        [
            HOST,
            "[hosts.\"app:others\"]\nprocesses = 7\n",
            &process("fill"),
            options,
            &process("idle"),
            &supervisor(""),
            &child("fill", ""),
        ]
        .concat()
    };
    let app = App::new(&with(""), &[("fill.lua", FILL), ("idle.lua", &worker("an idle one"))]);
    let mut run = app.run(&[]);
    run.wait_for("started 0, then denied");
    app.write("app.toml", &with("options = { spawn = [\"app:others\"] }\n"));
    assert!(run.reload().contains("restarted: fill"));
    run.wait_for_times("started 7, then exhausted", 1);
    app.write("app.toml", &with("options = { spawn = [\"app:other\"] }\n"));
    run.signal(Signal::HUP);
    let wrong = run.wait_for("which is not in `[hosts]`");
    assert!(wrong.contains("`spawn` grants the host `app:other`"), "{wrong}");
    run.wait_for("not reloaded");
    assert!(run.has_said("did you mean `app:others`?"), "{}", run.said.join("\n"));
    run.stop();
}

/// The states of the children of a process, as the kernel knows them: `Z` is one that has ended and was not waited for.
#[cfg(target_os = "linux")]
fn children_of(pid: u32) -> Vec<char> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let stat = |child: &str| std::fs::read_to_string(format!("/proc/{child}/stat")).ok();
    let state = |stat: String| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    children.split_whitespace().filter_map(stat).filter_map(state).collect()
}

/// A shell is PID 1 of a namespace of its own, leaves processes behind, some of which have ended, and becomes the program.
#[cfg(target_os = "linux")]
#[test]
fn as_pid_1_it_reaps_what_is_left_without_a_parent() {
    let app = App::new(&one_worker(), &[("worker.lua", &worker("v1"))]);
    let manifest = app.path().join("app.toml");
    let go_on = app.path().join("go_on");
    let made = std::process::Command::new("mkfifo").arg(&go_on).status().expect("there is mkfifo");
    assert!(made.success());
    // Each in a shell that ends at once, so that it is an orphan; the second lives until it is told.
    let script = "(true &); (read line < \"$3\" &); exec \"$1\" run \"$2\"";
    let mut run = Run::spawn(
        std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"])
            .arg(env!("CARGO_BIN_EXE_frame"))
            .args([&manifest, &go_on])
            .env("XDG_CACHE_HOME", app.path().join("cache")),
    );
    run.wait_for_times("v1 is up", 1);
    let unshare = run.child.id();
    let frame = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
    let frame: u32 = frame.expect("unshare waits").trim().parse().expect("one child");
    let until = std::time::Instant::now() + PATIENCE;
    let wait_for = |count: usize| {
        while children_of(frame).len() != count || children_of(frame).contains(&'Z') {
            assert!(std::time::Instant::now() < until, "{:?}", children_of(frame));
            std::thread::yield_now();
        }
    };
    wait_for(1);
    std::fs::write(&go_on, "go on\n").expect("it is read");
    wait_for(0);
}
