//! Bodies of requests that scripts write piece by piece, or that are files.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use frame_dispatch::lua::{ModuleBuilder, Values, mlua};
use frame_dispatch::{CallError, ErrorKind};
use frame_net::http::{Body, Bytes, HeaderMap, HeaderName, HttpError, Method, Request, Response};
use hyper::body::{Body as HttpBody, Frame};
use mlua::{AnyUserData, IntoLua, Lua, Table, UserDataFields as _, UserDataRegistry, Value};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

use super::open::{Handle, Item, Open};
use super::pairs::only_list;
use super::request::{Asked, Sender, Terms};
use crate::modules::lua::fs::OpenFile;
use crate::modules::lua::headers;
use crate::modules::lua::members::{Members, invalid, shown};

/// How many trailers an upload has at most.
const MOST_TRAILERS: usize = 64;

/// How many bytes are handed on at once.
const PIECE: usize = 64 << 10;

/// A request whose body is being written.
pub(super) struct Upload {
    /// A script does one thing at a time, so no other task waits for this lock.
    inner: Mutex<UploadState>,
}

struct UploadState {
    /// Until all of the body is written.
    writer: Option<mpsc::Sender<Piece>>,
    sending: Sending,
}

enum Sending {
    Going(Task),
    /// It was answered, or has failed, and the script does not know yet.
    Done(Box<Sent>),
    /// The response was taken, or the upload was closed.
    Ended,
}

type Sent = Result<Result<Response, HttpError>, JoinError>;

/// The task that sends. It ends with this.
struct Task(JoinHandle<Result<Response, HttpError>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Piece {
    Data(Bytes),
    /// All was written, and these trailers follow it. Without this the request is given up.
    End(HeaderMap),
}

/// What is written, as a body.
struct Written {
    pieces: mpsc::Receiver<Piece>,
    is_ended: bool,
}

impl HttpBody for Written {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.pieces.poll_recv(context)) {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::End(trailers)) => {
                self.is_ended = true;
                (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)))
            }
            None => Some(Err(io::Error::other("the script has not finished it"))),
        })
    }
}

impl Upload {
    /// Begins to send `request`, whose body has `length` bytes, if that is known, and trailers of these names.
    fn begin(
        sender: &Sender,
        request: Request,
        terms: &Terms,
        length: Option<u64>,
        trailers: &[HeaderName],
    ) -> Self {
        // One piece waits while another is being sent.
        let (writer, pieces) = mpsc::channel(1);
        let body = Body::new(Written { pieces, is_ended: false });
        let body = length.into_iter().fold(body, Body::with_length);
        let request = request.body(body.with_trailers(trailers.iter().cloned()));
        let (way, client) = (terms.way.clone(), sender.client.clone());
        let sending = tokio::spawn(async move { way.send(&client, request).await });
        let inner = UploadState { writer: Some(writer), sending: Sending::Going(Task(sending)) };
        Self { inner: Mutex::new(inner) }
    }

    /// Writes `data`. Returns whether the server takes more: it does not once it has answered.
    async fn write(&self, terms: &Terms, data: Bytes) -> mlua::Result<bool> {
        let mut inner = self.inner.lock().await;
        if inner.writer.is_none() {
            return Err(invalid("the body is finished; nothing more can be written"));
        }
        for piece in data.chunks(PIECE) {
            // What waits does not hold all that was written at once.
            if inner.hand(Piece::Data(Bytes::copy_from_slice(piece)), terms.stall).await {
                continue;
            }
            if let Sending::Going(task) = &mut inner.sending {
                let sent = (&mut task.0).await;
                inner.sending = Sending::Done(sent.into());
            }
            return match &inner.sending {
                Sending::Done(sent) if matches!(**sent, Ok(Ok(_))) => Ok(false),
                _ => inner.response(terms).await.map(|_| false),
            };
        }
        Ok(true)
    }

    /// Ends the body, with trailers, and waits for the response.
    async fn finish(&self, terms: &Terms, trailers: HeaderMap) -> mlua::Result<Response> {
        let mut inner = self.inner.lock().await;
        if inner.writer.is_some() {
            // Where nothing is read any more there is a response, or an error.
            inner.hand(Piece::End(trailers), terms.stall).await;
            inner.writer = None;
        }
        inner.response(terms).await
    }
}

impl UploadState {
    /// Hands on a piece of the body. Returns whether it was taken: it may not be once the request was answered. Until then
    /// the client limits how long it waits.
    async fn hand(&mut self, piece: Piece, stall: Duration) -> bool {
        let Some(writer) = &self.writer else { return false };
        let mut handing = std::pin::pin!(writer.send(piece));
        if let Sending::Going(task) = &mut self.sending {
            tokio::select! {
                biased;
                handed = &mut handing => return handed.is_ok(),
                sent = &mut task.0 => self.sending = Sending::Done(sent.into()),
            }
        }
        timeout(stall, handing).await.is_ok_and(|handed| handed.is_ok())
    }

    async fn response(&mut self, terms: &Terms) -> mlua::Result<Response> {
        let sent = match &mut self.sending {
            Sending::Going(task) => (&mut task.0).await,
            Sending::Done(_) | Sending::Ended => match std::mem::replace(&mut self.sending, Sending::Ended) {
                Sending::Done(sent) => *sent,
                _ => return Err(invalid("the upload has ended already")),
            },
        };
        self.sending = Sending::Ended;
        match sent {
            Ok(sent) => sent.map_err(|error| Values::raise(terms.bound.told(error))),
            Err(error) => {
                let failed = CallError::new(ErrorKind::Internal, "the request failed").with_source(error);
                Err(Values::raise(failed))
            }
        }
    }
}

/// What a script has of an upload.
struct Writer {
    handle: Handle,
    sender: Sender,
    terms: Terms,
    /// The names of the trailers that were announced.
    trailers: Vec<HeaderName>,
}

impl Writer {
    fn new(
        open: &Arc<Open>,
        sender: Sender,
        asked: Asked,
        length: Option<u64>,
        trailers: Vec<HeaderName>,
    ) -> Self {
        let Asked { request, terms, .. } = asked;
        let upload = Upload::begin(&sender, request, &terms, length, &trailers);
        Self { handle: open.add(Item::Upload(upload.into())), sender, terms, trailers }
    }

    /// The trailers that a script has for the end of the body.
    fn read_trailers(&self, table: Option<Table>) -> mlua::Result<HeaderMap> {
        let Some(table) = table else { return Ok(HeaderMap::new()) };
        let mut trailers = HeaderMap::new();
        for (name, value) in headers::read(&table, &headers::Names::default())? {
            if !self.trailers.contains(&name) {
                return Err(invalid(format!(
                    "the trailer `{name}` was not announced; name it in `trailers` of `http.upload`"
                )));
            }
            trailers.try_append(name, value).map_err(|_| invalid("there are too many trailers"))?;
        }
        Ok(trailers)
    }
}

/// The names of the option `trailers`.
fn announced(options: &Members) -> mlua::Result<Vec<HeaderName>> {
    let Some(names) = options.table("trailers")? else { return Ok(Vec::new()) };
    only_list(&names, "`trailers`")?;
    if names.raw_len() > MOST_TRAILERS {
        return Err(invalid(format!("`trailers` has at most {MOST_TRAILERS} names")));
    }
    let names = names.sequence_values::<Value>().map(|name| match name? {
        Value::String(name) => HeaderName::from_bytes(&name.as_bytes()).map_err(|_| {
            let name = shown(&name.to_string_lossy());
            invalid(format!("no trailer can be called `{name}`"))
        }),
        other => {
            let kind = Values::type_of(&other);
            Err(invalid(format!("`trailers` is a list of names; there is {kind}")))
        }
    });
    names.collect()
}

impl IntoLua for Writer {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_any_userdata(self).map(Value::UserData)
    }
}

fn upload(writer: &Writer) -> mlua::Result<Arc<Upload>> {
    match writer.handle.item("the upload")? {
        Item::Upload(upload) => Ok(upload),
        _ => Err(invalid("this is not an upload")),
    }
}

/// Adds `http.upload`.
pub(super) fn install(module: &mut ModuleBuilder<'_>, sender: &Sender) -> mlua::Result<()> {
    register(module)?;
    let sender = sender.clone();
    module.prepared_function("upload", move |lua, ctx, request: Table| {
        let (mut asked, members) =
            sender.described(lua, &ctx, request, Method::POST, &["forward_body", "length", "trailers"])?;
        let forwards = members.boolean("forward_body")?.unwrap_or(false);
        asked.request = asked.request.forward_body(forwards);
        if let Some(timeout) = members.seconds("timeout")? {
            asked.request = asked.request.time_limit(timeout);
        }
        let (length, trailers) = (members.count("length")?, announced(&members)?);
        let open = Open::of_call(lua, &sender.values)?;
        let sender = sender.clone();
        // A runtime runs what is waited for, and not what prepares it.
        Ok(async move { Ok(Writer::new(&open, sender, asked, length, trailers)) })
    })
}

/// Gives the VM the type of uploads.
fn register(module: &ModuleBuilder<'_>) -> mlua::Result<()> {
    let methods = module.functions(|methods| {
        methods.prepared_function("write", |_, _, (writer, data): (AnyUserData, mlua::LuaString)| {
            let writer = writer.borrow::<Writer>()?;
            let (upload, terms) = (upload(&writer)?, writer.terms.clone());
            let data = Bytes::copy_from_slice(&data.as_bytes());
            Ok(async move { upload.write(&terms, data).await })
        })?;
        methods.prepared_function("finish", |_, _, (writer, trailers): (AnyUserData, Option<Table>)| {
            let writer = writer.borrow::<Writer>()?;
            let trailers = writer.read_trailers(trailers)?;
            let (upload, terms, sender) = (upload(&writer)?, writer.terms.clone(), writer.sender.clone());
            Ok(async move {
                let response = upload.finish(&terms, trailers).await?;
                sender.answer(response, terms).await.map_err(Values::raise)
            })
        })?;
        methods.function("close", |_, _, (writer, _): (AnyUserData, Value)| {
            writer.borrow::<Writer>().map(|writer| writer.handle.close())
        })
    })?;
    let close: Value = methods.raw_get("close")?;
    module.lua().register_userdata_type(|registry: &mut UserDataRegistry<Writer>| {
        registry.add_meta_field("__index", methods);
        registry.add_meta_field("__close", close);
        registry.add_meta_field("__name", "upload");
    })
}

/// A file, as a body. It is as long as it is when it is opened.
pub(super) fn of_file(file: OpenFile) -> Body {
    let length = file.length;
    Body::from_reader(file).with_length(length)
}
