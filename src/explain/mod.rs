//! How the frames of a call came to be: every pair, and who put it there.
//!
//! ```standalone_crate
//! use frame_dispatch::{CallContext, FunctionId, Functions, Payload, Task};
//! use frame_registry::{App, FrameResolvers, Options};
//! use frame_runtime::explain::Explain;
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let mut app = App::builder();
//! app.set_resolvers(FrameResolvers::linked())?;
//! let functions = Functions::new(app.build());
//! let id: FunctionId = "app:f".parse()?;
//! functions.register(id.clone(), Options::new(), async |_: CallContext, payload: Payload| Ok(payload))?;
//!
//! let explain = Explain::start(&functions, &id, &Options::new())?;
//! functions.root().call(Task::new(id)).await?;
//! let explanation = explain.finish();
//! assert_eq!(explanation.frames.len(), 1);
//! assert!(explanation.to_string().contains("app:f"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod shown;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use frame_dispatch::process::{EntryId, PROCESS};
use frame_dispatch::{ATTEMPT, FUNCTION, FunctionId, Functions, PID, Pid};
use frame_registry::{
    DeclaredOption, FrameValue, Key, Observation, OptionEntry, Options, Pair, Resolution, WiringError,
};
use serde::{Serialize, Serializer};

use crate::report;

/// Of how many frames it is kept how they came to be. A call can make any number of others.
const FRAMES: usize = 1000;

/// Collects how the frames of one call come to be, from [`start`](Self::start) to [`finish`](Self::finish): its own, and
/// those of all that it calls and starts, attempt by attempt.
#[derive(Debug)]
pub struct Explain {
    recorder: Arc<Mutex<Recorder>>,
    _observation: Observation,
}

/// Records the frames of one call.
#[derive(Debug, Default)]
struct Recorder {
    explanation: Explanation,
    /// The units that the call is made of.
    pids: HashSet<Pid>,
}

/// What options are compared with, to tell where they are from.
#[derive(Debug)]
struct Known {
    defaults: Options,
    presets: BTreeMap<FunctionId, Options>,
}

impl Explain {
    /// Collects from now on. The call is the next one of `function` that no function and no process makes; `defaults` are
    /// the options that the program gives whatever has none of its own.
    ///
    /// # Errors
    ///
    /// [`WiringError`] if the program's resolvers are wired wrongly, so that no frame can be built.
    pub fn start(
        functions: &Functions,
        function: &FunctionId,
        defaults: &Options,
    ) -> Result<Self, WiringError> {
        let presets = functions.ids().into_iter().filter_map(|id| {
            let options = functions.options(&id)?;
            Some((id, options))
        });
        let known = Known { defaults: defaults.clone(), presets: presets.collect() };
        let recorder: Arc<Mutex<Recorder>> = Arc::default();
        let (for_observer, function) = (Arc::clone(&recorder), function.clone());
        // Nothing of `functions` may be in there: it holds the app, whose resolvers hold the observer.
        let observation = functions.app().resolvers().observe(move |resolution: &Resolution<'_>| {
            let mut recorder = for_observer.lock().unwrap_or_else(PoisonError::into_inner);
            recorder.record(resolution, &function, &known);
        })?;
        Ok(Self { recorder, _observation: observation })
    }

    /// Returns the frames that were recorded.
    #[must_use]
    pub fn finish(self) -> Explanation {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut recorder.explanation)
    }
}

impl Recorder {
    /// Takes the frame in, if it is of the call. What a unit starts has a frame after the unit has one.
    fn record(&mut self, resolution: &Resolution<'_>, function: &FunctionId, known: &Known) {
        let parent = resolution.context().parent().and_then(|parent| parent.get(&PID));
        let is_of_call = match parent {
            Some(parent) => self.pids.contains(parent),
            None => last(resolution, &FUNCTION) == Some(function),
        };
        if !is_of_call {
            return;
        }
        self.pids.extend(last(resolution, &PID));
        if self.explanation.frames.len() == FRAMES {
            self.explanation.omitted += 1;
        } else {
            self.explanation.frames.push(ExplainedFrame::of(resolution, known));
        }
    }
}

/// How the frames of a call came to be. `Display` shows it to people, `Serialize` to programs.
#[derive(Debug, Default, Serialize)]
pub struct Explanation {
    /// The frames in the order they were built: the call's own comes before those of what it calls, and a first attempt
    /// before the second.
    pub frames: Vec<ExplainedFrame>,
    /// How many more there were, of which nothing is kept.
    pub omitted: usize,
}

/// How one frame came to be.
#[derive(Debug, Serialize)]
pub struct ExplainedFrame {
    /// What it is of.
    pub unit: Option<ExplainedUnit>,
    /// The unit's PID.
    pub pid: Option<Pid>,
    /// Which attempt at the call it is of; processes have none.
    pub attempt: Option<u32>,
    /// The unit that spawned it, whose frame it inherits from; none at the root, where the app's defaults may still be.
    pub parent: Option<ExplainedParent>,
    /// The options that were set, those that the function was registered with included.
    pub options: Vec<SetOption>,
    /// The pairs, in the order they were set.
    pub pairs: Vec<SetPair>,
    /// The resolvers that ran, in the order they ran.
    pub steps: Vec<ExplainedResolver>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: FrameOutcome,
    /// How long resolving took.
    #[serde(rename = "nanoseconds", serialize_with = "as_nanoseconds")]
    pub took: Duration,
}

/// What a frame is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExplainedUnit {
    /// A call of this function.
    Function(FunctionId),
    /// A process that was started of this entry.
    Process(EntryId),
}

/// The unit that spawned another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedParent {
    /// What it is.
    pub unit: Option<ExplainedUnit>,
    /// Its PID.
    pub pid: Pid,
}

/// An option that was set. What it was set to is not kept: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetOption {
    /// Its name.
    pub name: &'static str,
    /// Where it is from.
    pub from: OptionSource,
    /// Whether trusted code chose it, and not a script or a component.
    pub trusted: bool,
}

/// Where an option is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionSource {
    /// It was given for the call.
    Call,
    /// The function was registered with it.
    Preset,
    /// It is among the program's defaults.
    Default,
    /// It was given where the process is started, or the process was registered with it.
    Start,
    /// Several of these have given it, and each narrows the others.
    Several,
}

/// A pair that was set on a frame.
#[derive(Debug, Clone, Serialize)]
pub struct SetPair {
    /// The name of its key.
    pub key: &'static str,
    /// Its value, as `Debug` shows it; `<secret>` where the key says so.
    pub value: String,
    /// Who set it.
    #[serde(flatten)]
    pub by: PairMaker,
    /// Whether a later one has the same key, so that this one is not on the frame.
    pub outdone: bool,
}

/// Who set a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum PairMaker {
    /// The parent's frame has it, and forks inherit it.
    Inherited,
    /// What runs functions or starts processes: it is the unit's own.
    Dispatcher,
    /// It was given with the call.
    Task,
    /// A resolver.
    Resolver {
        /// Its name.
        resolver: String,
        /// Which of the [steps](ExplainedFrame::steps) that was.
        step: usize,
    },
}

/// What a resolver did.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedResolver {
    /// Its name.
    pub resolver: String,
    /// Its order: the lowest runs first.
    pub order: i32,
    /// Where it is defined.
    #[serde(rename = "defined_at")]
    pub place: String,
    /// Of the options that were set those that it covers.
    pub covers: Vec<SetOption>,
    /// How many pairs it made.
    pub pairs: usize,
    /// How long it took.
    #[serde(rename = "nanoseconds", serialize_with = "as_nanoseconds")]
    pub took: Duration,
}

/// How the building of a frame ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum FrameOutcome {
    /// It was built.
    Built,
    /// It was refused, so that the unit did not start.
    Refused {
        /// Why, with the causes.
        error: String,
    },
    /// The last of the resolvers that ran panicked, so that the unit did not start.
    Panicked {
        /// The message, if that is text.
        error: Option<String>,
    },
}

impl ExplainedFrame {
    /// Whether it was built, so that the unit did start.
    pub fn is_built(&self) -> bool {
        self.outcome == FrameOutcome::Built
    }

    fn of(resolution: &Resolution<'_>, known: &Known) -> Self {
        let unit = ExplainedUnit::of(|key| last(resolution, key), |key| last(resolution, key));
        let source = |option: OptionEntry<'_>| SetOption {
            name: option.option().name(),
            from: known.source(option, unit.as_ref()),
            trusted: option.is_trusted(),
        };
        let options: Vec<_> = resolution.options().entries().map(source).collect();
        let steps = resolution.steps().map(|step| {
            let covers: HashSet<_> = step.covers().map(DeclaredOption::name).collect();
            ExplainedResolver {
                resolver: step.resolver().name().to_owned(),
                order: step.resolver().order(),
                place: step.resolver().location().to_string(),
                covers: options.iter().filter(|option| covers.contains(option.name)).cloned().collect(),
                pairs: step.pairs().count(),
                took: step.took(),
            }
        });
        Self {
            pid: last(resolution, &PID).copied(),
            attempt: last(resolution, &ATTEMPT).copied(),
            parent: parent(resolution),
            pairs: pairs(resolution),
            steps: steps.collect(),
            outcome: FrameOutcome::of(resolution),
            took: resolution.took(),
            unit,
            options,
        }
    }
}

/// The value that the frame has of a key.
pub(super) fn last<'a, T: FrameValue>(resolution: &Resolution<'a>, key: &Key<T>) -> Option<&'a T> {
    let made = resolution.steps().flat_map(|step| step.pairs());
    resolution.before().chain(made).filter_map(|pair| pair.get(key)).last()
}

fn parent(resolution: &Resolution<'_>) -> Option<ExplainedParent> {
    let frame = resolution.context().parent()?;
    let pid = *frame.get(&PID)?;
    Some(ExplainedParent { unit: ExplainedUnit::of(|key| frame.get(key), |key| frame.get(key)), pid })
}

/// The pairs with who set them. Dispatchers fork the parent's frame, set what is the unit's own, and then what the task
/// gives.
fn pairs(resolution: &Resolution<'_>) -> Vec<SetPair> {
    let before: Vec<_> = resolution.before().collect();
    let inherited = before.iter().take_while(|pair| !is_own(pair)).count();
    let mut own = before.iter().enumerate().skip(inherited);
    let task = own.find(|&(at, pair)| !is_own(pair) || has_key_among(pair, &before[inherited..at]));
    let task = task.map_or(before.len(), |(at, _)| at);
    let before = before.iter().enumerate().map(|(at, &pair)| match at {
        at if at >= task => (pair, PairMaker::Task),
        at if at >= inherited => (pair, PairMaker::Dispatcher),
        _ => (pair, PairMaker::Inherited),
    });
    let made = resolution.steps().enumerate().flat_map(|(at, step)| {
        let resolver = step.resolver().name();
        step.pairs().map(move |pair| (pair, PairMaker::Resolver { resolver: resolver.to_owned(), step: at }))
    });
    let all: Vec<_> = before.chain(made).collect();
    let explained = all.iter().enumerate().map(|(at, (pair, by))| SetPair {
        key: pair.name(),
        value: format!("{:?}", pair.shown()),
        by: by.clone(),
        outdone: all[at + 1..].iter().any(|(later, _)| pair.is_of_key_of(later)),
    });
    explained.collect()
}

/// Whether dispatchers set pairs of this key.
fn is_own(pair: &Pair) -> bool {
    let [function, process] = [pair.get(&FUNCTION).is_some(), pair.get(&PROCESS).is_some()];
    function || process || pair.get(&PID).is_some() || pair.get(&ATTEMPT).is_some()
}

fn has_key_among(pair: &Pair, others: &[&Pair]) -> bool {
    others.iter().any(|other| pair.is_of_key_of(other))
}

impl Known {
    fn source(&self, option: OptionEntry<'_>, unit: Option<&ExplainedUnit>) -> OptionSource {
        let preset = match unit {
            Some(ExplainedUnit::Function(id)) => self.presets.get(id),
            Some(ExplainedUnit::Process(_)) | None => None,
        };
        // The defaults first: those that no resolver reads are among the presets of the functions, too.
        if option.is_narrowed() {
            OptionSource::Several
        } else if option.is_from(&self.defaults) {
            OptionSource::Default
        } else if preset.is_some_and(|preset| option.is_from(preset)) {
            OptionSource::Preset
        } else if matches!(unit, Some(ExplainedUnit::Process(_))) {
            OptionSource::Start
        } else {
            OptionSource::Call
        }
    }
}

impl ExplainedUnit {
    fn of<'a>(
        function: impl FnOnce(&Key<FunctionId>) -> Option<&'a FunctionId>,
        process: impl FnOnce(&Key<EntryId>) -> Option<&'a EntryId>,
    ) -> Option<Self> {
        let function = function(&FUNCTION).cloned().map(Self::Function);
        function.or_else(|| process(&PROCESS).cloned().map(Self::Process))
    }
}

impl FrameOutcome {
    fn of(resolution: &Resolution<'_>) -> Self {
        match resolution.outcome() {
            frame_registry::Outcome::Resolved => Self::Built,
            frame_registry::Outcome::Refused(error) => Self::Refused { error: report::chain(error) },
            frame_registry::Outcome::Panicked(message) => {
                Self::Panicked { error: message.map(str::to_owned) }
            }
            // Whatever else there may be one day, it did not end well.
            other => Self::Refused { error: format!("{other:?}") },
        }
    }
}

fn as_nanoseconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))
}
