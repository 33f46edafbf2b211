//! The one way out for the requests of a guest.

use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::CallContext;
use frame_net::Dialer;
use frame_net::http::HttpClient;
use http::{HeaderName, header};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};

use super::budget::Budget;
use super::request::Alive;
use super::{error, request, response};
use crate::modules::refusal;

/// How many bytes a guest writes of a body before somebody has to take them. There is room for two such pieces.
pub(super) const BODY_CHUNK: usize = 16 << 10;

/// What a call makes its requests with.
pub(super) struct Hooks {
    client: HttpClient,
    call: CallContext,
    budget: Budget,
    alive: Arc<()>,
}

impl Hooks {
    pub(super) fn new(client: HttpClient, call: CallContext) -> Self {
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
        let mut request = request::of(request, self.alive).await?;
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
        Ok(response::of(response, patience, place, self.call))
    }
}
