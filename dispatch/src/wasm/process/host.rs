//! The interface `processes` of `wit/process.wit`.

use std::time::Duration;

use wasmtime::Result as Trappable;
use wasmtime::component::Resource;

use super::convert;
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::process::guest::{self, Access, destination, process};
use crate::process::{Message, ProcessContext, ReplyError, ReplyTo, Spawned};
use crate::wasm::bindings::frame::function::{processes, types};
use crate::wasm::convert::from_guest;
use crate::wasm::state::State;

/// What a host function gives: a failure is the guest's to handle.
pub(super) type Given<T> = Trappable<Result<T, types::Error>>;

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is what the bindings ask of a host function, which may also trap"
)]
pub(super) fn given<T>(result: Result<T, CallError>) -> Given<T> {
    Ok(result.map_err(|error| (&error).into()))
}

impl State {
    /// What the host functions work with. The module has prepared the call, or nothing would be linked.
    pub(super) fn processes(&mut self) -> Trappable<(Access, CallContext)> {
        let access = self.slot::<Option<Access>>().clone();
        let access =
            access.ok_or_else(|| wasmtime::format_err!("the module of processes was not prepared"))?;
        Ok((access, self.ctx().clone()))
    }

    pub(super) fn message(&self, payload: types::Payload) -> Result<Payload, CallError> {
        from_guest(payload, self.json_memory)
            .map_err(|error| error.into_error("the message is", ErrorKind::Invalid))
    }
}

/// How many replies a component owes at most. They are memory of the program, and not of the component.
const MOST_REPLIES: usize = 1024;

/// How many replies a component owes.
#[derive(Default)]
struct OwedReplies(usize);

impl State {
    /// A message on its way to the guest.
    fn received(&mut self, message: Message) -> Result<processes::Message, CallError> {
        let longest = self.payload;
        convert::message(message, longest, |reply| {
            let (OwedReplies(owed), table) = self.slot_and_table();
            if *owed >= MOST_REPLIES {
                return None;
            }
            let reply = table.push(reply).ok()?;
            *owed += 1;
            Some(reply)
        })
    }

    /// Takes back where a reply goes.
    fn take_reply(&mut self, reply: Resource<ReplyTo>) -> Trappable<ReplyTo> {
        let (OwedReplies(owed), table) = self.slot_and_table();
        let reply = table.delete(reply)?;
        *owed -= 1;
        Ok(reply)
    }
}

impl processes::HostReplyTo for State {
    fn send(&mut self, reply: Resource<ReplyTo>, payload: types::Payload) -> Given<bool> {
        let reply = self.take_reply(reply)?;
        given(self.message(payload).and_then(|payload| match reply.send(payload) {
            Ok(()) => Ok(true),
            Err(ReplyError::Late { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }))
    }

    fn is_awaited(&mut self, reply: Resource<ReplyTo>) -> Trappable<bool> {
        Ok(self.table().get(&reply)?.is_awaited())
    }

    fn drop(&mut self, reply: Resource<ReplyTo>) -> Trappable<()> {
        self.take_reply(reply).map(drop)
    }
}

impl processes::Host for State {
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
        // What it was refused and could do without is not why it fails later.
        self.limits.forgive();
        let message = match timeout_ms.map(Duration::from_millis) {
            Some(Duration::ZERO) => process.try_receive(),
            Some(time) => self.waiting(process.receive_timeout(time)).await,
            None => Some(self.waiting(process.receive()).await),
        };
        given(message.map(|message| self.received(message)).transpose())
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
        given(message.map(|message| self.received(message)).transpose())
    }

    async fn send(&mut self, to: String, payload: types::Payload) -> Given<()> {
        let (access, ctx) = self.processes()?;
        let payload = self.message(payload);
        given(
            self.waiting(async {
                let (to, payload) = (destination(&to)?, payload?);
                Ok(access.manager(&ctx)?.send(&ctx, to, payload).await?)
            })
            .await,
        )
    }

    fn try_send(&mut self, to: String, payload: types::Payload) -> Given<()> {
        let (access, ctx) = self.processes()?;
        let payload = self.message(payload);
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
        let (access, ctx) = self.processes()?;
        let payload = self.message(payload);
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

    fn spawn(&mut self, start: processes::Process) -> Given<String> {
        let (access, ctx) = self.processes()?;
        let start = convert::start(start, self.json_memory);
        given(start.and_then(|start| {
            let pid = access.starting(&ctx, &start)?.spawn(&ctx, start)?;
            Ok(pid.to_string())
        }))
    }

    async fn spawn_or_signal(&mut self, start: processes::Process) -> Given<processes::Spawned> {
        let (access, ctx) = self.processes()?;
        let start = convert::start(start, self.json_memory);
        given(
            self.waiting(async {
                let start = start?;
                Ok(match access.spawn_or_signal(&ctx, start).await? {
                    Spawned::New(pid) => processes::Spawned::New(pid.to_string()),
                    Spawned::Signalled(pid) => processes::Spawned::Signalled(pid.to_string()),
                })
            })
            .await,
        )
    }

    async fn exec(&mut self, start: processes::Process) -> Given<types::Payload> {
        let (access, ctx) = self.processes()?;
        let start = convert::start(start, self.json_memory);
        let longest = self.payload;
        given(
            self.waiting(async {
                let start = start?;
                let result = access.starting(&ctx, &start)?.exec(&ctx, start).await;
                convert::result(result.map_err(guest::exec_error)?, longest)
            })
            .await,
        )
    }

    fn monitor(&mut self, other: String) -> Given<String> {
        let (access, ctx) = self.processes()?;
        given(access.monitor(&ctx, &other).map(|monitor| monitor.to_string()))
    }

    fn demonitor(&mut self, monitor: String) -> Given<bool> {
        given(guest::demonitor(self.ctx(), &monitor))
    }

    fn link(&mut self, other: String) -> Given<()> {
        let (access, ctx) = self.processes()?;
        given(access.link(&ctx, &other))
    }

    fn unlink(&mut self, other: String) -> Given<()> {
        let (access, ctx) = self.processes()?;
        given(access.unlink(&ctx, &other))
    }

    fn trap_links(&mut self, traps: bool) -> Given<()> {
        given(process(self.ctx(), "trap-links").map(|process| process.trap_links(traps)))
    }

    fn cancel(&mut self, to: String, reason: String, grace_ms: Option<u64>) -> Given<()> {
        let (access, ctx) = self.processes()?;
        given(access.cancel(&ctx, &to, &reason, grace_ms.map(Duration::from_millis)))
    }

    fn terminate(&mut self, to: String) -> Given<()> {
        let (access, ctx) = self.processes()?;
        given(access.terminate(&ctx, &to))
    }

    fn register(&mut self, name: String) -> Given<()> {
        given(guest::register(self.ctx(), &name))
    }

    fn unregister(&mut self, name: String) -> Given<bool> {
        let (access, ctx) = self.processes()?;
        given(access.unregister(&ctx, &name))
    }

    fn whereis(&mut self, name: String) -> Given<Option<String>> {
        let (access, ctx) = self.processes()?;
        given(access.whereis(&ctx, &name).map(|pid| pid.map(|pid| pid.to_string())))
    }

    async fn lookup(&mut self, name: String, timeout_ms: Option<u64>) -> Given<Option<String>> {
        let (access, ctx) = self.processes()?;
        let timeout = timeout_ms.map(Duration::from_millis);
        let found = self.waiting(access.lookup(&ctx, &name, timeout)).await;
        given(found.map(|pid| pid.map(|pid| pid.to_string())))
    }
}
