//! The side of the run.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::{self, Metadata};
use std::future::pending;
use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frame_dispatch::process::ProcessManager;
use rustix::process::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::address::{BindError, Claim, ControlAddress, shown};
use super::family::Family;
use super::protocol::{self, Command, MAX_REQUEST, RunInfo};
use crate::app::{Health, Quarantines};
use crate::report;
use crate::threads::Workers;

/// How many connections there are at once. For another the oldest is closed.
const CONNECTIONS: usize = 64;
/// How long one connection may take, from being accepted to having its answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many answers are made at once.
const THREADS: usize = 1;
/// How long the server waits where it cannot accept, as where the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(200);

/// What a run tells of itself.
#[derive(Debug, Clone)]
pub(crate) struct ControlHandle {
    /// The name of the app.
    pub(crate) app: String,
    /// Its manifest.
    pub(crate) manifest: PathBuf,
    /// When the run began.
    pub(crate) started: Instant,
    /// Its processes.
    pub(crate) processes: ProcessManager,
    /// What of it is quarantined.
    pub(crate) quarantines: Quarantines,
    /// Whether it is what its manifest says.
    pub(crate) health: Health,
}

impl ControlHandle {
    fn running(&self, mut family: Family) -> Vec<u8> {
        let processes = self.processes.processes();
        let down = mem::take(&mut family.down);
        protocol::answer(RunInfo {
            app: self.app.clone(),
            manifest: self.manifest.to_string_lossy().into_owned(),
            pid: std::process::id(),
            uptime: self.started.elapsed().as_secs_f64(),
            processes: processes.iter().map(|process| family.member(process)).collect(),
            omitted: 0,
            down,
            down_omitted: 0,
            quarantined: self.quarantines.list(),
            degraded: self.health.borrow().as_ref().map(ToString::to_string),
        })
    }
}

/// The socket of a run. Dropped, it removes the socket.
#[derive(Debug)]
pub(crate) struct Server {
    address: ControlAddress,
    handle: ControlHandle,
    /// `None` if the socket was removed, and could not be made again.
    bound: Option<Bound>,
    /// The thread that makes answers: thousands of processes take a while.
    workers: Arc<Workers>,
}

#[derive(Debug)]
struct Bound {
    listener: UnixListener,
    claim: Claim,
    /// The socket as it was made.
    made: Option<Metadata>,
}

impl Bound {
    /// Listens at the first path of `place` that can be used.
    fn new(address: &ControlAddress) -> Result<Self, BindError> {
        let (claim, listener, first) = address.listen()?;
        let failed = |source| BindError::new(claim.socket(), source);
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        let made = if claim.is_abstract() {
            None
        } else {
            Some(fs::symlink_metadata(claim.socket()).map_err(failed)?)
        };
        if let Some(first) = first {
            let why = report::chain(&first);
            tracing::warn!("`frame ps` is answered at {} instead: {why}", shown(claim.socket()));
        }
        Ok(Self { listener, claim, made })
    }

    fn is_in_place(&self) -> bool {
        self.made.as_ref().is_none_or(|made| self.claim.is_in_place(made))
    }
}

impl Server {
    /// Takes the address, and listens there. Who connects waits until the server is [served](Self::serve).
    ///
    /// # Errors
    ///
    /// [`BindError::AlreadyRunning`] if another run has the place; [`BindError::Io`] if none of its paths can be used, as where
    /// a directory is another user's.
    ///
    /// # Panics
    ///
    /// Outside of a runtime of tokio that has I/O.
    pub(crate) fn bind(address: ControlAddress, handle: ControlHandle) -> Result<Self, BindError> {
        let bound = Bound::new(&address)?;
        let workers = Workers::start("frame-control", THREADS)
            .map_err(|source| BindError::new(bound.claim.socket(), source))?;
        Ok(Self { address, handle, bound: Some(bound), workers: Arc::new(workers) })
    }

    /// Returns where the socket is, for people.
    pub(crate) fn shown(&self) -> String {
        self.bound.as_ref().map(|bound| shown(bound.claim.socket())).unwrap_or_default()
    }

    /// Returns the files that a process leaves which ends without dropping this.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.bound.as_ref().map(|bound| bound.claim.files()).unwrap_or_default()
    }

    /// Listens again if the socket or its lock was removed, as cleaners of `/tmp` do. Returns whether that was so.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind). Nothing listens then, and the next renewal tries again.
    ///
    /// # Panics
    ///
    /// As [`bind`](Self::bind).
    pub(crate) fn renew(&mut self) -> Result<bool, BindError> {
        if self.bound.as_ref().is_some_and(Bound::is_in_place) {
            return Ok(false);
        }
        // What is left of the earlier place is removed first, its lock among it.
        self.bound = None;
        self.bound = Some(Bound::new(&self.address)?);
        Ok(true)
    }

    /// Answers whoever asks, and is this user or root.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the connections that there are. The server can be served again.
    pub(crate) async fn serve(&self) -> Infallible {
        let Some(bound) = &self.bound else { return pending().await };
        let mut connections = JoinSet::new();
        let mut oldest_first = VecDeque::new();
        loop {
            match bound.listener.accept().await {
                Ok((stream, _)) => {
                    let trusted = stream.peer_cred().is_ok_and(|peer| is_trusted(peer.uid()));
                    if !trusted {
                        tracing::debug!("another user is refused at the control socket");
                        continue;
                    }
                    let (handle, workers) = (self.handle.clone(), Arc::clone(&self.workers));
                    let connection = connections.spawn(async move {
                        // Who is not served in time, or goes away, has nothing to be told.
                        let _ = timeout(DEADLINE, converse(stream, handle, &workers)).await;
                    });
                    oldest_first.push_back(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket accepts nobody just now");
                    sleep(PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
            oldest_first.retain(|connection| !connection.is_finished());
            // The one that came last has most likely something to ask; the others had time for that.
            while oldest_first.len() > CONNECTIONS
                && let Some(oldest) = oldest_first.pop_front()
            {
                oldest.abort();
            }
        }
    }
}

async fn converse(stream: UnixStream, handle: ControlHandle, workers: &Workers) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut request = Vec::new();
    // One byte more than is allowed, to see that it is too long.
    BufReader::new(reader.take(MAX_REQUEST as u64 + 1)).read_until(b'\n', &mut request).await?;
    let answer = match protocol::parse_request(&request) {
        Ok(Command::Ps) => {
            let family = Family::of(&handle.processes).await;
            workers.run(move || handle.running(family)).await.map_err(io::Error::other)?
        }
        Err(error) => protocol::refusal(&error),
    };
    writer.write_all(&answer).await?;
    writer.shutdown().await
}

/// Whether a user may ask this process, or answer it: the one that it runs as, or root.
pub(crate) fn is_trusted(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use frame_dispatch::Functions;
    use frame_dispatch::process::{HostConfig, ProcessContext, Spawn};
    use frame_registry::{App, Options};
    use tokio::net::UnixStream;

    use super::super::client::{AskError, ask};
    use super::super::protocol::AnswerError;
    use super::*;

    /// Long enough for anything that does happen.
    const PATIENCE: Duration = Duration::from_mins(1);

    struct Run {
        _directory: tempfile::TempDir,
        address: ControlAddress,
        processes: ProcessManager,
        served: JoinSet<Infallible>,
    }

    fn handle(processes: &ProcessManager) -> ControlHandle {
        let manifest = "/srv/hello/app.toml".into();
        ControlHandle {
            app: "hello".to_owned(),
            manifest,
            started: Instant::now(),
            processes: processes.clone(),
            quarantines: Quarantines::default(),
            health: tokio::sync::watch::Sender::new(None).subscribe(),
        }
    }

    fn run() -> Run {
        let directory = tempfile::tempdir().unwrap();
        let address = ControlAddress::At(directory.path().join("control.sock"));
        let processes = ProcessManager::new(Functions::new(App::builder().build()));
        processes.register_host("app:workers".parse().unwrap(), HostConfig::default()).unwrap();
        let mut serving = JoinSet::new();
        let server = Server::bind(address.clone(), handle(&processes)).unwrap();
        serving.spawn(async move { server.serve().await });
        Run { _directory: directory, address, processes, served: serving }
    }

    async fn say(address: &ControlAddress, text: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(&address.sockets()[0]).await.unwrap();
        // It may have been closed before all of a long request was read.
        let _ = stream.write_all(text).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is served in time");
        answer
    }

    #[tokio::test]
    async fn who_asks_is_told_of_the_run_and_its_processes() {
        let run = run();
        let wait = async |mut ctx: ProcessContext, _| {
            ctx.receive().await;
            Ok(frame_dispatch::Payload::default())
        };
        run.processes.register("app:wait".parse().unwrap(), Options::new(), wait).unwrap();
        let start =
            Spawn::new("app:workers".parse().unwrap(), "app:wait".parse().unwrap()).with_name("waiter");
        let pid = run.processes.spawn(&run.processes.functions().root(), start).unwrap();

        let running = ask(&run.address).await.unwrap();
        assert_eq!((running.app.as_str(), running.pid), ("hello", std::process::id()));
        let [process] = &running.processes[..] else { panic!("{running:?}") };
        assert_eq!((process.pid.clone(), &process.names[..]), (pid.to_string(), &["waiter".to_owned()][..]));
        assert_eq!((process.entry.as_str(), process.host.as_str()), ("app:wait", "app:workers"));
    }

    #[tokio::test]
    async fn a_second_run_is_refused_and_the_socket_is_gone_with_the_first() {
        let mut run = run();
        let second = Server::bind(run.address.clone(), handle(&run.processes));
        assert!(matches!(second, Err(BindError::AlreadyRunning { pid: Some(_), .. })));
        run.served.shutdown().await;
        assert!(!run.address.sockets()[0].exists());
        assert!(matches!(ask(&run.address).await, Err(AskError::NotRunning { .. })));
    }

    #[tokio::test]
    async fn what_is_no_request_is_answered_with_why() {
        let run = run();
        for text in [&b"ps\n"[..], b"\n", b"{\"version\":1}\n", &[0xff; 3 * MAX_REQUEST]] {
            let answer = say(&run.address, text).await;
            // A connection that is closed with something unread may lose what was answered.
            if text.len() < MAX_REQUEST {
                assert!(matches!(protocol::parse_answer(&answer), Err(AnswerError::Refused(_))), "{text:?}");
            }
        }
    }

    #[tokio::test]
    async fn those_who_say_nothing_are_let_go_and_others_are_served_at_once() {
        let run = run();
        let mut silent = Vec::new();
        // Were they served one after another, that would take minutes.
        for _ in 0..10 * CONNECTIONS {
            silent.push(UnixStream::connect(&run.address.sockets()[0]).await.unwrap());
        }
        let answer = say(&run.address, &protocol::request(Command::Ps)).await;
        assert_eq!(protocol::parse_answer(&answer).unwrap().app, "hello");
        for mut stream in silent {
            let mut rest = Vec::new();
            timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
            assert_eq!(rest, b"");
        }
    }

    #[tokio::test]
    async fn a_socket_that_was_removed_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let processes = ProcessManager::new(Functions::new(App::builder().build()));
        let mut server = Server::bind(ControlAddress::At(socket.clone()), handle(&processes)).unwrap();
        assert!(!server.renew().unwrap());
        for remove in [&[socket.clone()][..], &server.files()] {
            for file in remove {
                fs::remove_file(file).unwrap();
            }
            assert!(server.renew().unwrap() && socket.exists());
            assert!(!server.renew().unwrap());
        }
        drop(server);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn this_user_and_root_are_trusted_and_no_others() {
        let user = geteuid().as_raw();
        assert!(is_trusted(0) && is_trusted(user));
        assert!(!is_trusted(user + 1));
    }
}
