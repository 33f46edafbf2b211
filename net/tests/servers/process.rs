//! A server while it runs.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::program::run;

/// How long a server may take for what it is to do at once: far longer than it needs, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A server that runs, and what it has logged so far. Dropping it ends it, and waits for that.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: watch::Receiver<String>,
    // Behind a lock because servers are shared between tests, and a receiver is not.
    log_closed: Mutex<mpsc::Receiver<()>>,
}

impl Process {
    /// Starts `command`, which is to stay in the foreground and to log to its standard output or error.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = spawn_on_lasting_thread(command).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (logged, log) = watch::channel(String::new());
        let (is_closed, log_closed) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                logged.send_modify(|log| log.extend([&*line, "\n"]));
            }
            drop(logged);
            let _ = is_closed.send(());
        });
        Self { name: name.to_owned(), child, log, log_closed: Mutex::new(log_closed) }
    }

    /// Waits until it has logged `text`.
    ///
    /// # Panics
    ///
    /// If it ends first, or takes longer than [`PATIENCE`].
    pub async fn logged(&self, text: &str) {
        self.logs(|log| log.contains(text), text).await;
    }

    /// Waits until its log is as `is` says, which is `what`.
    ///
    /// # Panics
    ///
    /// If it ends first, or takes longer than [`PATIENCE`].
    pub async fn logs(&self, is: impl Fn(&str) -> bool, what: &str) {
        let mut log = self.log.clone();
        let why = match timeout(PATIENCE, log.wait_for(|log| is(log))).await {
            Ok(Ok(_)) => return,
            Ok(Err(_)) => "it ended",
            Err(_) => "it takes too long",
        };
        panic!("{} did not log {what:?}: {why}", self.name);
    }

    /// Sends it a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        run(kill.args(["-s", name]).arg(self.child.id().to_string()));
    }

    /// Waits until it accepts connections on `address`, for a server that does not log when it does.
    ///
    /// # Panics
    ///
    /// If it ends first, or takes longer than [`PATIENCE`].
    pub async fn accepts(&self, address: SocketAddr) {
        let mut log = self.log.clone();
        let connected = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let why = tokio::select! {
            () = connected => return,
            // The log never satisfies this, it only closes.
            _ = log.wait_for(|_| false) => "it ended",
            () = sleep(PATIENCE) => "it takes too long",
        };
        panic!("{} does not accept on {address}: {why}", self.name);
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Shows the end of the log with the output of the test.
    pub fn show_log(&self) {
        const LINES: usize = 40;
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        eprintln!("the log of {} ends with", self.name);
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            eprintln!("    {line}");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What it has forked holds the log open, and ends when it notices.
        let log_closed = self.log_closed.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = log_closed.recv_timeout(PATIENCE);
        if thread::panicking() {
            self.show_log();
        }
    }
}

/// Starts `command` on a thread that lives as long as this process. What the kernel ends with its parent, it ends with
/// the thread that started it: a test's thread may end before a server that others still use.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, spawned) in jobs {
                let _ = spawned.send(command.spawn());
            }
        });
        sender
    });
    let (sender, spawned) = mpsc::channel();
    SPAWNER.send((command, sender)).expect("the thread lasts");
    spawned.recv().expect("the thread lasts")
}
