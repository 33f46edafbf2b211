//! Requests that scripts describe.

use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::lua::{Values, mlua};
use frame_dispatch::{CallContext, CallError, ErrorKind};
use frame_net::http::multipart::Form;
use frame_net::http::{Bytes, HttpClient, HttpError, Method, Request, Response};
use mlua::{Lua, Table};

use super::open::Open;
use super::response::{self as answer, LuaResponse, OpenedBody, Stream};
use super::{pairs, parts, upload};
use crate::modules::connect::{self, Way};
use crate::modules::lua::fs::{self, Access, Opening};
use crate::modules::lua::headers;
use crate::modules::lua::members::{self, Members, invalid, shown, utf8};

/// The options that every request has.
pub(super) const COMMON: [&str; 15] = [
    "basic",
    "bearer",
    "connect_timeout",
    "decode",
    "first_byte_timeout",
    "headers",
    "isolation",
    "max_body",
    "max_redirects",
    "query",
    "secret",
    "sensitive",
    "stall_timeout",
    "stream",
    "timeout",
];

/// The options of requests that may have a body.
pub(super) const BODY: [&str; 6] = ["body", "file", "form", "forward_body", "json", "multipart"];

/// Makes the requests of one VM.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) client: HttpClient,
    pub(super) values: Values,
    pub(super) metatable: Table,
}

/// A request that was read.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) terms: Terms,
    /// Its body, if there are files in that.
    files: Option<Files>,
}

/// A body with files that are opened when the request is sent.
enum Files {
    Body(Opening),
    Form(parts::Parts),
}

/// How a request is sent, and what its response is read with.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) way: Way,
    pub(super) bound: Bound,
    /// How long what is streamed may stand still.
    pub(super) stall: Duration,
    /// Where the body of the response is open, if it is read piece by piece.
    pub(super) stream: Option<Arc<Open>>,
}

/// What limits the body of the response.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    /// How many bytes the script has memory left for.
    Memory(u64),
    /// The option `max_body`.
    Option(u64),
    /// The configuration of the client.
    Setting,
}

impl Asked {
    /// How many bytes its body takes until it is sent.
    pub(super) fn body_bytes(&self) -> u64 {
        match &self.files {
            Some(Files::Form(parts)) => u64::try_from(parts.bytes()).unwrap_or(u64::MAX),
            Some(Files::Body(_)) => 0,
            None => self.request.body_length().unwrap_or(0),
        }
    }
}

impl Sender {
    pub(super) fn asked(
        &self,
        lua: &Lua,
        ctx: &CallContext,
        method: &Method,
        url: &mlua::LuaString,
        options: &Members,
    ) -> mlua::Result<Asked> {
        let config = self.client.config();
        let failed = |error| Values::raise(connect::of_http(error));
        let mut request = Request::new(method.clone(), &utf8(url, "the URL")?).map_err(failed)?;
        if let Some(table) = options.table("headers")? {
            let sensitive = options.table("sensitive")?;
            let sensitive = sensitive.map(|names| headers::names(&names, "sensitive")).transpose()?;
            for (name, value) in headers::read(&table, &sensitive.unwrap_or_default())? {
                request = request.header(name, value).map_err(failed)?;
            }
        }
        request = add_credentials(request, options)?;
        if let Some(id) = members::secret(options)? {
            request = request.secret(id);
        }
        if let Some(query) = options.table("query")? {
            request = request.query(pairs::read(lua, &query, "query", LARGEST_QUERY)?).map_err(failed)?;
        }
        let stream = match options.boolean("stream")? {
            Some(true) => Some(Open::of_call(lua, &self.values)?),
            Some(false) | None => None,
        };
        // A script narrows what the client may do, and never widens it. What is streamed takes as long as it takes.
        let is_stream =
            stream.is_some() || !options.value("file")?.is_nil() || !options.value("length")?.is_nil();
        if let Some(timeout) = options.seconds("timeout")? {
            let most = if is_stream { timeout } else { config.time_limit };
            request = request.time_limit(timeout.min(most));
        }
        let stall = options.seconds("stall_timeout")?;
        let stall = stall.map_or(config.stall_limit, |timeout| timeout.min(config.stall_limit));
        request = request.stall_limit(stall);
        request = request.decode(options.boolean("decode")?.unwrap_or(true));
        if let Some(timeout) = options.seconds("connect_timeout")? {
            request = request.connect_limit(timeout.min(config.connect_limit));
        }
        if let Some(timeout) = options.seconds("first_byte_timeout")? {
            request = request.answer_limit(config.answer_limit.map_or(timeout, |limit| timeout.min(limit)));
        }
        if let Some(max) = options.count("max_redirects")? {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            request = request.max_redirects(max.min(config.max_redirects));
        }
        let most = match stream {
            Some(_) => config.max_streamed_body.unwrap_or(u64::MAX),
            None => config.max_response_body,
        };
        let own_max_body = options.count("max_body")?.filter(|max| *max < most);
        let max_body = own_max_body.unwrap_or(most);
        // What is streamed comes into the memory of the script as that reads it.
        let room = match stream {
            Some(_) => u64::MAX,
            None => u64::try_from(self.values.room(lua)?).unwrap_or(u64::MAX),
        };
        request = request.max_response_body(max_body.min(room));
        if stream.is_some() {
            request = request.streamed();
        }
        let isolation = options.text("isolation")?;
        let way = Way::of(ctx, isolation.as_deref()).map_err(Values::raise)?;
        let bound = match own_max_body {
            _ if room < max_body => Bound::Memory(room),
            Some(max) => Bound::Option(max),
            None => Bound::Setting,
        };
        Ok(Asked { request, terms: Terms { way, bound, stall, stream }, files: None })
    }

    /// A request as `http.request` takes it, with the method `default` unless it names another. `further` members are the
    /// caller's.
    pub(super) fn described(
        &self,
        lua: &Lua,
        ctx: &CallContext,
        request: Table,
        default: Method,
        further: &[&str],
    ) -> mlua::Result<(Asked, Members)> {
        let known = [&COMMON[..], &["method", "url"], further].concat();
        let members = Members::new(Some(request), "a request", &known)?;
        let url = members.string("url")?.ok_or_else(|| invalid("a request has a `url`; it is missing"))?;
        let method = match members.string("method")? {
            None => default,
            Some(method) => Method::from_bytes(&method.as_bytes())
                .map_err(|_| invalid(format!("there is no method `{}`", shown(&method.to_string_lossy()))))?,
        };
        Ok((self.asked(lua, ctx, &method, &url, &members)?, members))
    }

    /// A request of `http.request`, with its body.
    pub(super) fn whole(&self, lua: &Lua, ctx: &CallContext, request: Table) -> mlua::Result<Asked> {
        let (asked, members) = self.described(lua, ctx, request, Method::GET, &BODY)?;
        let body = members.string("body")?;
        self.with_body(lua, ctx, asked, body, &members)
    }

    pub(super) fn with_body(
        &self,
        lua: &Lua,
        ctx: &CallContext,
        mut asked: Asked,
        body: Option<mlua::LuaString>,
        options: &Members,
    ) -> mlua::Result<Asked> {
        let request = asked.request.forward_body(options.boolean("forward_body")?.unwrap_or(false));
        let json = Some(options.value("json")?).filter(|json| !json.is_nil());
        let (form, multipart) = (options.table("form")?, options.table("multipart")?);
        let file = options.string("file")?;
        let given = [body.is_some(), file.is_some(), form.is_some(), json.is_some(), multipart.is_some()];
        if given.into_iter().filter(|is_given| *is_given).count() > 1 {
            return Err(invalid(
                "a request has one of `body`, `file`, `form`, `json` and `multipart`, and not several",
            ));
        }
        if request.method() == Method::HEAD && given.contains(&true) {
            return Err(invalid("a `HEAD` request has no body"));
        }
        let failed = |error| Values::raise(connect::of_http(error));
        let max = usize::try_from(self.client.config().max_request_body).unwrap_or(usize::MAX);
        if let Some(path) = file {
            asked.files = Some(Files::Body(Box::pin(fs::open(ctx, (&path).into(), Access::Read))));
        }
        asked.request = if let Some(json) = json {
            request.json_text(self.values.encode(lua, &json, "`json`")?).map_err(failed)?
        } else if let Some(form) = form {
            request.form(pairs::read(lua, &form, "form", max)?).map_err(failed)?
        } else if let Some(multipart) = multipart {
            if request.headers().contains_key("content-type") {
                return Err(invalid(
                    "`multipart` sets the header `content-type`, which names its boundary; leave it out",
                ));
            }
            let parts = parts::read(lua, ctx, &multipart, max)?;
            // What can be wrong with it is wrong without parts, too, and is said before files are opened.
            let mut request = request.multipart(Form::new()).map_err(failed)?;
            if parts.has_file()
                && let Some(timeout) = options.seconds("timeout")?
            {
                // What is streamed takes as long as it takes.
                request = request.time_limit(timeout);
            }
            asked.files = Some(Files::Form(parts));
            request
        } else if let Some(body) = body {
            request.body(Bytes::copy_from_slice(&body.as_bytes()))
        } else {
            request
        };
        Ok(asked)
    }

    pub(super) async fn send(self, asked: Asked) -> mlua::Result<LuaResponse> {
        self.try_send(asked).await.map_err(Values::raise)
    }

    async fn try_send(&self, asked: Asked) -> Result<LuaResponse, CallError> {
        let (response, terms) = self.sent(asked).await?;
        self.answer(response, terms).await
    }

    /// The response to a request, and what to read it with.
    pub(super) async fn sent(&self, asked: Asked) -> Result<(Response, Terms), CallError> {
        let Asked { mut request, terms, files } = asked;
        request = match files {
            None => request,
            Some(Files::Body(file)) => request.body(upload::of_file(file.await?)),
            Some(Files::Form(parts)) => {
                let form = parts.open().await?;
                request.multipart(form).map_err(|error| terms.bound.told(error))?
            }
        };
        let response = terms.way.send(&self.client, request).await;
        response.map(|response| (response, terms.clone())).map_err(|error| terms.bound.told(error))
    }

    /// The response for the script, with its body, or a stream of it.
    pub(super) async fn answer(&self, response: Response, terms: Terms) -> Result<LuaResponse, CallError> {
        let mut answer = self.head(&response);
        let Terms { way, bound, stream, .. } = terms;
        if let Some(open) = stream {
            answer.body = answer::Body::Stream(OpenedBody::new(&open, Stream::new(response, way, bound)));
            return Ok(answer);
        }
        let (body, trailers) = response.bytes_and_trailers().await.map_err(|error| {
            way.log(&error);
            bound.told(error)
        })?;
        (answer.body, answer.trailers) = (answer::Body::Whole(body), trailers);
        Ok(answer)
    }

    /// The response for the script, still without its body.
    pub(super) fn head(&self, response: &Response) -> LuaResponse {
        LuaResponse {
            status: response.status().as_u16(),
            version: response.version(),
            url: response.url().to_string(),
            redirects: response.redirects(),
            route: response.route().clone(),
            headers: response.headers().clone(),
            trailers: None,
            body: answer::Body::Whole(Bytes::new()),
            values: self.values.clone(),
            metatable: self.metatable.clone(),
        }
    }
}

impl Bound {
    /// An error, where the body that was too long may have been so for want of memory, or for the script's own limit.
    pub(super) fn told(self, error: HttpError) -> CallError {
        let HttpError::BodyTooLarge { peer, limit, .. } = &error else { return connect::of_http(error) };
        let message = match self {
            Self::Memory(room) if *limit == room => format!(
                "the body of the response from {peer} has more than {limit} bytes, which is what the script has memory \
                 left for"
            ),
            Self::Option(max) if *limit == max => {
                format!(
                    "the body of the response from {peer} has more than {limit} bytes, the limit of `max_body`"
                )
            }
            _ => return connect::of_http(error),
        };
        CallError::new(ErrorKind::Exhausted, message).with_retryable(false).with_source(error)
    }
}

/// How many bytes a query has at most. A longer one is in no request.
const LARGEST_QUERY: usize = 64 << 10;

/// The request with the credentials that the options name, if they name any.
fn add_credentials(request: Request, options: &Members) -> mlua::Result<Request> {
    let (basic, bearer) = (options.table("basic")?, options.text("bearer")?);
    if basic.is_none() && bearer.is_none() {
        return Ok(request);
    }
    if basic.is_some() && bearer.is_some() {
        return Err(invalid("a request has `basic`, or `bearer`, and not both"));
    }
    if request.headers().contains_key("authorization") {
        return Err(invalid(
            "a request has the header `authorization`, or `basic` or `bearer`, which set it, and not both",
        ));
    }
    let request = if let Some(bearer) = bearer {
        request.bearer_auth(&bearer)
    } else {
        let basic = Members::new(basic, "`basic`", &["password", "username"])?;
        let part = |name: &str| {
            let text = basic.string(name)?;
            let text = text.ok_or_else(|| {
                invalid(format!("`basic` has a `username` and a `password`; `{name}` is missing"))
            })?;
            utf8(&text, &format!("`basic.{name}`"))
        };
        request.basic_auth(&part("username")?, &part("password")?)
    };
    request.map_err(|error| Values::raise(connect::of_http(error)))
}
