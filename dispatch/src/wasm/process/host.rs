//! The interfaces `processes`, `supervisors`, `timers` and `groups` of the folder `wit`.

use std::time::Duration;

use wasmtime::Result as Trappable;
use wasmtime::component::Resource;

use super::convert;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::process::guest::{self, Access, destination, process, timer_ref};
use crate::process::{Message, ProcessContext, Published, ReplyError, ReplyTo, Spawned};
use crate::wasm::bindings::frame::function::{groups, processes, supervisors, timers, types};
use crate::wasm::convert::from_guest;
use crate::wasm::state::GuestState;

/// The result of a host function. The guest handles a failure.
type Given<T> = Trappable<Result<T, types::Error>>;

#[expect(
    clippy::unnecessary_wraps,
    reason = "the bindings require this result, because a host function may also trap"
)]
fn given<T>(result: Result<T, CallError>) -> Given<T> {
    Ok(result.map_err(|error| (&error).into()))
}

/// Returns the access and the context of a host function.
fn access(state: &mut GuestState) -> Trappable<(Access, CallContext)> {
    let access = state.slot::<Option<Access>>().clone();
    let access = access.ok_or_else(|| wasmtime::format_err!("the module of processes was not prepared"))?;
    Ok((access, state.ctx().clone()))
}

/// Converts the payload of a message.
fn message(state: &GuestState, payload: types::Payload) -> Result<Payload, CallError> {
    from_guest(payload, state.json_memory)
        .map_err(|error| error.into_error("the message is", ErrorKind::Invalid))
}

/// The most replies that a component owes. They take memory of the program, and not of the component.
const MAX_REPLIES: usize = 1024;

/// The number of replies that a component owes.
#[derive(Default)]
struct OwedReplies(usize);

/// Converts a received message for the guest.
fn received(state: &mut GuestState, message: Message) -> Result<processes::Message, CallError> {
    let longest = state.payload;
    convert::message(message, longest, |reply| {
        let (OwedReplies(owed), table) = state.slot_and_table();
        if *owed >= MAX_REPLIES {
            return None;
        }
        let reply = table.push(reply).ok()?;
        *owed += 1;
        Some(reply)
    })
}

/// Takes back a handle with which the guest could reply.
fn take_reply(state: &mut GuestState, reply: Resource<ReplyTo>) -> Trappable<ReplyTo> {
    let (OwedReplies(owed), table) = state.slot_and_table();
    let reply = table.delete(reply)?;
    *owed -= 1;
    Ok(reply)
}

impl processes::HostReplyTo for GuestState {
    fn send(&mut self, reply: Resource<ReplyTo>, payload: types::Payload) -> Given<bool> {
        let reply = take_reply(self, reply)?;
        given(message(self, payload).and_then(|payload| match reply.send(payload) {
            Ok(()) => Ok(true),
            Err(ReplyError::Late { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }))
    }

    fn is_awaited(&mut self, reply: Resource<ReplyTo>) -> Trappable<bool> {
        Ok(self.table().get(&reply)?.is_awaited())
    }

    fn drop(&mut self, reply: Resource<ReplyTo>) -> Trappable<()> {
        take_reply(self, reply).map(drop)
    }
}

impl processes::Host for GuestState {
    fn self_(&mut self) -> Trappable<Option<String>> {
        Ok(ProcessContext::of(self.ctx()).map(|process| process.pid().to_string()))
    }

    fn cancelled(&mut self) -> Given<Option<String>> {
        let reason = process(self.ctx(), "cancelled").map(|process| process.cancel_reason());
        given(reason.map(|reason| reason.map(|reason| reason.to_string())))
    }

    async fn receive(&mut self, timeout_ms: Option<u64>) -> Given<Option<processes::Message>> {
        let mut process = match process(self.ctx(), "receive") {
            Ok(process) => process,
            Err(error) => return given(Err(error)),
        };
        // Refused memory that it could do without is not the reason for a later failure.
        self.limits.forgive();
        let message = match timeout_ms.map(Duration::from_millis) {
            Some(Duration::ZERO) => process.try_receive(),
            Some(time) => self.waiting(process.receive_timeout(time)).await,
            None => Some(self.waiting(process.receive()).await),
        };
        given(message.map(|message| received(self, message)).transpose())
    }

    async fn receive_matching(
        &mut self,
        wanted: processes::Pattern,
        timeout_ms: Option<u64>,
    ) -> Given<Option<processes::Message>> {
        let prepared = process(self.ctx(), "receive-matching")
            .and_then(|process| Ok((process, convert::pattern(wanted, self.json_memory)?)));
        let (process, wanted) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return given(Err(error)),
        };
        self.limits.forgive();
        let timeout = timeout_ms.map(Duration::from_millis);
        let message = self.waiting(guest::receive_matching(process, wanted, timeout)).await;
        given(message.map(|message| received(self, message)).transpose())
    }

    async fn send(&mut self, to: String, payload: types::Payload) -> Given<()> {
        let (access, ctx) = access(self)?;
        let payload = message(self, payload);
        given(
            self.waiting(async {
                let (to, payload) = (destination(&to)?, payload?);
                Ok(access.manager(&ctx)?.send(&ctx, to, payload).await?)
            })
            .await,
        )
    }

    fn try_send(&mut self, to: String, payload: types::Payload) -> Given<()> {
        let (access, ctx) = access(self)?;
        let payload = message(self, payload);
        given((|| {
            let (to, payload) = (destination(&to)?, payload?);
            Ok(access.manager(&ctx)?.try_send(&ctx, to, payload)?)
        })())
    }

    async fn call(
        &mut self,
        to: String,
        payload: types::Payload,
        timeout_ms: Option<u64>,
    ) -> Given<types::Payload> {
        let (access, ctx) = access(self)?;
        let payload = message(self, payload);
        let longest = self.payload;
        given(
            self.waiting(async {
                let (to, payload) = (destination(&to)?, payload?);
                let reply = access.call(&ctx, to, payload, timeout_ms.map(Duration::from_millis)).await?;
                convert::reply(reply, longest)
            })
            .await,
        )
    }

    fn spawn(&mut self, spawn: processes::Process) -> Given<String> {
        let (access, ctx) = access(self)?;
        let spawn = convert::spawn(spawn, self.json_memory);
        given(spawn.and_then(|spawn| {
            let pid = access.manager_for_spawn(&ctx, &spawn)?.spawn(&ctx, spawn)?;
            Ok(pid.to_string())
        }))
    }

    async fn spawn_or_signal(&mut self, spawn: processes::Process) -> Given<processes::Spawned> {
        let (access, ctx) = access(self)?;
        let spawn = convert::spawn(spawn, self.json_memory);
        given(
            self.waiting(async {
                let spawn = spawn?;
                Ok(match access.spawn_or_signal(&ctx, spawn).await? {
                    Spawned::New(pid) => processes::Spawned::New(pid.to_string()),
                    Spawned::Signalled(pid) => processes::Spawned::Signalled(pid.to_string()),
                })
            })
            .await,
        )
    }

    async fn exec(&mut self, spawn: processes::Process) -> Given<types::Payload> {
        let (access, ctx) = access(self)?;
        let spawn = convert::spawn(spawn, self.json_memory);
        let longest = self.payload;
        given(
            self.waiting(async {
                let spawn = spawn?;
                let result = access.manager_for_spawn(&ctx, &spawn)?.exec(&ctx, spawn).await;
                convert::result(result.map_err(guest::exec_error)?, longest)
            })
            .await,
        )
    }

    fn monitor(&mut self, other: String) -> Given<String> {
        let (access, ctx) = access(self)?;
        given(access.monitor(&ctx, &other).map(|monitor| monitor.to_string()))
    }

    fn demonitor(&mut self, monitor: String) -> Given<bool> {
        given(guest::demonitor(self.ctx(), &monitor))
    }

    fn link(&mut self, other: String) -> Given<()> {
        let (access, ctx) = access(self)?;
        given(access.link(&ctx, &other))
    }

    fn unlink(&mut self, other: String) -> Given<()> {
        let (access, ctx) = access(self)?;
        given(access.unlink(&ctx, &other))
    }

    fn trap_links(&mut self, traps: bool) -> Given<()> {
        given(process(self.ctx(), "trap-links").map(|process| process.trap_links(traps)))
    }

    fn cancel(&mut self, to: String, reason: String, grace_ms: Option<u64>) -> Given<()> {
        let (access, ctx) = access(self)?;
        given(access.cancel(&ctx, &to, &reason, grace_ms.map(Duration::from_millis)))
    }

    fn terminate(&mut self, to: String) -> Given<()> {
        let (access, ctx) = access(self)?;
        given(access.terminate(&ctx, &to))
    }

    fn register(&mut self, name: String) -> Given<()> {
        given(guest::register(self.ctx(), &name))
    }

    fn unregister(&mut self, name: String) -> Given<bool> {
        let (access, ctx) = access(self)?;
        given(access.unregister(&ctx, &name))
    }

    fn whereis(&mut self, name: String) -> Given<Option<String>> {
        let (access, ctx) = access(self)?;
        given(access.whereis(&ctx, &name).map(|pid| pid.map(|pid| pid.to_string())))
    }

    async fn lookup(&mut self, name: String, timeout_ms: Option<u64>) -> Given<Option<String>> {
        let (access, ctx) = access(self)?;
        let timeout = timeout_ms.map(Duration::from_millis);
        let found = self.waiting(access.lookup(&ctx, &name, timeout)).await;
        given(found.map(|pid| pid.map(|pid| pid.to_string())))
    }
}

impl supervisors::Host for GuestState {
    async fn start_child(
        &mut self,
        supervisor: String,
        child: supervisors::Child,
    ) -> Given<supervisors::StartedChild> {
        let (access, ctx) = access(self)?;
        let child = convert::child(child, &supervisor, self.json_memory);
        given(
            self.waiting(async {
                let started = access.start_child(&ctx, &supervisor, child?).await?;
                Ok(supervisors::StartedChild { id: started.id.to_string(), process: started.pid.to_string() })
            })
            .await,
        )
    }

    async fn stop_child(&mut self, supervisor: String, child: String) -> Given<()> {
        let (access, ctx) = access(self)?;
        given(self.waiting(access.stop_child(&ctx, &supervisor, &child)).await)
    }
}

impl timers::Host for GuestState {
    fn send_after(&mut self, time_ms: u64, payload: types::Payload) -> Given<String> {
        let (process, payload) = (process(self.ctx(), "send-after"), message(self, payload));
        given((|| Ok(process?.send_after(Duration::from_millis(time_ms), payload?)?.to_string()))())
    }

    fn send_every(&mut self, period_ms: u64, payload: types::Payload) -> Given<String> {
        let (process, payload) = (process(self.ctx(), "send-every"), message(self, payload));
        given((|| Ok(process?.send_every(Duration::from_millis(period_ms), payload?)?.to_string()))())
    }

    fn cancel(&mut self, timer: String) -> Given<bool> {
        let process = process(self.ctx(), "cancel");
        given((|| Ok(process?.cancel_timer(timer_ref(&timer)?)))())
    }
}

impl groups::Host for GuestState {
    fn join(&mut self, group: String, host: Option<String>) -> Given<bool> {
        let (access, ctx) = access(self)?;
        given(access.join(&ctx, &group, host.as_deref()))
    }

    fn leave(&mut self, group: String, host: Option<String>) -> Given<bool> {
        let (access, ctx) = access(self)?;
        given(access.leave(&ctx, &group, host.as_deref()))
    }

    fn watch(&mut self, group: String, host: Option<String>) -> Given<bool> {
        let (access, ctx) = access(self)?;
        given(access.watch_group(&ctx, &group, host.as_deref()))
    }

    fn unwatch(&mut self, group: String, host: Option<String>) -> Given<bool> {
        let (access, ctx) = access(self)?;
        given(access.unwatch_group(&ctx, &group, host.as_deref()))
    }

    fn members(&mut self, group: String, host: Option<String>) -> Given<Vec<String>> {
        let (access, ctx) = access(self)?;
        given(access.members(&ctx, &group, host.as_deref()))
    }

    async fn publish(
        &mut self,
        group: String,
        host: Option<String>,
        payload: types::Payload,
    ) -> Given<groups::Published> {
        let (access, ctx) = access(self)?;
        let payload = message(self, payload);
        given(
            self.waiting(async {
                let (manager, group) = access.group(&ctx, &group, host.as_deref())?;
                let Published { delivered, full, .. } = manager.publish(&ctx, &group, payload?).await;
                let count = |members| u32::try_from(members).unwrap_or(u32::MAX);
                Ok(groups::Published { delivered: count(delivered), full: count(full) })
            })
            .await,
        )
    }
}
