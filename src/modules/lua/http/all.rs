//! Several requests at once.

use std::sync::atomic::{AtomicU64, Ordering};

use frame_dispatch::lua::{ModuleBuilder, Values, mlua};
use frame_dispatch::{CallContext, CallError, ErrorKind};
use frame_net::http::Method;
use futures_util::{StreamExt as _, stream};
use mlua::{IntoLua, Lua, Table, Value};

use super::pairs::only_list;
use super::request::{Asked, Sender};
use super::response::{Body, LuaResponse};
use crate::modules::lua::members::{Members, invalid};

/// How many requests there can be.
const MOST: usize = 256;

/// How many of them are made at once, and how many at most.
const TOGETHER: u64 = 8;
const MOST_TOGETHER: u64 = 16;

/// What a request or a response takes besides its headers and its body.
const OWN: u64 = 1024;

/// Adds `http.all`.
pub(super) fn install(module: &mut ModuleBuilder<'_>, sender: Sender) -> mlua::Result<()> {
    module.prepared_function("all", move |lua, ctx, (list, options): (Table, Option<Table>)| {
        let options = Members::new(options, "the options table of `http.all`", &["concurrency"])?;
        let together = options.count("concurrency")?.unwrap_or(TOGETHER);
        if !(1..=MOST_TOGETHER).contains(&together) {
            return Err(invalid(format!(
                "`concurrency` is an integer from 1 to {MOST_TOGETHER}; it is {together}"
            )));
        }
        if list.raw_len() > MOST {
            let given = list.raw_len();
            return Err(invalid(format!("`http.all` takes at most {MOST} requests; there are {given}")));
        }
        only_list(&list, "http.all")?;
        let room = sender.values.room(lua)?;
        // One string of the script can be in all of them.
        let requested =
            Room::new(room, "the requests have more bytes together than the script has memory left for");
        let mut requests = Vec::new();
        for request in list.sequence_values::<Value>() {
            let asked = read(&sender, lua, &ctx, request?)?;
            requested.take(size(&asked)).map_err(Values::raise)?;
            requests.push(asked);
        }
        let room =
            Room::new(room, "the responses have more bytes together than the script has memory left for");
        let sender = sender.clone();
        Ok(async move {
            let answers = requests.into_iter().map(|request| one(&sender, request, &room));
            let together = usize::try_from(together).unwrap_or(1);
            let answers = stream::iter(answers).buffered(together).collect().await;
            Ok(Answers { answers, values: sender.values.clone() })
        })
    })
}

/// A request, which is a table as that of `http.request`, or the URL of a `GET`.
fn read(sender: &Sender, lua: &Lua, ctx: &CallContext, request: Value) -> mlua::Result<Asked> {
    let asked = match request {
        Value::String(url) => {
            sender.asked(lua, ctx, &Method::GET, &url, &Members::new(None, "a request", &[])?)?
        }
        Value::Table(request) => sender.whole(lua, ctx, request)?,
        other => {
            let kind = Values::type_of(&other);
            return Err(invalid(format!("`http.all` takes a list of requests or URLs; there is {kind}")));
        }
    };
    if asked.terms.stream.is_some() {
        return Err(invalid("the responses of `http.all` cannot be streams; leave out `stream`"));
    }
    Ok(asked)
}

/// How many bytes all requests, or all responses, may have from now on: they are in the memory of the host beside what is in
/// that of the script.
struct Room {
    left: AtomicU64,
    /// What an error says.
    exceeded: &'static str,
}

impl Room {
    fn new(bytes: usize, exceeded: &'static str) -> Self {
        Self { left: AtomicU64::new(len(bytes)), exceeded }
    }

    fn take(&self, bytes: u64) -> Result<(), CallError> {
        let take = |left: u64| left.checked_sub(bytes);
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(drop).map_err(|_| CallError::new(ErrorKind::Exhausted, self.exceeded).with_retryable(false))
    }
}

/// How many bytes a request takes until it is sent.
fn size(asked: &Asked) -> u64 {
    let request = &asked.request;
    let headers = request.headers().iter().map(|(name, value)| len(name.as_str().len() + value.len()));
    let parts = [len(request.url().as_str().len()), asked.body_bytes(), OWN];
    headers.chain(parts).fold(0, u64::saturating_add)
}

fn len(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

async fn one(sender: &Sender, asked: Asked, room: &Room) -> Result<LuaResponse, CallError> {
    let (mut response, terms) = sender.sent(asked).await?;
    let mut answer = sender.head(&response);
    let headers = answer.headers.iter().map(|(name, value)| len(name.as_str().len() + value.len()));
    room.take(headers.sum::<u64>().saturating_mul(2).saturating_add(OWN))?;
    let mut body = Vec::new();
    let failed = |error| {
        terms.way.log(&error);
        terms.bound.told(error)
    };
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        room.take(len(piece.len()))?;
        body.extend_from_slice(&piece);
    }
    answer.body = Body::Whole(body.into());
    answer.trailers = response.trailers().cloned();
    Ok(answer)
}

/// The responses in the order of the requests, on their way into a VM.
struct Answers {
    answers: Vec<Result<LuaResponse, CallError>>,
    values: Values,
}

impl IntoLua for Answers {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let results = lua.create_table_with_capacity(self.answers.len(), 0)?;
        for answer in self.answers {
            let result = match answer {
                Ok(answer) => answer.into_lua(lua)?,
                Err(error) => {
                    let failed = lua.create_table_with_capacity(0, 1)?;
                    failed.raw_set("error", self.values.failure(lua, error)?)?;
                    Value::Table(failed)
                }
            };
            results.raw_push(result)?;
        }
        Ok(Value::Table(results))
    }
}
