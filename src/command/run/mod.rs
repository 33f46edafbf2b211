//! `frame run`.

#[cfg(unix)]
mod control;
mod notify;
mod signals;

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;
use std::{panic, thread};

use tokio::time::{Instant, timeout};

use self::signals::Signals;
use super::Failure;
use crate::app::RunningApp;
#[cfg(unix)]
use crate::control::ManifestLock;
use crate::exit::Exit;
use crate::manifest::{self, DRAWN, Manifest, Problems};
use crate::report;
use crate::telemetry::{self, LAST_WAIT, LogArgs, LogFormat, output};
use crate::threads::{self, Workers};

/// Runs the app of a manifest until it is told to stop.
///
/// SIGHUP reads the manifest again and changes what has changed; one that is wrong changes nothing. SIGINT and SIGTERM
/// stop the app: processes are asked to end, and killed after the grace period; a second signal ends the program at once.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The manifest.
    #[arg(value_name = "MANIFEST", default_value = "app.toml")]
    manifest: PathBuf,
    /// How long all that runs has to end by itself when the app stops, or a part of it is restarted, such as 10s.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// Where to have the socket that `frame ps` asks; otherwise the path of the manifest says that. There is one run a socket.
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    control: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

/// How long reading the manifest and its sources may take when the app is reloaded.
const READ_WITHIN: Duration = Duration::from_mins(1);

/// Why an app does not go on.
enum RunEnd {
    Asked(signals::Stop),
    Down,
}

/// What a run holds beside the app.
struct Surroundings {
    signals: Signals,
    /// The thread that reads manifests and renders what is wrong with them.
    workers: Workers,
    #[cfg(unix)]
    lock: ManifestLock,
    #[cfg(unix)]
    control: Option<control::Control>,
}

impl RunArgs {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        // First of all: from now on nothing that is said waits for a reader, and no signal ends the program in between.
        output::start().map_err(|error| threads::refused("the thread that writes the log", error))?;
        log_panics();
        let signals = Signals::listen()?;
        let runtime = threads::runtime()?;
        let workers = Workers::start("frame-manifest", 1)?;

        let Some(manifest) = runtime.block_on(async {
            tokio::select! {
                manifest = self.read(&workers) => Some(manifest),
                _ = signals.stop() => None,
            }
        }) else {
            return Ok(Exit::Done);
        };
        let manifest = manifest?.map_err(|problems| Failure::of_manifest(&problems))?;
        let telemetry = telemetry::init(&self.log, manifest.otlp.as_ref(), &manifest.app.name)
            .map_err(|error| Failure::usage(report::chain(&error)))?;
        #[cfg(unix)]
        crate::descriptors::raise();
        // Before anything is made: there may be another run of this manifest.
        #[cfg(unix)]
        let lock = ManifestLock::take(&self.manifest)
            .map_err(|error| Failure::new(error.exit(), report::chain(&error)))?;
        let surroundings = Surroundings {
            signals,
            workers,
            #[cfg(unix)]
            lock,
            #[cfg(unix)]
            control: None,
        };
        let (exit, signals) = runtime.block_on(self.serve(manifest, surroundings));
        // A thread that is still blocked runs what was told to end, and killed: it is not waited for.
        runtime.shutdown_background();
        // All that is left to do is to send traces, and to write the log.
        signals.end_with_next();
        telemetry.shutdown(LAST_WAIT);
        exit
    }

    async fn read(&self, workers: &Workers) -> Result<Result<Manifest, Problems>, threads::Panicked> {
        let path = self.manifest.clone();
        workers.run(move || manifest::read(&path)).await
    }

    async fn serve(&self, manifest: Manifest, mut around: Surroundings) -> (Result<Exit, Failure>, Signals) {
        let exit = self.boot_and_attend(manifest, &mut around).await;
        // The socket is removed before the program ends.
        #[cfg(unix)]
        if let Some(control) = around.control {
            control.shutdown().await;
        }
        (exit, around.signals)
    }

    async fn boot_and_attend(&self, manifest: Manifest, around: &mut Surroundings) -> Result<Exit, Failure> {
        #[cfg(unix)]
        let _reaping = signals::reap_orphans()?;
        #[cfg(unix)]
        let name = manifest.app.name.clone();
        let booted = tokio::select! {
            booted = RunningApp::boot(manifest) => booted,
            _ = around.signals.stop() => return Ok(Exit::Done),
        };
        let app = booted.map_err(|problems| Failure::of_manifest(&problems))?;
        #[cfg(unix)]
        {
            let mut sockets = around.signals.sockets().await;
            let served = control::serve(self.control.as_deref(), &self.manifest, name, &app);
            match served {
                Ok(control) => {
                    *sockets = control.files();
                    around.control = Some(control);
                }
                Err(error) => {
                    drop(sockets);
                    self.stop(&app, Exit::Internal).await;
                    return Err(Failure::new(error.exit(), report::chain(&error)));
                }
            }
        }
        Ok(self.attend(&app, around).await)
    }

    /// Runs what is supervised, until it is told to stop or is down, and stops it.
    async fn attend(&self, app: &RunningApp, around: &mut Surroundings) -> Exit {
        let supervised = tokio::select! {
            supervised = app.supervise() => supervised,
            stop = around.signals.stop() => {
                tracing::info!("stopping, because of {stop}");
                return self.stop(app, Exit::Done).await;
            }
        };
        if let Err(problems) = supervised {
            self.say(problems, &around.workers).await;
            return self.stop(app, Exit::Internal).await;
        }
        ready(app).await;
        let stop = around.signals.clone();
        let end = tokio::select! {
            stop = stop.stop() => RunEnd::Asked(stop),
            down = app.down() => {
                let down = report::one_line(&down.to_string());
                tracing::error!("{}", report::without_traceback(&down));
                notify::degraded(&down);
                RunEnd::Down
            }
            never = self.reload_whenever(app, around) => match never {},
        };
        let exit = match end {
            RunEnd::Asked(stop) => {
                tracing::info!("stopping, because of {stop}");
                Exit::Done
            }
            RunEnd::Down => Exit::Internal,
        };
        self.stop(app, exit).await
    }

    /// Reloads one time for all signals that come while another reload changes the app. A signal that comes before, while it is
    /// read or compiled, abandons it. A reload that failed and was not undone is not done
    /// before it is.
    async fn reload_whenever(&self, app: &RunningApp, around: &mut Surroundings) -> Infallible {
        let mut health = app.health();
        let mut was_degraded = false;
        loop {
            tokio::select! {
                () = around.signals.reload() => {
                    notify::reloading();
                    app.reopen_audit_log();
                    self.renew(around).await;
                    while self.reload(app, around).await {
                        tracing::info!("the reload is abandoned for a newer one");
                    }
                }
                // The other side is in the app.
                _ = health.changed(), if was_degraded => (),
            }
            let degraded = health.borrow_and_update().clone();
            match &degraded {
                Some(degraded) => notify::degraded(&report::one_line(&degraded.to_string())),
                None if was_degraded => notify::restored(),
                None => notify::ready(),
            }
            was_degraded = degraded.is_some();
        }
    }

    /// Opens again what other programs may have moved or removed since the program opened it.
    #[cfg_attr(not(unix), expect(clippy::unused_async, clippy::unused_self, reason = "as on Unix"))]
    async fn renew(&self, around: &mut Surroundings) {
        #[cfg(unix)]
        if let Some(control) = &mut around.control {
            let mut sockets = around.signals.sockets().await;
            control.renew().await;
            *sockets = control.files();
        }
        #[cfg(not(unix))]
        let _ = around;
    }

    /// Returns whether another reload was asked for before this one changed anything.
    async fn reload(&self, app: &RunningApp, around: &mut Surroundings) -> bool {
        // The manifest may be another file now.
        #[cfg(unix)]
        if let Err(error) = around.lock.renew() {
            tracing::error!("not reloaded: the app goes on as it was, and {}", report::chain(&error));
            return false;
        }
        // A file system that hangs must not make later signals wait without a word in the log.
        let Ok(read) = timeout(READ_WITHIN, self.read(&around.workers)).await else {
            tracing::error!(
                "the manifest and its sources were not read within {READ_WITHIN:?}; the app goes on as it was"
            );
            return false;
        };
        let reloaded = match read {
            Ok(Ok(manifest)) => {
                let newer = around.signals.clone();
                app.reload_unless(manifest, self.grace, newer.reload()).await
            }
            Ok(Err(problems)) => Err(problems),
            Err(error) => {
                tracing::error!(%error, "the manifest was not read; the app goes on as it was");
                return false;
            }
        };
        match reloaded {
            Ok(Some(changes)) => tracing::info!("reloaded, changed: {changes}"),
            Ok(None) => return true,
            Err(problems) => {
                let count = problems.count();
                self.say(problems, &around.workers).await;
                match app.degraded() {
                    None => {
                        tracing::error!(problems = count, "not reloaded: the app goes on as it was");
                    }
                    Some(degraded) => {
                        let degraded = report::one_line(&degraded.to_string());
                        tracing::error!(problems = count, "not reloaded, and not as it was: {degraded}");
                    }
                }
            }
        }
        false
    }

    /// Says what is wrong while the app runs: in the log, and to people with the lines of the file, too.
    async fn say(&self, problems: Problems, workers: &Workers) {
        // The log is of programs, which can make nothing of another report.
        let is_for_people = self.log.format != LogFormat::Json;
        let said = workers.run(move || {
            for problem in problems.iter().take(DRAWN) {
                let (line, column) = problem.file.position(problem.span.start);
                let (label, help) = (problem.label.as_deref(), problem.help.as_deref());
                tracing::error!(file = problem.file.name, line, column, label, help, "{}", problem.message);
            }
            if is_for_people {
                Failure::of_manifest(&problems).offer();
            }
        });
        if let Err(error) = said.await {
            tracing::error!(%error, "what is wrong with the manifest was not shown");
        }
    }

    /// Stops the app. A second signal ends the whole program.
    async fn stop(&self, app: &RunningApp, exit: Exit) -> Exit {
        notify::stopping();
        let now = Instant::now();
        // A year is no limit.
        let deadline = now.checked_add(self.grace).unwrap_or(now + Duration::from_hours(365 * 24));
        let stopped = app.stop(deadline).await;
        if stopped.is_clean() {
            tracing::info!("stopped: {stopped}");
        } else {
            tracing::warn!("stopped: {stopped}");
        }
        exit
    }
}

async fn ready(app: &RunningApp) {
    let counts = app.counts().await;
    tracing::info!(
        functions = counts.functions,
        processes = counts.processes,
        supervisors = counts.supervisors,
        hosts = counts.hosts,
        networks = counts.networks,
        "ready"
    );
    if counts.supervisors == 0 {
        tracing::warn!(
            "nothing is supervised: nothing runs until it is called or started; add `[supervisors]`"
        );
    }
    notify::ready();
}

/// Has panics logged. The hook by default writes to standard error itself, and would wait for a reader that does not read, on
/// a thread that has others to serve.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let thread = thread.name().unwrap_or("<unnamed>");
        let location = panic.location().map(tracing::field::display);
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(thread, location, backtrace, "a panic: {}", message(panic.payload()));
    }));
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a value that is not text")
}
