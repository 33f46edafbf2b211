//! Requests that scripts describe.

use frame_dispatch::lua::{Values, mlua};
use frame_dispatch::{CallError, Ctx, ErrorKind};
use frame_net::http::{Bytes, HttpClient, HttpError, Method, Request};
use mlua::{Lua, Table, Value};

use super::response::Answer;
use super::{credentials, pairs, parts};
use crate::modules::connect::{self, Way};
use crate::modules::lua::headers;
use crate::modules::lua::members::{Members, invalid, utf8};

/// The options that every request has.
pub(super) const COMMON: [&str; 11] = [
    "basic",
    "bearer",
    "connect_timeout",
    "first_byte_timeout",
    "headers",
    "isolation",
    "max_body",
    "max_redirects",
    "query",
    "sensitive",
    "timeout",
];

/// The options of requests that may have a body.
pub(super) const BODY: [&str; 5] = ["body", "form", "forward_body", "json", "multipart"];

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
    way: Way,
    bound: Bound,
}

/// What limits the body of the response.
#[derive(Clone, Copy)]
enum Bound {
    /// How many bytes the script has memory left for.
    Memory(u64),
    /// The option `max_body`.
    Option(u64),
    /// The configuration of the client.
    Setting,
}

impl Sender {
    pub(super) fn asked(
        &self,
        lua: &Lua,
        ctx: &Ctx,
        method: &Method,
        url: &mlua::LuaString,
        options: &Members,
    ) -> mlua::Result<Asked> {
        let config = self.client.config();
        let failed = |error| Values::raise(connect::of_http(error));
        let mut request = Request::new(method.clone(), &utf8(url, "the URL")?).map_err(failed)?;
        if let Some(table) = options.table("headers")? {
            for (name, value) in headers::read(&table, &sensitive(options)?)? {
                request = request.header(name, value).map_err(failed)?;
            }
        }
        request = credentials::add(request, options)?;
        if let Some(query) = options.table("query")? {
            request = request.query(pairs::read(lua, &query, "query", LARGEST_QUERY)?).map_err(failed)?;
        }
        // A script narrows what the client may do, and never widens it.
        if let Some(timeout) = options.seconds("timeout")? {
            request = request.time_limit(timeout.min(config.time_limit));
        }
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
        let own_max_body = options.count("max_body")?.filter(|max| *max < config.max_response_body);
        let max_body = own_max_body.unwrap_or(config.max_response_body);
        let room = u64::try_from(self.values.room(lua)?).unwrap_or(u64::MAX);
        request = request.max_response_body(max_body.min(room));
        let isolation = options.text("isolation")?;
        let way = Way::of(ctx, isolation.as_deref()).map_err(Values::raise)?;
        let bound = match own_max_body {
            _ if room < max_body => Bound::Memory(room),
            Some(max) => Bound::Option(max),
            None => Bound::Setting,
        };
        Ok(Asked { request, way, bound })
    }

    pub(super) fn with_body(
        &self,
        lua: &Lua,
        request: Request,
        body: Option<mlua::LuaString>,
        options: &Members,
    ) -> mlua::Result<Request> {
        let request = request.forward_body(options.boolean("forward_body")?.unwrap_or(false));
        let json = Some(options.value("json")?).filter(|json| !json.is_nil());
        let (form, multipart) = (options.table("form")?, options.table("multipart")?);
        let given = [body.is_some(), json.is_some(), form.is_some(), multipart.is_some()];
        if given.into_iter().filter(|is_given| *is_given).count() > 1 {
            return Err(invalid(
                "a request has one of `body`, `json`, `form` and `multipart`, and not several",
            ));
        }
        if request.method() == Method::HEAD && given.contains(&true) {
            return Err(invalid("a `HEAD` request has no body"));
        }
        let failed = |error| Values::raise(connect::of_http(error));
        let max = usize::try_from(self.client.config().max_request_body).unwrap_or(usize::MAX);
        if let Some(json) = json {
            request.json_text(self.values.encode(lua, &json, "`json`")?).map_err(failed)
        } else if let Some(form) = form {
            request.form(pairs::read(lua, &form, "form", max)?).map_err(failed)
        } else if let Some(multipart) = multipart {
            if request.headers().contains_key("content-type") {
                return Err(invalid(
                    "`multipart` sets the header `content-type`, which names its boundary; leave it out",
                ));
            }
            request.multipart(parts::read(lua, &multipart, max)?).map_err(failed)
        } else if let Some(body) = body {
            Ok(request.body(Bytes::copy_from_slice(&body.as_bytes())))
        } else {
            Ok(request)
        }
    }

    pub(super) async fn send(self, asked: Asked) -> mlua::Result<Answer> {
        let Asked { request, way, bound } = asked;
        let told = |error| Values::raise(told(error, bound));
        let response = way.send(&self.client, request).await.map_err(told)?;
        let (status, url) = (response.status().as_u16(), response.url().to_string());
        let headers = response.headers().clone();
        let (version, redirects) = (response.version(), response.redirects());
        let route = way.route().clone();
        let body = response.bytes().await.inspect_err(|error| way.log(error)).map_err(told)?;
        let (values, metatable) = (self.values, self.metatable);
        Ok(Answer { status, version, url, redirects, route, headers, body, values, metatable })
    }
}

/// An error, where the body that was too long may have been so for want of memory, or for the script's own limit.
fn told(error: HttpError, bound: Bound) -> CallError {
    let HttpError::BodyTooLarge { peer, limit } = &error else { return connect::of_http(error) };
    let message = match bound {
        Bound::Memory(room) if *limit == room => format!(
            "the body of the response from {peer} has more than {limit} bytes, which is what the script has memory left for"
        ),
        Bound::Option(max) if *limit == max => {
            format!(
                "the body of the response from {peer} has more than {limit} bytes, the limit of `max_body`"
            )
        }
        _ => return connect::of_http(error),
    };
    CallError::new(ErrorKind::Exhausted, message).with_retryable(false).with_source(error)
}

/// The names of the option `sensitive`, in lower case.
fn sensitive(options: &Members) -> mlua::Result<Vec<Vec<u8>>> {
    let Some(names) = options.table("sensitive")? else { return Ok(Vec::new()) };
    let names = names.sequence_values::<Value>().map(|name| match name? {
        Value::String(name) => Ok(name.as_bytes().to_ascii_lowercase()),
        other => {
            let kind = Values::type_of(&other);
            Err(invalid(format!("`sensitive` is a list of names of headers; there is {kind}")))
        }
    });
    names.collect()
}

/// How many bytes a query has at most. A longer one is in no request.
const LARGEST_QUERY: usize = 64 << 10;
