//! The program in bad surroundings: it runs, or says why not and exits with a code that the guide lists. Nothing is left.
//!
//! Where a condition needs root, such as another user, the test is skipped without it.

mod disks;
mod environment;
mod limits;
mod owners;
mod signals;
mod streams;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::run::{self, App, PATIENCE, Run, one_worker};

/// What `frame run` exits with, by the guide.
const DOCUMENTED: [i32; 7] = [0, 1, 2, 8, 9, 130, 143];

/// A process that waits until it is told to end.
const WORKER: &str = "log.info('the worker is up')
    repeat
      local message = process.receive(0.01)
    until message and message.kind == 'cancelled'";

/// An app with directories of its own for sockets and temporary files.
struct Surroundings {
    app: App,
    /// The user that the program runs as, if it is another.
    user: Option<u32>,
}

impl Surroundings {
    fn new() -> Self {
        Self::with(&one_worker(), &[("worker.lua", WORKER)])
    }

    fn with(manifest: &str, sources: &[(&str, &str)]) -> Self {
        let functions = "[functions.\"app:echo\"]\nengine = \"lua\"\nsource = \"echo.lua\"\n";
        let app = App::new(&format!("{manifest}{functions}"), sources);
        app.write("echo.lua", "return ...");
        for name in ["session", "temporary"] {
            fs::DirBuilder::new().mode(0o700).create(app.path().join(name)).expect("it is made");
        }
        Self { app, user: None }
    }

    /// The same, for a user of its own. `None` if that needs privileges that the test has not.
    fn of_another_user() -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: this needs root");
            return None;
        }
        let mut surroundings = Self::new();
        // No other test has it, nor anything else on this machine.
        let user = 400_000 + std::process::id() % 1_000_000;
        surroundings.user = Some(user);
        surroundings.give_to(user);
        Some(surroundings)
    }

    fn give_to(&self, user: u32) {
        let root = self.app.path();
        let entries = fs::read_dir(root).expect("it is there").map(|entry| entry.expect("it is read").path());
        for path in entries.chain([root.to_owned()]) {
            chown(path, Some(user), Some(user)).expect("root may");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.app.path().join(name)
    }

    fn manifest(&self) -> PathBuf {
        self.path("app.toml")
    }

    /// A command whose last arguments are the program and its own.
    fn command(&self, before: &[&str], arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_frame");
        let words: Vec<&str> = [before, &[program], arguments].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.env("XDG_RUNTIME_DIR", self.path("session")).env("TMPDIR", self.path("temporary"));
        command.env("XDG_CACHE_HOME", self.path("cache")).env("NO_COLOR", "1").env(MARK, self.app.path());
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    fn run_command(&self, before: &[&str], arguments: &[&str]) -> Command {
        let manifest = self.manifest();
        let manifest = manifest.to_str().expect("text");
        self.command(before, &[&["run", manifest], arguments].concat())
    }

    fn ps(&self) -> Output {
        let manifest = self.manifest();
        let mut command = self.command(&[], &["ps", manifest.to_str().expect("text")]);
        command.stdout(Stdio::piped()).output().expect("it runs")
    }

    /// Runs the program: it is reloaded and stopped if it starts. Returns whether it did.
    #[track_caller]
    fn run_and_stop(&self, what: &str, mut command: Command) -> bool {
        let mut run = Run::spawn(&mut command);
        let is_ready = run.wait_for_or_end("ready");
        if is_ready {
            run.signal(Signal::HUP);
            if run.wait_for_or_end("reloaded") {
                run.signal(Signal::TERM);
            }
        }
        let status = run.end();
        let said = run.said.join("\n");
        if is_out_of_memory(status, &said) {
            // The allocator has no other way to say it. The next run removes the socket.
            return false;
        }
        if is_ready {
            assert_eq!(status.code(), Some(0), "{what}: {status}\n{said}");
        } else {
            let is_documented = status.code().is_some_and(|code| code != 0 && DOCUMENTED.contains(&code));
            assert!(is_documented, "{what}: {status}\n{said}");
            assert!(!said.is_empty(), "{what}: it has said nothing");
            assert!(!said.contains("panic"), "{what}: {said}");
        }
        self.assert_nothing_left(what);
        is_ready
    }

    /// No socket, no temporary file and no process is left.
    #[track_caller]
    fn assert_nothing_left(&self, what: &str) {
        for directory in ["session/frame", "temporary"] {
            match fs::read_dir(self.path(directory)) {
                Ok(entries) => {
                    let left: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
                    assert!(left.is_empty(), "{what}: {left:?} are left");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{what}: {error}"),
            }
        }
        let mark = format!("{MARK}={}\0", self.app.path().display());
        let begun = Instant::now();
        // A child that was told to end by a signal may take a moment.
        while let Some(process) = marked(&mark) {
            assert!(begun.elapsed() < PATIENCE, "{what}: the process {process} is left");
            std::thread::yield_now();
        }
    }
}

/// The environment variable that tells the processes of a test.
const MARK: &str = "FRAME_TEST_SURROUNDINGS";

fn marked(mark: &str) -> Option<String> {
    let processes = fs::read_dir("/proc").expect("there is /proc").flatten();
    processes
        .map(|process| process.path())
        .find(|path| {
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|window| window == mark.as_bytes())
        })
        .map(|path| path.display().to_string())
}

fn is_out_of_memory(status: ExitStatus, said: &str) -> bool {
    status.signal() == Some(Signal::ABORT.as_raw()) && said.contains("memory allocation of")
}

/// A program whose standard error is not what tells how far it is: it tells a service manager.
struct Notified {
    child: Child,
    socket: UnixDatagram,
}

impl Notified {
    fn spawn(surroundings: &Surroundings, command: &mut Command) -> Self {
        let path = surroundings.path("notify");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        if let Some(user) = surroundings.user {
            chown(&path, Some(user), Some(user)).expect("root may");
        }
        let child = command.env("NOTIFY_SOCKET", &path).spawn().expect("it was built");
        Self { child, socket }
    }

    #[track_caller]
    fn wait_for(&self, state: &str) {
        let mut message = [0; 256];
        loop {
            let length = self.socket.recv(&mut message).unwrap_or_else(|error| panic!("no {state}: {error}"));
            if message[..length].starts_with(state.as_bytes()) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it goes on");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// It is ready, reloads, answers `frame ps`, and stops.
    #[track_caller]
    fn live(mut self, surroundings: &Surroundings, what: &str) {
        self.wait_for("READY=1");
        self.signal(Signal::HUP);
        self.wait_for("RELOADING=1");
        self.wait_for("READY=1");
        let asked = surroundings.ps();
        assert!(asked.status.success(), "{what}: {}", super::stderr(&asked));
        self.signal(Signal::TERM);
        let status = self.end();
        assert_eq!(status.code(), Some(0), "{what}: {status}");
        surroundings.assert_nothing_left(what);
    }
}

impl Drop for Notified {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A shell that sets a limit with `ulimit`, and becomes the program.
fn ulimit(limit: &str) -> [String; 4] {
    ["sh".to_owned(), "-c".to_owned(), format!("ulimit {limit} && exec \"$@\""), "sh".to_owned()]
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Whether a command with these privileges can be run.
fn can(command: &[&str]) -> bool {
    let tried = Command::new(command[0]).args(&command[1..]).arg("true").output();
    let can = tried.as_ref().is_ok_and(|tried| tried.status.success());
    if !can {
        eprintln!("SKIPPED: this needs {command:?}: {tried:?}");
    }
    can
}
