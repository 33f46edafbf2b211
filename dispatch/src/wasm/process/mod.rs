//! Processes in components.

mod convert;
mod host;

use wasmtime::component::{HasSelf, Linker};

use super::bindings::frame::function::{groups, processes, supervisors, timers};
use super::host::HostModule;
use super::state::GuestState;
use crate::error::CallError;
use crate::process::ProcessManager;
use crate::process::guest::Access;

/// The [module](HostModule) with which components run as processes and use others: the interfaces `frame:function/processes`,
/// `supervisors`, `timers` and `groups` of the folder `wit`. A component that is a process has the world `frame:function/process`.
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
/// # Sizes
///
/// What a component passes at once, in a message or in a process to be spawned, is limited by
/// [`WasmConfig::payload`](super::WasmConfig::payload) and [`WasmConfig::json_memory`](super::WasmConfig::json_memory), as in calls.
/// A received payload is limited by `payload` too: a larger message is taken out of the mailbox, and is an error that the component
/// can handle. So no sender can end a component with a message that is too large, as long as the component has memory for one message
/// of that size.
///
/// # Children of dynamic supervisors
///
/// A component may start a child of a [dynamic supervisor](crate::process::supervisor::DynamicSpec) on the hosts on which it may spawn
/// processes, and stop the children that it started itself. A child that fails too often is removed, and its supervisor goes on.
///
/// # What a component may do to others
///
/// PIDs are numbers, so a component can guess those of other processes. It can send to all of them, as it can call any function. It
/// can monitor, link, cancel and terminate, and unregister the names of, only itself and the processes that it spawned: an exit
/// contains the result of the process, and a link ends both. [Trusted](Self::trusted) components can do so to all processes.
///
/// A component may spawn every registered process, with every free name, on its own host, which is that of the process that it is or is
/// called by, and on those that its frame [grants](crate::process::SPAWN_KEY). Hosts
/// [limit](crate::process::HostConfig::processes) how many. Trusted components may do so on every host.
#[derive(Debug, Clone)]
pub struct ProcessModule {
    access: Access,
}

impl ProcessModule {
    /// Creates the module for the processes of `manager`, to which it holds a weak reference: the manager holds the functions, these
    /// the engine, and the engine this.
    #[must_use]
    pub fn new(manager: &ProcessManager) -> Self {
        Self { access: Access::new(manager) }
    }

    /// Lets components do to all processes what others [may](Self#what-a-component-may-do-to-others) do to their own.
    #[must_use]
    pub fn trusted(self) -> Self {
        Self { access: self.access.trusted() }
    }
}

impl HostModule for ProcessModule {
    fn link(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        processes::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
        supervisors::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
        timers::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
        groups::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }

    fn prepare(&self, state: &mut GuestState) -> Result<(), CallError> {
        *state.slot() = Some(self.access.clone());
        Ok(())
    }
}
