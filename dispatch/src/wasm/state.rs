//! What the host knows of a call that runs in a component.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::ReaddirIterator;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::config::WasmConfig;
use super::epoch::RunningGuest;
use super::limits::Limits;
use super::wasi;
use crate::context::CallContext;
use crate::log::Log;
use crate::script::clock;

/// The data of a store, which is that of one call or one process: what the functions of a [`HostModule`](super::HostModule) get.
pub struct GuestState {
    ctx: CallContext,
    pub(crate) limits: Limits,
    pub(crate) payload: usize,
    pub(crate) json_memory: usize,
    running: RunningGuest,
    /// Made when the guest first logs something.
    log: Option<Box<Log>>,
    /// At most one of a type. It is dropped before the table, so that by what a module keeps here, what its resources started
    /// can tell the end of the call from an end that the guest wants.
    slots: Vec<Box<dyn Any + Send>>,
    table: ResourceTable,
    /// How many uses of a host module it is until the resources are weighed again.
    until_weighed: usize,
    weighers: Vec<Weigher>,
    wasi: Option<Box<WasiCtx>>,
}

/// How many bytes of the host's memory a handle counts as.
const HANDLE: usize = 256;

/// How many uses of a host module pass before the resources are weighed, at least.
const FIRST_WEIGHED: usize = 32;

/// Returns how many bytes of the host's memory a resource takes beside its handle, if it knows the resource.
pub type Weigher = fn(&dyn Any) -> usize;

/// A list of a directory, which shows nothing of its size.
fn list_weight(resource: &dyn Any) -> usize {
    const LIST: usize = 64 << 10;
    if resource.is::<ReaddirIterator>() { LIST } else { 0 }
}

impl GuestState {
    pub(crate) fn new(ctx: CallContext, config: &WasmConfig, running: RunningGuest) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(config.host_memory / HANDLE);
        Self {
            ctx,
            log: None,
            limits: Limits::new(config),
            payload: config.payload,
            json_memory: config.json_memory,
            running,
            table,
            until_weighed: FIRST_WEIGHED,
            weighers: vec![list_weight],
            wasi: None,
            slots: Vec::new(),
        }
    }

    pub(crate) fn set_wasi(&mut self, wasi: WasiCtx) {
        self.wasi = Some(Box::new(wasi));
    }

    /// Where what the guest says goes.
    pub(crate) fn log(&mut self) -> &Log {
        self.log.get_or_insert_with(|| Box::new(Log::new(self.ctx.clone())))
    }

    /// Waits for something outside of the guest, which needs no clock for as long, and is not responsible for it.
    pub(crate) fn waiting<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let paused = self.running.pause();
        async move {
            let _paused = paused;
            let mut future = pin!(future);
            poll_fn(|context| {
                let _slice = clock::enter_host();
                future.as_mut().poll(context)
            })
            .await
        }
    }

    /// The surroundings of the call: its frame, when it has to be done, what it may call.
    pub const fn ctx(&self) -> &CallContext {
        &self.ctx
    }

    /// The resources that the guest has handles of.
    pub const fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Adds a function that returns how many bytes a resource takes, or 0 for one that it does not know. See
    /// [`weigh`](Self::weigh).
    pub fn weigh_with(&mut self, weigher: Weigher) {
        self.weighers.push(weigher);
    }

    /// Counts the memory of the host that the resources take. A guest that has more than
    /// [`host_memory`](super::WasmConfig::host_memory) is ended.
    ///
    /// A host module calls this whenever it is used, since resources grow without its knowledge. It looks at them only
    /// once there may be half as many again.
    pub fn weigh(&mut self) {
        self.until_weighed -= 1;
        if self.until_weighed > 0 {
            return;
        }
        let (mut count, mut bytes) = (0_usize, 0_usize);
        for entry in self.table.iter_mut() {
            count += 1;
            bytes = bytes.saturating_add(HANDLE);
            for weigher in &self.weighers {
                bytes = bytes.saturating_add(weigher(entry));
            }
        }
        self.until_weighed = FIRST_WEIGHED.max(count / 2);
        self.limits.set_resources(bytes);
        if self.limits.is_exceeded() {
            // Until the guest is ended it gets no further ones.
            self.table.set_max_capacity(0);
        }
    }

    /// What a host module keeps for the call: of each type one value, made when it is first asked for. A type of the
    /// module's own keeps it from others.
    pub fn slot<T: Default + Send + 'static>(&mut self) -> &mut T {
        self.slot_and_table().0
    }

    /// The same, and the resources: many host interfaces need both at once.
    pub fn slot_and_table<T: Default + Send + 'static>(&mut self) -> (&mut T, &mut ResourceTable) {
        (slot(&mut self.slots), &mut self.table)
    }
}

fn slot<T: Default + Send + 'static>(slots: &mut Vec<Box<dyn Any + Send>>) -> &mut T {
    let index = slots.iter().position(|slot| slot.is::<T>()).unwrap_or_else(|| {
        slots.push(Box::new(T::default()));
        slots.len() - 1
    });
    slots[index].downcast_mut().expect("the slot at this index is of this type")
}

/// For the interfaces of WASI.
impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.weigh();
        // It is made before the call where the component imports WASI itself; a host module may have a use for it
        // where the component does not.
        let log = self.log.get_or_insert_with(|| Box::new(Log::new(self.ctx.clone())));
        let ctx = self.wasi.get_or_insert_with(|| Box::new(wasi::context(log).build()));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl fmt::Debug for GuestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestState")
            .field("ctx", &self.ctx)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
