//! What components have of processes.

mod children;
mod convert;
mod group;
mod host;
mod timer;

use wasmtime::component::{HasSelf, Linker};

use super::bindings::frame::function::{groups, processes, supervisors, timers};
use super::module::HostModule;
use super::state::State;
use crate::error::CallError;
use crate::process::ProcessManager;
use crate::process::guest::Access;

/// A [module](HostModule) with which components are processes and deal with others: the interfaces
/// `frame:function/processes`, `supervisors`, `timers` and `groups` of the folder `wit`. A component that imports them, and is a
/// process, is one of the world `frame:function/process`.
///
/// ```
/// use std::time::Duration;
///
/// use frame_dispatch::Functions;
/// use frame_dispatch::process::{HostConfig, ProcessManager, Spawn};
/// use frame_dispatch::wasm::{ProcessModule, WasmConfig, WasmEngine};
/// use frame_registry::{App, Options};
/// use serde_json::json;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// # // Gives back the second message that it receives.
/// # let second = frame_guests::guest("second");
/// let functions = Functions::new(App::builder().build());
/// let processes = ProcessManager::new(functions.clone());
/// processes.register_host("app:workers".parse()?, HostConfig::default())?;
///
/// let engine = WasmEngine::builder().instances(16).module(ProcessModule::new(&processes)).build()?;
/// let second = engine.function(&second, WasmConfig::process())?;
/// processes.register("app:second".parse()?, Options::new(), second)?;
///
/// let root = functions.root();
/// let pid = processes.spawn(&root, Spawn::new("app:workers".parse()?, "app:second".parse()?))?;
/// let exit = processes.monitor(pid)?;
/// processes.send(&root, pid, json!("one")).await?;
/// processes.send(&root, pid, json!("two")).await?;
/// assert_eq!(exit.await.result.as_deref(), Some(&json!("two").into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What crosses
///
/// What a component hands over at once, in a message that it sends or in all of what it starts a process with, is within
/// [`WasmConfig::payload`](super::WasmConfig::payload) and [`WasmConfig::json_memory`](super::WasmConfig::json_memory), as
/// with what it calls. What it receives has at most `payload` bytes as well: a larger message is taken out of the mailbox,
/// and is an error that it can go on from. So nobody ends a process by sending it more than it has memory for, as long
/// as its memory has room for one such message.
///
/// # Children of dynamic supervisors
///
/// A component may start a child of a [dynamic supervisor](crate::process::supervisor::DynamicSpec) where it may start a process, and stop
/// the children that it started itself. A child that fails too often is removed, and its supervisor goes on.
///
/// # What a component may do to others
///
/// PIDs are numbers, so that a component can guess those of processes it was never told of. It can send to any, as it can
/// call any function. All else it can do only to itself and to those that it started: monitor, link, cancel and
/// terminate them, and take their names. For the exit of a process tells its result, a link ends the other as well, and
/// the rest needs no reason. Where all components are [trusted](Self::trusted) they can do so to all.
///
/// A component may start every process, and take every name. It may do so on its own host, that of the process that it is or is
/// called by, and on those that its frame [grants](crate::process::SPAWN_KEY); hosts
/// [bound](crate::process::HostConfig::processes) how many. Where all components are trusted they may do so on every host.
#[derive(Debug, Clone)]
pub struct ProcessModule {
    access: Access,
}

impl ProcessModule {
    /// For the processes of `manager`, which this does not keep: the manager has the functions, these the engine, and the
    /// engine this.
    #[must_use]
    pub fn new(manager: &ProcessManager) -> Self {
        Self { access: Access::new(manager) }
    }

    /// The same, for components that may do to all processes what others
    /// [may](Self#what-a-component-may-do-to-others) to their own.
    #[must_use]
    pub fn trusted(self) -> Self {
        Self { access: self.access.trusted() }
    }
}

impl HostModule for ProcessModule {
    fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        processes::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
        supervisors::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
        timers::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
        groups::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
    }

    fn prepare(&self, state: &mut State) -> Result<(), CallError> {
        *state.slot() = Some(self.access.clone());
        Ok(())
    }
}
