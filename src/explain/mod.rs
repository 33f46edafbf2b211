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

mod explanation;
mod shown;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use frame_dispatch::{FUNCTION, FunctionId, Functions, PID, Pid};
use frame_registry::{Observation, Options, Resolution, WiringError};

pub use self::explanation::{
    ExplainedFrame, Explanation, Maker, Outcome, Parent, SetOption, SetPair, Source, Step, Unit,
};

/// Of how many frames it is kept how they came to be. A call can make any number of others.
const FRAMES: usize = 1000;

/// Collects how the frames of one call come to be, from [`start`](Self::start) to [`finish`](Self::finish): its own, and
/// those of all that it calls and starts, attempt by attempt.
#[derive(Debug)]
pub struct Explain {
    seen: Arc<Mutex<Seen>>,
    _observation: Observation,
}

/// What was seen of the call so far.
#[derive(Debug, Default)]
struct Seen {
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
        let presets = functions.list().into_iter().filter_map(|id| {
            let options = functions.options(&id)?;
            Some((id, options))
        });
        let known = Known { defaults: defaults.clone(), presets: presets.collect() };
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (seen_by_observer, function) = (Arc::clone(&seen), function.clone());
        // Nothing of `functions` may be in there: it holds the app, whose resolvers hold the observer.
        let observation = functions.app().resolvers().observe(move |resolution: &Resolution<'_>| {
            let mut seen = seen_by_observer.lock().unwrap_or_else(PoisonError::into_inner);
            seen.see(resolution, &function, &known);
        })?;
        Ok(Self { seen, _observation: observation })
    }

    /// What was seen.
    #[must_use]
    pub fn finish(self) -> Explanation {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut seen.explanation)
    }
}

impl Seen {
    /// Takes the frame in, if it is of the call. What a unit starts has a frame after the unit has one.
    fn see(&mut self, resolution: &Resolution<'_>, function: &FunctionId, known: &Known) {
        let parent = resolution.context().parent().and_then(|parent| parent.get(&PID));
        let is_of_call = match parent {
            Some(parent) => self.pids.contains(parent),
            None => explanation::last(resolution, &FUNCTION) == Some(function),
        };
        if !is_of_call {
            return;
        }
        self.pids.extend(explanation::last(resolution, &PID));
        if self.explanation.frames.len() == FRAMES {
            self.explanation.omitted += 1;
        } else {
            self.explanation.frames.push(ExplainedFrame::of(resolution, known));
        }
    }
}
