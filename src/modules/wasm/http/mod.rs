//! `wasi:http`, through the network of the frame.
//!
//! | file | what is in it |
//! |---|---|
//! | `hooks.rs` | the one way out: a request of a guest, and the network of its call |
//! | `budget.rs` | how much a call may have under way |
//! | `request.rs` | what a guest asks for, as the client's request, and the body that it writes |
//! | `response.rs` | the body of a response, as the guest reads it |
//! | `error.rs` | what a guest is told where there is no response |

mod error;
mod messages;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::wasm::wasmtime::component::{Linker, Resource};
use frame_dispatch::wasm::wasmtime::{self, StoreContextMut};
use frame_dispatch::wasm::{GuestState, HostModule};
use frame_dispatch::{CallContext, CallError};
use frame_net::Dialer;
use frame_net::http::HttpClient;
use http::{HeaderName, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{self, IoError};
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, FieldMap, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttp,
    WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
};

use self::messages::Alive;
use crate::modules::refusal;

/// The interface whose function is replaced, as `wasmtime-wasi-http` calls it.
const TYPES: &str = "wasi:http/types@0.2.12";

/// How many bytes the headers have that a guest puts together, as the host counts them: each field some 70 bytes more
/// than its text.
const MAX_FIELDS: usize = 32 << 10;

/// `wasi:http` 0.2 for components: `types` and `outgoing-handler`. With it a component makes requests over HTTP; each
/// goes through the [dialer](frame_net::dialer) of the frame of the call that makes it, and there is no other way.
/// `incoming-handler` is not offered: what is called here are functions.
///
/// It is given to the [builder](frame_dispatch::wasm::WasmEngineBuilder::module) of an engine. Its client may be shared
/// with others: connections that wait serve only requests of the same network and isolation key.
///
/// ```
/// use frame_dispatch::wasm::WasmEngine;
/// use frame_net::http::{HttpClient, HttpConfig};
/// use frame_runtime::modules::wasm::HttpModule;
///
/// let client = HttpClient::new(HttpConfig::default())?;
/// let engine = WasmEngine::builder().module(HttpModule::new(client)).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What a guest can rely on
///
/// - A request is sent while its body is written, and as fast as the server takes it. A body that is dropped, that its
///   `Content-Length` does not fit, or that the end of the call cuts off is never whole to the server. Without a
///   `Content-Length` it is sent in chunks over HTTP/1.1; a `GET`, and others but `POST`, `PUT` and `PATCH`, wait for its
///   first bytes, to have none if there are none. Trailers of a request are sent if the header `Trailer` names them; others
///   fail the request.
/// - Bodies are bytes as they are sent: nothing is asked for with `Accept-Encoding`, and nothing is decoded. With a secret
///   `identity` is asked for, and a body that is encoded all the same is refused.
/// - A redirect is a response as any other.
/// - The body of a response comes as fast as the guest reads it, and then its trailers.
/// - The timeouts of `request-options` hold beside the client's limits: the
///   [one for everything](frame_net::http::HttpConfig::time_limit) until the head of the response is there, if the request
///   has no body, and for bodies the [one in which nothing moves](frame_net::http::HttpConfig::stall_limit). The one until
///   the first byte counts from when there is a connection, and the request was sent, to when the head of the response is
///   there.
/// - What the client alone decides on cannot be set: beside what `wasi:http` forbids those are `Expect` and `TE`, which
///   are forbidden, too.
/// - The header `frame-secret` is not sent: it names the [secret](frame_net::secrets) that the request carries, one that the
///   option `secrets` of the frame grants. With several, or with what is not an id, the request fails with
///   `HTTP-request-denied`, and so does one that cannot carry its secret. That is only sent in the header that belongs to it.
/// - The client's [default headers](frame_net::http::HttpConfig::headers) are sent with requests that have none of their
///   names.
/// - A request that waits for one of the client's [connections to a
///   host](frame_net::http::HttpConfig::max_connections_per_host) fails with `connection-limit-reached` if none is free in
///   time. A response that is not read holds its connection.
/// - With the call ends what it has under way: its connections are closed.
/// - Over HTTP/2 the requests of a component share connections. Several large responses that it does not read hold up its own
///   others from the same server.
///
/// # Limits
///
/// What is under way is memory of the host, and not of the guest's limits. A call, or a process, has at once
///
/// - 16 requests, each from when it is made until its response is read to the end or dropped; further ones wait, and
///   fail with `connection-limit-reached` if there is no place within the client's limit for everything,
/// - of each body that it writes what can be written and is not taken yet, 32 KiB, and the first 64 KiB, to send the request
///   again where the server has not processed it; all of it has at most
///   [`max_streamed_body`](frame_net::http::HttpConfig::max_streamed_body),
/// - of each response no more than what one read of its connection gave, or over HTTP/2 2 MiB, and 5 MiB of all on a
///   connection; and of the whole [`max_streamed_body`](frame_net::http::HttpConfig::max_streamed_body), too,
/// - handles of resources within [`host_memory`](frame_dispatch::wasm::WasmConfig::host_memory), where headers count as
///   they are, and what can be written of a body and is not taken yet counts 32 KiB. The headers that a guest puts
///   together have at most 32 KiB. Beyond either the call fails.
///
/// # What a guest is told of failures
///
/// Only the code of `wasi:http`: of a name, not even whether it is the name or one of its addresses that is not allowed. The
/// hosts and routes are in an event of the log, with the unit; paths, headers and bodies, where secrets may be, are nowhere.
#[derive(Clone)]
pub struct HttpModule {
    client: HttpClient,
}

impl HttpModule {
    /// Requests are made by `client`.
    pub fn new(client: HttpClient) -> Self {
        Self { client }
    }
}

impl HostModule for HttpModule {
    fn link(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        outgoing_handler::add_to_linker::<_, WasiHttp>(linker, view)?;
        types::add_to_linker::<_, WasiHttp>(linker, &types::LinkOptions::default(), view)?;
        // That of `wasmtime-wasi-http` knows the errors of no body but those that a guest writes.
        linker.instance(TYPES)?.func_wrap(
            "http-error-code",
            |mut store: StoreContextMut<'_, GuestState>, (failed,): (Resource<IoError>,)| {
                Ok((error::code_of_stream(store.data_mut().table().get(&failed)?),))
            },
        )
    }

    fn prepare(&self, state: &mut GuestState) -> Result<(), CallError> {
        state.weigh_with(weight);
        let slot = state.slot::<Slot>();
        slot.client = Some(self.client.clone());
        Ok(())
    }
}

impl fmt::Debug for HttpModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpModule").field("client", &self.client).finish()
    }
}

/// What a call keeps. Most make no request: the rest is there once one asks for it.
#[derive(Default)]
struct Slot {
    client: Option<HttpClient>,
    used: Option<Box<Used>>,
}

struct Used {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

/// How many bytes a resource takes, if it may be many.
fn weight(resource: &dyn Any) -> usize {
    // As `wasmtime-wasi-http` counts it where a guest puts headers together.
    const FIELD: usize = 70;
    let fields = |fields: &FieldMap| {
        fields.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD).sum::<usize>()
    };
    if let Some(headers) = resource.downcast_ref::<FieldMap>() {
        return fields(headers);
    }
    if let Some(request) = resource.downcast_ref::<HostOutgoingRequest>() {
        return fields(&request.headers);
    }
    if let Some(response) = resource.downcast_ref::<HostIncomingResponse>() {
        return fields(&response.headers);
    }
    if resource.is::<HostOutgoingBody>() {
        return BODY_CHUNK * 2;
    }
    0
}

/// What the functions of `wasi:http` work on.
fn view(state: &mut GuestState) -> WasiHttpCtxView<'_> {
    state.weigh();
    if state.slot::<Slot>().used.is_none() {
        let call = state.ctx().clone();
        let slot = state.slot::<Slot>();
        let client = slot.client.clone().expect("the module has prepared the call");
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(MAX_FIELDS);
        slot.used = Some(Box::new(Used { ctx, hooks: Hooks::new(client, call) }));
    }
    let (slot, table) = state.slot_and_table::<Slot>();
    let used = slot.used.as_mut().expect("it was made above");
    WasiHttpCtxView { ctx: &mut used.ctx, table, hooks: &mut used.hooks }
}

/// How many bytes a guest writes of a body before somebody has to take them. There is room for two such pieces.
pub(super) const BODY_CHUNK: usize = 16 << 10;

/// What a call makes its requests with.
struct Hooks {
    client: HttpClient,
    call: CallContext,
    budget: Budget,
    alive: Arc<()>,
}

impl Hooks {
    fn new(client: HttpClient, call: CallContext) -> Self {
        Self { client, call, budget: Budget::new(), alive: Arc::default() }
    }

    /// What is needed to send a request of this call. It is looked up for each: the network of a frame may be gone.
    fn outgoing(&self, options: Option<RequestOptions>) -> Result<Outgoing, Error> {
        let dialer = frame_net::dialer(self.call.frame(), self.call.app());
        Ok(Outgoing {
            dialer: dialer.map_err(|failed| {
                refusal::log(&self.call, &failed);
                error::of_network(&failed)
            })?,
            call: self.call.clone(),
            client: self.client.clone(),
            budget: self.budget.clone(),
            alive: Arc::downgrade(&self.alive),
            options: options.unwrap_or_default(),
        })
    }
}

/// A future that `wasi:http` runs in a task, which is aborted with the guest's handle to it.
type Sending = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send>;

/// What drives a connection behind its response; here the client does.
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    /// Those that the client sets itself, too. `Trailer` is not among them, because responses have it.
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        const FURTHER: [HeaderName; 2] = [header::EXPECT, header::TE];
        Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name) || FURTHER.contains(name))
    }

    /// The client does.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sending {
        let outgoing = self.outgoing(options);
        Box::new(async move {
            let response = outgoing?.send(request).await?;
            Ok((response, Box::new(async { Ok(()) }) as Io))
        })
    }
}

/// A request on its way.
struct Outgoing {
    dialer: Dialer,
    call: CallContext,
    client: HttpClient,
    budget: Budget,
    alive: Alive,
    options: RequestOptions,
}

impl Outgoing {
    async fn send(self, request: http::Request<WasiBody>) -> Result<http::Response<WasiBody>, Error> {
        let RequestOptions { connect_timeout, first_byte_timeout, between_bytes_timeout } = self.options;
        let config = self.client.config();
        let place = self.budget.request(config.time_limit).await?;
        let mut request = messages::client_request(request, self.alive).await?;
        // To a component each response is a stream, and most of them are small: over HTTP/2 they share a connection.
        request = request.streamed().own_connection(false);
        if let Some(limit) = connect_timeout {
            request = request.connect_limit(limit.min(config.connect_limit));
        }
        if let Some(limit) = first_byte_timeout {
            request = request.answer_limit(config.answer_limit.map_or(limit, |most| limit.min(most)));
        }
        let sent = self.client.send(&self.dialer, request).await;
        let response = sent.map_err(|failed| {
            refusal::log(&self.call, &failed);
            error::before_the_body(&failed)
        })?;
        let patience = between_bytes_timeout.unwrap_or(Duration::MAX);
        Ok(messages::guest_response(response, patience, place, self.call))
    }
}

/// How many requests at once.
const MAX_REQUESTS: usize = 16;

/// The requests that one call may have under way at once.
#[derive(Debug, Clone)]
struct Budget(Arc<Semaphore>);

impl Budget {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_REQUESTS)))
    }

    /// A request's place among the others, as soon as there is one, in the order in which they ask.
    async fn request(&self, patience: Duration) -> Result<OwnedSemaphorePermit, Error> {
        let place = timeout(patience, Arc::clone(&self.0).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or(Error::ConnectionLimitReached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_requests_at_once_and_further_ones_wait() {
        let budget = Budget::new();
        let patience = Duration::from_secs(30);
        let mut taken = Vec::new();
        for _ in 0..MAX_REQUESTS {
            taken.push(budget.request(patience).await.unwrap());
        }
        assert!(matches!(budget.request(patience).await, Err(Error::ConnectionLimitReached)));
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.request(patience).await.is_ok() }
        });
        tokio::task::yield_now().await;
        taken.pop();
        assert!(waiting.await.unwrap());
    }
}
