//! `frame call`.

mod input;
mod outcome;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use clap::ValueEnum;
use frame_dispatch::{CallContext, FunctionId, Payload, Task};
use frame_registry::text;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::input::{GivenOption, Input};
use self::outcome::Failed;
use super::Failure;
use crate::app::RunningApp;
use crate::exit::Exit;
use crate::explain::{Explain, Explanation};
use crate::manifest::{self, Manifest, Problems};
use crate::telemetry::{self, LogArgs, output};
use crate::{report, threads};

/// Calls one function of an app, and prints what it gives back.
///
/// The app is made as `frame run` makes it, with its networks, its options and its limits, but no supervisor is started.
/// The result goes to standard output, and everything else to standard error. The exit code says what kind of failure
/// there was.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help(), override_usage = "frame call [OPTIONS] [MANIFEST] <ID> [JSON]")]
pub(super) struct CallArgs {
    /// The manifest of the app; `app.toml`, if the first argument is the id of a function.
    #[arg(value_name = "MANIFEST", value_hint = clap::ValueHint::FilePath)]
    first: Option<String>,
    /// The id of the function, such as `app:greet`.
    #[arg(value_name = "ID", allow_negative_numbers = true)]
    second: Option<String>,
    /// The payload: JSON, or `@FILE` for the content of a file, or `-` for standard input. Without it, null.
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    third: Option<String>,
    /// Gives the function the payload as bytes, and not as JSON.
    #[arg(long)]
    bytes: bool,
    /// An option of the call, over what the manifest presets; several times for several. The value is JSON, or else a text.
    /// `frame options` lists the names.
    #[arg(short = 'o', long = "option", value_name = "NAME=VALUE")]
    options: Vec<GivenOption>,
    /// The time after which the call is given up, such as `2s` or `500ms`.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// How to print the result, or the error.
    #[arg(long, value_enum, default_value_t)]
    format: CallFormat,
    /// Shows how the frame of the call came to be, and those of what it calls: each pair, the resolver that made it, and
    /// because of which option. To standard error, behind everything else.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// How the outcome of a call is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum CallFormat {
    /// For people: JSON of several lines; an error with what caused it, line by line.
    #[default]
    Pretty,
    /// For programs: JSON in one line. An error is one too, `{"error":{"kind":…}}`, the last of standard error.
    Json,
    /// What the result is, and nothing around it: bytes as they are, a text without quotes.
    Raw,
}

fn help() -> String {
    let codes = Exit::help();
    format!(
        "\
Examples:
  frame call app:greet '{{\"name\":\"Ada\"}}'
  frame call app.toml app:fetch '\"https://example.com/\"' -o network=app:tor --timeout 30s
  frame call app.toml app:import @orders.json -o 'retry={{\"attempts\":3}}'
  frame call app.toml app:resize --bytes - --format raw < large.png > small.png

A result of bytes is printed as {{\"base64\":\"…\"}}, unless the format is raw.
Ctrl-C cancels the call; pressed again, it does not wait for that.

{codes}"
    )
}

/// What is called, and with what.
struct Target {
    manifest: PathBuf,
    function: FunctionId,
    payload: Option<Input>,
}

impl Target {
    /// Reads `[MANIFEST] <ID> [JSON]`. An id, which has a colon, is not taken for a manifest.
    fn of(arguments: [Option<String>; 3]) -> Result<Self, Failure> {
        const USAGE: &str = "write `frame call [MANIFEST] <ID> [JSON]`";
        let mut arguments = arguments.into_iter().flatten().peekable();
        let is_id = |argument: &String| argument.parse::<FunctionId>().is_ok();
        let manifest = match arguments.next_if(|argument| !is_id(argument)) {
            Some(manifest) => manifest.into(),
            None => PathBuf::from("app.toml"),
        };
        let Some(function) = arguments.next() else {
            return Err(Failure::usage(format_args!("the id of the function is missing; {USAGE}")));
        };
        let function = function.parse().map_err(|error| {
            Failure::usage(report::one_line(&format!("invalid function id: {}", report::chain(&error))))
        })?;
        // Reading it cannot fail.
        let payload = arguments.next().and_then(|payload| payload.parse().ok());
        match arguments.next() {
            Some(_) => Err(Failure::usage(format_args!("there is an argument after the payload; {USAGE}"))),
            None => Ok(Self { manifest, function, payload }),
        }
    }
}

impl CallArgs {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let options = input::options(&self.options)?;
        let Target { manifest: path, function: id, payload } =
            Target::of([self.first, self.second, self.third])?;
        if self.bytes && payload.is_none() {
            return Err(Failure::usage("`--bytes` needs a payload; add it after the id of the function"));
        }
        let input = payload.unwrap_or_default();
        if input == Input::Stdin && path == Path::new(manifest::STDIN) {
            return Err(Failure::usage("the manifest and the payload cannot both come from standard input"));
        }
        let manifest = manifest::examine_once(&path).into_result();
        let manifest = manifest.map_err(|problems| refused(&problems, self.format))?;
        let Some(function) = manifest.functions.get(&id) else {
            return Err(missing(&manifest, &id).into_failure(self.format));
        };
        // Read before anything is made: what comes from a terminal can take long, and Ctrl-C ends that as it ends anything.
        let payload = input.read(self.bytes, function.value.limits.memory())?;
        let task = Task::new(id).with_payload(payload).with_options(options);
        output::start().map_err(|error| threads::refused("the thread that writes the log", error))?;
        let telemetry = telemetry::init(&self.log, manifest.otlp.as_ref(), &manifest.app.name)
            .map_err(|error| Failure::usage(report::chain(&error)))?;
        #[cfg(unix)]
        crate::descriptors::raise();
        let runtime = threads::runtime()?;
        let called = runtime.block_on(call(manifest, task, self.timeout, self.format, self.explain));
        // What blocks its thread is not waited for.
        runtime.shutdown_background();
        let said = called.and_then(|called| said(called, self.format));
        // Whoever waits for the result has it before the last traces are sent.
        let exit = said.unwrap_or_else(|failure| {
            failure.print();
            failure.exit()
        });
        telemetry.shutdown(GRACE);
        Ok(exit)
    }
}

/// Says what became of a call.
fn said(Called { outcome, explanation }: Called, format: CallFormat) -> Result<Exit, Failure> {
    if let Some(explanation) = explanation {
        show(&explanation, format)?;
    }
    match outcome {
        Ok(result) => outcome::print(&result, format)?,
        Err(failed) => return Err(failed.into_failure(format)),
    }
    Ok(Exit::Done)
}

/// Shows how the frames of a call came to be.
fn show(explanation: &Explanation, format: CallFormat) -> Result<(), Failure> {
    match format {
        CallFormat::Json => {
            report::print_error(&serde_json::to_string(&json!({ "explanation": explanation }))?);
        }
        CallFormat::Pretty | CallFormat::Raw => report::print_error(explanation),
    }
    Ok(())
}

/// What became of a call, and if that was asked for how its frames came to be.
struct Called {
    outcome: Result<Payload, Failed>,
    explanation: Option<Explanation>,
}

/// How long what the call has started, such as processes, has to end.
const GRACE: Duration = Duration::from_secs(5);

/// Makes the app, and the call.
async fn call(
    manifest: Manifest,
    task: Task,
    timeout: Option<Duration>,
    format: CallFormat,
    explain: bool,
) -> Result<Called, Failure> {
    let app = RunningApp::boot(manifest).await.map_err(|problems| refused(&problems, format))?;
    let mut ctx = app.root();
    if let Some(timeout) = timeout {
        ctx = ctx.with_timeout(timeout);
    }
    let defaults = app.default_options().await;
    let explain = explain.then(|| Explain::start(app.functions(), task.function(), &defaults)).transpose()?;
    let mut interrupts = Interrupts::listen()?;
    let outcome = cancellable(&ctx, task, &mut interrupts).await?;
    let explanation = explain.map(Explain::finish);
    tokio::select! {
        _ = app.stop(Instant::now() + GRACE) => (),
        () = interrupts.next() => (),
    }
    Ok(Called { outcome, explanation })
}

/// A manifest that is wrong.
fn refused(problems: &Problems, format: CallFormat) -> Failure {
    match format {
        CallFormat::Json => {
            let mut error = problems.to_json();
            error["kind"] = "manifest".into();
            error["message"] = problems.to_string().into();
            Failure::with_report(Exit::Usage, json!({ "error": error }).to_string())
        }
        CallFormat::Pretty | CallFormat::Raw => Failure::of_manifest(problems),
    }
}

/// Makes the call, which an interrupt cancels. A second one is not told what became of it.
async fn cancellable(
    ctx: &CallContext,
    task: Task,
    interrupts: &mut Interrupts,
) -> Result<Result<Payload, Failed>, Failure> {
    let token = CancellationToken::new();
    let ctx = ctx.with_cancellation(token.clone());
    let mut call = pin!(ctx.call(task));
    for _ in 0..2 {
        tokio::select! {
            called = &mut call => return Ok(called.map_err(|error| Failed::from(&error))),
            () = interrupts.next() => token.cancel(),
        }
    }
    Err(Failure::new(Exit::Cancelled, "interrupted twice, so the call was not waited for"))
}

/// What there is to say where no function has the id.
fn missing(manifest: &Manifest, id: &FunctionId) -> Failed {
    let ids = || manifest.functions.keys().map(FunctionId::as_str);
    let is_process = manifest.processes.keys().any(|process| process.as_str() == id.as_str());
    let hint = match text::nearest(id.as_str(), ids()) {
        _ if is_process => "it is a process, which `frame run` runs under a supervisor".to_owned(),
        Some(suggestion) => format!("did you mean `{suggestion}`?"),
        None if manifest.functions.is_empty() => "there is none in this manifest".to_owned(),
        None => {
            format!("there is {}", manifest::list(ids()))
        }
    };
    Failed::not_found(id, &hint)
}

/// The signals that ask the program to end, from when they are listened to. Until then they end it at once.
struct Interrupts {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Interrupts {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next. Cancel safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }
}

#[cfg(not(unix))]
impl Interrupts {
    #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
    fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next. Cancel safe.
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
