//! `frame run`.

#[cfg(unix)]
mod control;
mod notify;
#[cfg(unix)]
mod orphans;
mod signals;

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use self::signals::{Reloads, Stops};
use super::Failure;
use crate::app::RunningApp;
use crate::exit::Exit;
use crate::manifest::{self, Manifest, Problems};
use crate::report;
use crate::telemetry::{self, LogArgs, LogFormat};

/// How long the last traces may take to be sent.
const LAST_TRACES: Duration = Duration::from_secs(5);

/// Runs the app of a manifest until it is told to stop.
///
/// SIGHUP reads the manifest again and changes what has changed; one that is wrong changes nothing. SIGINT and SIGTERM
/// stop the app: processes are asked to end, and killed after the grace period; a second signal ends the program at once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
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

/// Why an app does not go on.
enum End {
    Asked(signals::Stop),
    Down,
}

impl Args {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let manifest = manifest::read(&self.manifest).map_err(|problems| Failure::of_manifest(&problems))?;
        let telemetry = telemetry::init(&self.log, manifest.otlp.as_ref(), &manifest.app.name)
            .map_err(|error| Failure::usage(report::chain(&error)))?;
        #[cfg(unix)]
        crate::descriptors::raise();
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let exit = runtime.block_on(self.serve(manifest));
        // A thread that is still blocked runs what was told to end, and killed: it is not waited for.
        runtime.shutdown_background();
        end_if_told_again()?;
        telemetry.shutdown(LAST_TRACES);
        exit
    }

    async fn serve(&self, manifest: Manifest) -> Result<Exit, Failure> {
        let (mut reloads, mut stops) = (Reloads::listen()?, Stops::listen()?);
        #[cfg(unix)]
        let _reaping = orphans::reap()?;
        #[cfg(unix)]
        let name = manifest.app.name.clone();
        let booted = tokio::select! {
            booted = RunningApp::boot(manifest) => booted,
            _ = stops.next() => return Ok(Exit::Done),
        };
        let app = booted.map_err(|problems| Failure::of_manifest(&problems))?;
        // Before anything runs: there may be another run of this manifest.
        #[cfg(unix)]
        let mut control = match control::serve(self.control.as_deref(), &self.manifest, name, &app) {
            Ok(serving) => serving,
            Err(error) => {
                self.stop(&app, &mut stops, Exit::Internal).await;
                return Err(Failure::new(error.exit(), report::chain(&error)));
            }
        };
        let exit = self.attend(&app, &mut reloads, &mut stops).await;
        // The socket is removed before the program ends.
        #[cfg(unix)]
        control.shutdown().await;
        Ok(exit)
    }

    /// Runs what is supervised, until it is told to stop or is down, and stops it.
    async fn attend(&self, app: &RunningApp, reloads: &mut Reloads, stops: &mut Stops) -> Exit {
        if let Err(problems) = app.supervise().await {
            self.say(&problems);
            return self.stop(app, stops, Exit::Internal).await;
        }
        ready(app).await;
        let end = tokio::select! {
            stop = stops.next() => End::Asked(stop),
            down = app.down() => {
                let down = report::one_line(&down.to_string());
                tracing::error!("{down}");
                notify::degraded(&down);
                End::Down
            }
            never = self.reload_whenever(reloads, app) => match never {},
        };
        let exit = match end {
            End::Asked(stop) => {
                tracing::info!("stopping, because of {stop}");
                Exit::Done
            }
            End::Down => Exit::Internal,
        };
        self.stop(app, stops, exit).await
    }

    /// Reloads one time for all signals that come while another reload runs. A reload that failed and was not undone is not done
    /// before it is.
    async fn reload_whenever(&self, reloads: &mut Reloads, app: &RunningApp) -> Infallible {
        let mut health = app.health();
        let mut was_degraded = false;
        loop {
            tokio::select! {
                () = reloads.next() => {
                    notify::reloading();
                    self.reload(app).await;
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

    async fn reload(&self, app: &RunningApp) {
        tracing::info!("reading the manifest again");
        let path = self.manifest.clone();
        let reloaded = match spawn_blocking(move || manifest::read(&path)).await {
            Ok(Ok(manifest)) => app.reload(manifest, self.grace).await,
            Ok(Err(problems)) => Err(problems),
            Err(error) => {
                tracing::error!(%error, "the manifest was not read; the app goes on as it was");
                return;
            }
        };
        match reloaded {
            Ok(changes) => tracing::info!("reloaded, changed: {changes}"),
            Err(problems) => {
                self.say(&problems);
                match app.degraded() {
                    None => {
                        tracing::error!(
                            problems = problems.0.len(),
                            "not reloaded: the app goes on as it was"
                        );
                    }
                    Some(degraded) => {
                        let degraded = report::one_line(&degraded.to_string());
                        tracing::error!(
                            problems = problems.0.len(),
                            "not reloaded, and not as it was: {degraded}"
                        );
                    }
                }
            }
        }
    }

    /// Says what is wrong while the app runs: in the log, and to people with the lines of the file, too.
    fn say(&self, problems: &Problems) {
        for problem in &problems.0 {
            let (line, column) = problem.file.position(problem.span.start);
            let (label, help) = (problem.label.as_deref(), problem.help.as_deref());
            tracing::error!(file = problem.file.name, line, column, label, help, "{}", problem.message);
        }
        // Who reads JSON line by line can make nothing of another report.
        if self.log.format != LogFormat::Json {
            Failure::of_manifest(problems).print();
        }
    }

    /// Stops the app, or where somebody asks for it a second time the whole program.
    async fn stop(&self, app: &RunningApp, stops: &mut Stops, exit: Exit) -> Exit {
        notify::stopping();
        let now = Instant::now();
        // A year is no limit.
        let deadline = now.checked_add(self.grace).unwrap_or(now + Duration::from_hours(365 * 24));
        let stopped = tokio::select! {
            stopped = app.stop(deadline) => stopped,
            second = stops.next() => {
                tracing::error!("ended at once, because of {second}");
                process::exit(second.exit_code());
            }
        };
        if stopped.is_clean() {
            tracing::info!("stopped: {stopped}");
        } else {
            tracing::warn!("stopped: {stopped}");
        }
        exit
    }
}

/// From now on a signal ends the program at once: all that it has left to do is to send traces.
fn end_if_told_again() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut stops = {
        let _entered = runtime.enter();
        Stops::listen()?
    };
    thread::spawn(move || {
        let second = runtime.block_on(stops.next());
        tracing::error!("ended at once, because of {second}");
        process::exit(second.exit_code());
    });
    Ok(())
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
