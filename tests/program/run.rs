//! `frame run`: an app that is booted, changed as it runs, and stopped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take that takes no time on a machine that has any.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A process that says when it is up, and when it is told to end.
pub(crate) fn worker(version: &str) -> String {
    format!(
        "log.info('{version} is up')
         repeat local message = process.receive() until message.kind == 'cancelled'
         log.info('{version} was told to end')"
    )
}

/// Calls `app:version` again and again, and says what it answers.
const CALLER: &str = "log.info('the caller is up')
    repeat
      log.info('it answers ' .. call('app:version'))
      local message = process.receive(0.02)
    until message and message.kind == 'cancelled'";

/// What all manifests here begin with.
pub(crate) const HOST: &str = "[hosts.\"app:workers\"]\nprocesses = 100\n";

pub(crate) fn process(name: &str) -> String {
    format!("[processes.\"app:{name}\"]\nengine = \"lua\"\nsource = \"{name}.lua\"\n")
}

fn function(name: &str) -> String {
    format!("[functions.\"app:{name}\"]\nengine = \"lua\"\nsource = \"{name}.lua\"\n")
}

pub(crate) fn supervisor(settings: &str) -> String {
    format!("[supervisors.\"app:main\"]\nhost = \"app:workers\"\n{settings}\n")
}

pub(crate) fn child(name: &str, settings: &str) -> String {
    format!("[[supervisors.\"app:main\".children]]\nid = \"{name}\"\nprocess = \"app:{name}\"\n{settings}\n")
}

/// One supervised process, `app:worker`.
pub(crate) fn one_worker() -> String {
    [HOST, &process("worker"), &supervisor(""), &child("worker", "")].concat()
}

/// An app in a directory of its own.
pub(crate) struct App {
    directory: TempDir,
}

impl App {
    pub(crate) fn new(manifest: &str, sources: &[(&str, &str)]) -> Self {
        let app = Self { directory: tempfile::tempdir().expect("a directory") };
        app.write("app.toml", manifest);
        for (name, source) in sources {
            app.write(name, source);
        }
        app
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("it is written");
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, |command| command)
    }

    pub(crate) fn run_with(
        &self,
        arguments: &[&str],
        with: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_frame"));
        command.arg("run").arg(self.path().join("app.toml")).args(arguments);
        command.env("XDG_CACHE_HOME", self.path().join("cache")).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self::spawn(with(&mut command))
    }

    fn spawn(command: &mut Command) -> Run {
        let mut child = command.spawn().expect("it was built");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Run { child, lines, said: Vec::new() }
    }
}

/// The program, as it runs. It is killed when this is dropped.
pub(crate) struct Run {
    pub(crate) child: Child,
    lines: Receiver<String>,
    /// What it has said so far.
    pub(crate) said: Vec<String>,
}

impl Run {
    /// Runs a command that is the program, or becomes it.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it was built");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, said: Vec::new() }
    }

    /// Waits for a line with this in it, behind those that were waited for before.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no `{text}` in time, but\n{}", self.said.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => panic!("no `{text}`, but\n{}", self.said.join("\n")),
            }
        }
    }

    /// Waits for a line with this in it, or until it has ended. Returns whether there was such a line.
    pub(crate) fn wait_for_or_end(&mut self, text: &str) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let is_said = line.contains(text);
                    self.said.push(line);
                    if is_said {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => panic!("no `{text}` and no end:\n{}", self.said.join("\n")),
            }
        }
    }

    /// Waits until it has said so as often, those before included.
    pub(crate) fn wait_for_times(&mut self, text: &str, times: usize) {
        while self.times(text) < times {
            self.wait_for(text);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
    }

    /// Sends SIGHUP, and waits until that is done.
    pub(crate) fn reload(&mut self) -> String {
        self.signal(Signal::HUP);
        self.wait_for("reloaded")
    }

    /// Waits until it has ended, and all it said is known.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().expect("it is our child"),
                Err(RecvTimeoutError::Timeout) => panic!("it goes on:\n{}", self.said.join("\n")),
            }
        }
    }

    /// Stops it, and sees that all ended by itself.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.end();
        assert!(self.has_said("all ended in time") && status.success(), "{status}\n{}", self.said.join("\n"));
    }

    pub(crate) fn has_said(&self, text: &str) -> bool {
        self.times(text) > 0
    }

    pub(crate) fn times(&self, text: &str) -> usize {
        self.said.iter().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_runs_what_is_supervised_and_tells_it_to_end() {
    let app = App::new(&one_worker(), &[("worker.lua", &worker("v1"))]);
    let mut run = app.run(&[]);
    run.wait_for("ready");
    run.wait_for_times("v1 is up", 1);
    assert!(!run.has_said("told to end"));
    run.signal(Signal::TERM);
    let status = run.end();
    assert!(status.success(), "{status}");
    assert!(run.has_said("v1 is up") && run.has_said("v1 was told to end"), "{}", run.said.join("\n"));
}

#[test]
fn ctrl_c_stops_it_as_well() {
    let app = App::new(&one_worker(), &[("worker.lua", &worker("v1"))]);
    let mut run = app.run(&[]);
    run.wait_for("ready");
    run.wait_for_times("v1 is up", 1);
    run.signal(Signal::INT);
    assert!(run.end().success());
    assert!(run.has_said("v1 was told to end"));
}

#[test]
fn a_process_becomes_its_new_script() {
    let app = App::new(&one_worker(), &[("worker.lua", &worker("v1"))]);
    let mut run = app.run(&[]);
    run.wait_for("ready");
    run.wait_for_times("v1 is up", 1);
    app.write("worker.lua", &worker("v2"));
    let changes = run.reload();
    run.wait_for_times("v2 is up", 1);
    // One at a time has the name and the work.
    let place = |text: &str| run.said.iter().position(|line| line.contains(text));
    assert!(place("v1 was told to end").is_some_and(|end| Some(end) < place("v2 is up")), "{:?}", run.said);
    assert!(changes.contains("processes replaced: app:worker; restarted: worker"), "{changes}");

    let nothing = run.reload();
    assert!(nothing.contains("changed: nothing"), "{nothing}");
    assert_eq!((run.times("v1 is up"), run.times("v2 is up")), (1, 1));
    run.stop();
}

#[test]
fn a_function_is_replaced_under_processes_that_go_on() {
    let manifest = [HOST, &function("version"), &process("caller"), &supervisor(""), &child("caller", "")];
    let app = App::new(&manifest.concat(), &[("version.lua", "return 'v1'"), ("caller.lua", CALLER)]);
    let mut run = app.run(&[]);
    run.wait_for("it answers v1");
    app.write("version.lua", "return 'v2'");
    let changes = run.reload();
    assert!(
        changes.contains("functions replaced: app:version") && !changes.contains("restarted"),
        "{changes}"
    );
    run.wait_for("it answers v2");
    // It may have been that before.
    run.wait_for_times("the old version is done", 1);
    assert_eq!(run.times("the caller is up"), 1);
    run.stop();
}

#[test]
fn what_is_wrong_changes_nothing_and_is_said() {
    let manifest =
        [HOST, &function("version"), &process("caller"), &supervisor(""), &child("caller", "")].concat();
    let app = App::new(&manifest, &[("version.lua", "return 'v1'"), ("caller.lua", CALLER)]);
    let mut run = app.run(&[]);
    run.wait_for("it answers v1");

    // One right and one wrong: neither is taken.
    app.write("version.lua", "return 'v2'");
    app.write("caller.lua", "this is no Lua");
    let refused = run.reload();
    assert!(refused.contains("not reloaded"), "{refused}");
    assert!(run.has_said("caller.lua:1:") && run.has_said("near 'is'"), "{}", run.said.join("\n"));
    run.wait_for("it answers");
    app.write("caller.lua", CALLER);

    for (wrong, why) in [
        ("[functions", "app.toml"),
        (
            &*format!("{manifest}[clearnet]\nallow = [\"127.0.0.1:1\"]\n"),
            "`[clearnet]` cannot change while the app runs",
        ),
        (&*format!("[app]\nmax_depth = 9\n{manifest}"), "`max_depth` cannot change"),
        (&*manifest.replace("processes = 100", "processes = 99"), "the host `app:workers` cannot change"),
        (&*format!("{manifest}options = {{ network = \"app:none\" }}\n"), "app:none"),
    ] {
        app.write("app.toml", wrong);
        let refused = run.reload();
        assert!(refused.contains("not reloaded"), "{refused}");
        assert!(run.has_said(why), "{why}:\n{}", run.said.join("\n"));
        run.wait_for("it answers");
    }
    assert_eq!((run.times("it answers v2"), run.times("the caller is up")), (0, 1));

    app.write("app.toml", &manifest);
    assert!(run.reload().contains("functions replaced: app:version"));
    run.wait_for("it answers v2");
    run.stop();
}

#[test]
fn children_come_and_go_while_the_others_go_on() {
    let with = |children: &[&str]| {
        let processes = [process("one"), process("two"), process("three")].concat();
        let children: String = children.iter().map(|name| child(name, "")).collect();
        [HOST, &processes, &supervisor(""), &children].concat()
    };
    let scripts = [("one.lua", worker("one")), ("two.lua", worker("two")), ("three.lua", worker("three"))];
    let scripts = scripts.each_ref().map(|(name, script)| (*name, script.as_str()));
    let app = App::new(&with(&["one", "two"]), &scripts);
    let mut run = app.run(&[]);
    run.wait_for("ready");
    run.wait_for_times("one is up", 1);
    run.wait_for_times("two is up", 1);
    app.write("app.toml", &with(&["two", "three"]));
    let changes = run.reload();
    assert!(
        changes.contains("supervisors replaced: app:main") && !changes.contains("restarted"),
        "{changes}"
    );
    run.signal(Signal::TERM);
    assert!(run.end().success());
    for name in ["one", "two", "three"] {
        let times = (run.times(&format!("{name} is up")), run.times(&format!("{name} was told to end")));
        assert_eq!(times, (1, 1), "{name}:\n{}", run.said.join("\n"));
    }
}

#[test]
fn a_supervisor_with_another_strategy_starts_its_children_again() {
    let app = App::new(&one_worker(), &[("worker.lua", &worker("v1"))]);
    let mut run = app.run(&[]);
    run.wait_for("ready");
    run.wait_for_times("v1 is up", 1);
    let manifest = one_worker().replace("[[supervisors", "strategy = \"one_for_all\"\n[[supervisors");
    app.write("app.toml", &manifest);
    run.signal(Signal::HUP);
    run.wait_for("v1 was told to end");
    // They are started before that is said, and run whenever they do.
    assert!(run.wait_for("reloaded").contains("restarted: app:main"));
    run.wait_for_times("v1 is up", 2);
    run.stop();
}

#[test]
fn other_default_options_are_inherited_by_what_is_started_again() {
    let networks = "[networks.\"app:a\"]\nkind = \"direct\"\n[networks.\"app:b\"]\nkind = \"direct\"\n";
    let with =
        |network: &str| format!("[app]\noptions = {{ network = \"{network}\" }}\n{networks}{}", one_worker());
    // A network that nothing is routed through, unless it is on the frame.
    let script = worker("v1").replace("is up'", "is up on ' .. tostring(frame.get('net.overlay'))");
    let app = App::new(&with("app:a"), &[("worker.lua", &script)]);
    let mut run = app.run(&[]);
    run.wait_for("v1 is up on app:a");
    app.write("app.toml", &with("app:b"));
    assert!(run.reload().contains("default options replaced"));
    run.wait_for_times("v1 is up on app:b", 1);
    assert!(run.has_said("v1 was told to end"));
    run.stop();
}

#[test]
fn where_a_child_does_not_start_all_is_put_back() {
    let manifest = [
        HOST,
        &function("version"),
        &process("caller"),
        &process("holder"),
        &supervisor(""),
        &child("caller", ""),
        &child("holder", ""),
    ]
    .concat();
    let holder = format!("process.register('taken')\n{}", worker("the holder"));
    let sources = [("version.lua", "return 'v1'"), ("caller.lua", CALLER), ("holder.lua", holder.as_str())];
    let app = App::new(&manifest, &sources);
    let mut run = app.run(&[]);
    run.wait_for("ready");
    run.wait_for("it answers v1");
    run.wait_for_times("the holder is up", 1);

    app.write("version.lua", "return 'v2'");
    let second = child("second", "name = \"taken\"").replace("app:second", "app:holder");
    app.write("app.toml", &format!("{manifest}{second}"));
    let refused = run.reload();
    assert!(refused.contains("not reloaded") && run.has_said("taken"), "{}", run.said.join("\n"));
    // The next answers but one, as a call may have begun before.
    run.wait_for("it answers");
    run.wait_for("it answers v1");

    app.write("app.toml", &manifest);
    assert!(run.reload().contains("functions replaced: app:version"));
    run.wait_for("it answers v2");
    assert_eq!((run.times("the caller is up"), run.times("the holder is up")), (1, 1));
    run.stop();
}

#[test]
fn below_another_supervisor_only_what_changed_is_restarted() {
    let nested = "[supervisors.\"app:nested\"]\nhost = \"app:workers\"\n";
    let manifest = [
        HOST,
        &process("one"),
        &process("two"),
        &supervisor(""),
        "[[supervisors.\"app:main\".children]]\nid = \"nested\"\nprocess = \"app:nested\"\nshutdown = \"unlimited\"\n",
        nested,
        &child("one", "").replace("app:main", "app:nested"),
        &child("two", "").replace("app:main", "app:nested"),
    ]
    .concat();
    let app = App::new(&manifest, &[("one.lua", &worker("one")), ("two.lua", &worker("two"))]);
    let mut run = app.run(&[]);
    run.wait_for_times("one is up", 1);
    run.wait_for_times("two is up", 1);
    app.write("two.lua", &worker("another two"));
    assert!(run.reload().contains("restarted: two (app:two)"));
    assert_eq!(run.times("one was told to end"), 0);

    // A child that is added inherits from the frame of its supervisor, as the others do.
    let third = child("third", "").replace("app:main", "app:nested").replace("app:third", "app:one");
    app.write("app.toml", &format!("{manifest}{third}"));
    assert!(run.reload().ends_with("changed: supervisors replaced: app:nested"));
    run.wait_for_times("one is up", 2);
    run.signal(Signal::TERM);
    assert!(run.end().success());
    assert_eq!((run.times("one is up"), run.times("one was told to end")), (2, 2), "{}", run.said.join("\n"));
}

#[cfg(feature = "wasm")]
#[test]
fn components_are_called_and_kept_as_they_were_compiled() {
    let echo = "[functions.\"app:version\"]\nengine = \"wasm\"\nsource = \"echo.wasm\"\n";
    let caller = CALLER.replace("call('app:version')", "call('app:version', 'as it was asked')");
    let manifest = [HOST, echo, &process("caller"), &supervisor(""), &child("caller", "")].concat();
    let app = App::new(&manifest, &[("caller.lua", &caller)]);
    fs::write(app.path().join("echo.wasm"), frame_guests::guest("echo")).expect("it is written");
    let mut run = app.run(&[]);
    run.wait_for("it answers as it was asked");
    run.stop();
    let kept = fs::read_dir(app.path().join("cache/frame/components")).expect("it is there");
    assert_eq!(kept.count(), 1);
}

#[test]
fn what_does_not_end_by_itself_is_killed_when_the_grace_period_is_over() {
    let app =
        App::new(&one_worker(), &[("worker.lua", "log.info('it spins') while true do pcall(error) end")]);
    let mut run = app.run(&["--grace", "300ms"]);
    run.wait_for("ready");
    run.wait_for_times("it spins", 1);
    run.signal(Signal::TERM);
    assert!(run.end().success());
    assert!(run.has_said("killed with all that they supervise: app:main"), "{}", run.said.join("\n"));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let deaf = "log.info('it is deaf') while true do process.receive() end";
    let manifest = one_worker() + "shutdown = \"unlimited\"\n";
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let app = App::new(&manifest, &[("worker.lua", deaf)]);
        let mut run = app.run(&["--grace", "1h"]);
        run.wait_for("ready");
        run.wait_for_times("it is deaf", 1);
        run.signal(Signal::TERM);
        run.wait_for("stopping");
        run.signal(signal);
        let status = run.end();
        assert_eq!((status.code(), status.signal()), (Some(code), None), "{}", run.said.join("\n"));
    }
}

/// One instruction that takes a minute or more: all keys collide when the table grows.
#[cfg(target_os = "linux")]
const HOSTILE: &str =
    "local m, t = (1 << 18) - 1, {} for i = 1, (1 << 17) + 1 do t[i * m] = true end return #t";

#[cfg(target_os = "linux")]
#[test]
fn scripts_that_hold_their_threads_stop_nothing_else_and_are_quarantined_until_a_reload() {
    let settings = "shutdown = \"100ms\"";
    let manifest = [
        HOST,
        &function("mode"),
        &["one", "two", "sibling"].map(process).concat(),
        &supervisor(""),
        &child("one", settings),
        &child("two", settings),
        &child("sibling", ""),
    ]
    .concat();
    let hostile = |name: &str| {
        let hostile = HOSTILE.replace("return #t", "");
        format!("if call('app:mode') == 'hostile' then {hostile} end\n{}", worker(&format!("honest {name}")))
    };
    let sibling = "repeat
          log.info('the sibling goes on')
          local message = process.receive(0.02)
        until message and message.kind == 'cancelled'";
    let (one, two) = (hostile("one"), hostile("two"));
    let sources =
        [("mode.lua", "return 'hostile'"), ("one.lua", &*one), ("two.lua", &*two), ("sibling.lua", sibling)];
    let app = App::new(&manifest, &sources);
    let socket = app.path().join("control.sock").display().to_string();
    let ps = |format: &str| {
        let output = super::frame(&["ps", "--socket", &socket, "--format", format]);
        assert!(output.status.success(), "{}", super::stderr(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    let quarantined = || {
        let running: serde_json::Value = serde_json::from_str(&ps("json")).expect("JSON");
        let units = running["quarantined"].as_array().expect("a list").clone();
        units
            .iter()
            .map(|unit| format!("{} {}", unit["kind"], unit["id"]).replace('"', ""))
            .collect::<Vec<_>>()
    };

    let mut run = app.run(&["--control", &socket]);
    run.wait_for("ready");
    run.wait_for_times("is quarantined: it held a thread for", 2);
    assert!(run.has_said("`one.lua` is quarantined") && run.has_said("`two.lua` is quarantined"));
    let goes_on = run.times("the sibling goes on");
    run.wait_for_times("the sibling goes on", goes_on + 10);
    assert_eq!(quarantined(), ["process app:one", "process app:two"]);
    let shown = ps("table");
    assert!(shown.contains("\nprocess app:one: `one.lua` is quarantined: it held a thread for "), "{shown}");

    // Nothing of them has changed but what they call.
    app.write("mode.lua", "return 'honest'");
    let reloaded = run.reload();
    assert!(reloaded.contains("processes replaced: app:one, app:two"), "{reloaded}");
    run.wait_for_times("honest one is up", 1);
    run.wait_for_times("honest two is up", 1);
    assert_eq!(quarantined(), Vec::<String>::new());
    assert!(run.reload().contains("changed: nothing"));
    // The threads are held still, and not waited for.
    run.stop();
}

#[cfg(target_os = "linux")]
#[test]
fn a_call_that_holds_its_thread_is_given_up_in_time() {
    let app = App::new(&function("hostile"), &[("hostile.lua", HOSTILE)]);
    let manifest = app.path().join("app.toml").display().to_string();
    let began = Instant::now();
    let output = super::frame(&["call", &manifest, "app:hostile", "--timeout", "300ms", "--format", "json"]);
    let said = super::stderr(&output);
    assert!(said.contains(r#""kind":"deadline""#), "{said}");
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

#[test]
fn a_supervisor_that_gives_up_ends_the_program() {
    let app = App::new(&one_worker(), &[("worker.lua", "error('it is of no use')")]);
    let mut run = app.run(&[]);
    let status = run.end();
    assert_eq!(status.code(), Some(1), "{}", run.said.join("\n"));
    assert!(run.has_said("the supervisor `app:main`") && run.has_said("it is of no use"));
}

#[test]
fn a_manifest_that_is_wrong_is_not_run() {
    let app = App::new(&one_worker(), &[("worker.lua", "this is no Lua")]);
    let mut run = app.run(&[]);
    assert_eq!(run.end().code(), Some(2));
    assert!(run.has_said("worker.lua:1:") && !run.has_said("ready"), "{}", run.said.join("\n"));
}

#[test]
fn an_app_without_supervisors_goes_on_and_says_so() {
    let app = App::new(&function("version"), &[("version.lua", "return 'v1'")]);
    let mut run = app.run(&[]);
    run.wait_for("nothing is supervised");
    assert!(run.reload().contains("changed: nothing"));
    run.stop();
}

#[cfg(target_os = "linux")]
#[test]
fn the_service_manager_is_told() {
    let app = App::new(&one_worker(), &[("worker.lua", &worker("v1"))]);
    let path = app.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let told = || {
        let mut message = [0; 256];
        let length = socket.recv(&mut message).expect("a message in time");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut run = app.run_with(&[], |command| command.env("NOTIFY_SOCKET", &path));
    assert_eq!(told(), "READY=1\n");
    run.signal(Signal::HUP);
    let reloading = told();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(told(), "READY=1\n");
    run.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1\n");
    assert!(run.end().success());
}

#[test]
fn a_manifest_that_is_wrong_is_told_to_programs_in_json_too() {
    let app = App::new(&one_worker(), &[("worker.lua", &worker("v1"))]);
    let mut run = app.run(&["--log", "json"]);
    run.wait_for("v1 is up");
    app.write("app.toml", &one_worker().replace("\"lua\"", "\"luaa\""));
    run.signal(Signal::HUP);
    run.wait_for("not reloaded");
    run.signal(Signal::TERM);
    run.end();
    let said: Vec<serde_json::Value> =
        run.said.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    let wrong =
        said.iter().find(|line| line["message"] == "`engine` cannot be \"luaa\"").expect("it is said");
    assert_eq!((&wrong["line"], &wrong["label"]), (&4.into(), &"did you mean `lua`?".into()));
}

#[test]
fn a_crash_is_one_record_with_an_indented_traceback() {
    let settings = "restarts = 1\nbackoff = { first = \"1ms\" }";
    let manifest = [HOST, &process("worker"), &supervisor(settings), &child("worker", "")].concat();
    let app = App::new(&manifest, &[("worker.lua", "local function step() error('no use') end\nstep()")]);
    let mut run = app.run(&[]);
    assert_eq!(run.end().code(), Some(1));
    let lines = run.said.join("\n");
    let crashes = run.said.iter().filter(|line| line.contains(" WARN app:worker: "));
    assert_eq!(crashes.count(), 2, "{lines}");
    let tracebacks = run.said.windows(2).filter(|lines| {
        lines[0].starts_with("    | stack traceback:")
            && lines[1].starts_with("    |   [C]: in function 'error'")
    });
    assert_eq!(tracebacks.count(), 3, "one of each crash, and one of the supervisor that gave up:\n{lines}");
    let record = run.said.iter().filter(|line| !line.starts_with("    | "));
    assert!(record.clone().all(|line| !line.contains("traceback")), "{lines}");
    let ordinary = record.filter(|line| !line.contains("gave up"));
    assert!(ordinary.clone().all(|line| line.chars().count() <= 120), "{lines}");
}

#[test]
fn what_a_script_says_passes_for_no_line_of_the_log() {
    let settings = "restarts = 1\nbackoff = { first = \"1ms\" }";
    let manifest = [HOST, &process("worker"), &supervisor(settings), &child("worker", "")].concat();
    let app = App::new(&manifest, &[("worker.lua", "error('first\\nFORGED \\27[31m')")]);
    let mut run = app.run(&[]);
    assert_eq!(run.end().code(), Some(1));
    let lines = run.said.join("\n");
    assert!(
        run.has_said("WARN app:worker: a process ended: it failed") && run.has_said("nobody starts it again"),
        "{lines}"
    );
    assert!(!run.said.iter().any(|line| line.starts_with("FORGED") || line.contains('\u{1b}')), "{lines}");
}

/// An example, in a directory of its own.
fn example(name: &str) -> App {
    let app = App { directory: tempfile::tempdir().expect("a directory") };
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    for file in fs::read_dir(example).expect("it is there") {
        let file = file.expect("it can be read").path();
        if file.is_file() {
            let name = file.file_name().expect("a file has a name");
            fs::copy(&file, app.path().join(name)).expect("it is copied");
        }
    }
    fs::create_dir_all(app.path().join("data/reports")).expect("it is made");
    app
}

#[test]
fn the_example_of_supervision_starts_again_who_fails_and_who_depends_on_it() {
    let app = example("counter");
    let mut run = app.run(&[]);
    for _ in 0..2 {
        run.wait_for("nine messages are enough");
        // Both begin anew: the sum with the first number.
        run.wait_for("{\"sum\":1}");
    }
    run.stop();
}

#[test]
fn the_example_of_groups_publishes_by_a_timer_to_readers_that_waited_for_it() {
    let app = example("news");
    let mut run = app.run(&[]);
    run.wait_for("ada reads the news");
    run.wait_for("\"delivered\":2");
    run.wait_for("grace read");
    run.wait_for("ada read");
    run.stop();
}

#[test]
#[cfg(feature = "wasm")]
fn the_example_with_everything_ticks_until_it_is_stopped() {
    let app = example("hello");
    let mut run = app.run(&[]);
    run.wait_for("ready");
    run.wait_for("{\"ticks\":2}");
    run.signal(Signal::TERM);
    assert!(run.end().success());
    assert!(run.has_said("its supervisor is shutting down"), "{}", run.said.join("\n"));
}

#[cfg(target_os = "linux")]
#[test]
fn the_limit_of_open_files_is_raised() {
    let app = App::new(&one_worker(), &[("worker.lua", &worker("one"))]);
    // Of a shell that has lowered the soft limit the program is told nothing but that.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 256; exec \"$0\" run \"$1\""]).arg(env!("CARGO_BIN_EXE_frame"));
    command.arg(app.path().join("app.toml")).env("XDG_CACHE_HOME", app.path().join("cache"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut run = App::spawn(&mut command);
    run.wait_for("one is up");
    let limits = fs::read_to_string(format!("/proc/{}/limits", run.child.id())).expect("it runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is limited");
    let [soft, hard] = [3, 4].map(|column| files.split_whitespace().nth(column).expect("two limits"));
    assert_eq!(soft, hard, "{files}");
}

#[test]
fn settings_of_http_and_the_files_they_name_take_effect_with_a_reload() {
    let certificate = include_str!("ca.pem");
    let app = App::new(&one_worker(), &[("worker.lua", &worker("v1")), ("ca.pem", certificate)]);
    let mut run = app.run(&[]);
    run.wait_for_times("v1 is up", 1);
    let manifest = format!("{}[http]\nca_files = [\"ca.pem\"]\nroots = \"only\"\n", one_worker());
    app.write("app.toml", &manifest);
    let replaced = run.reload();
    assert!(replaced.contains("changed: `[http]` replaced"), "{replaced}");
    let nothing = run.reload();
    assert!(nothing.contains("changed: nothing"), "{nothing}");
    // The manifest says the same, and the file does not.
    app.write("ca.pem", &certificate.repeat(2));
    let replaced = run.reload();
    assert!(replaced.contains("changed: `[http]` replaced"), "{replaced}");
    app.write("ca.pem", "no certificate");
    let refused = run.reload();
    assert!(refused.contains("not reloaded"), "{refused}");
    assert!(
        run.has_said("`ca_files[0]`")
            && run.has_said("app.toml:14:13")
            && run.has_said("no certificate in it"),
        "{}",
        run.said.join("\n")
    );
    run.stop();
}
