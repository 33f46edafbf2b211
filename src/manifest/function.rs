//! `[functions]` and `[processes]`: engine, source, options and limits.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::{fs, io};

use frame_dispatch::PoolConfig;
use frame_dispatch::lua::LuaConfig;
#[cfg(feature = "wasm")]
use frame_dispatch::wasm::WasmConfig;
use frame_net::{NETWORK, NetworkKind};
use frame_registry::{DeclaredOption, OptionError, OptionKind, Options, declared_options};
use serde_json::{Map, Value as Json, json};

use super::ids::{Known, check_network};
use super::model::{Engine, Function, Limits, Source, sha256};
use super::reader::{Read, Reported, Table, Value, list, size_text};
use crate::files;

/// What a script or a component is used as. Processes are kept apart from functions where one could take the other's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Function,
    Process,
}

impl Role {
    pub(crate) const fn noun(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Process => "process",
        }
    }
}

pub(crate) fn function(
    table: &Table<'_>,
    role: Role,
    networks: &Known<NetworkKind>,
) -> Read<(Function, Json)> {
    table.only(&["engine", "source", "options", "limits"]);
    let engine = table.required("engine", "\"lua\"").and_then(|value| engine(&value));
    let source = table.required("source", "\"greet.lua\"").and_then(|value| source(&value, engine.ok()));
    let taker = if role == Role::Function { Taker::Function } else { Taker::Process };
    // What is wrong with these was reported, and keeps the manifest from being used. The source is compiled all the same, so
    // that what is wrong with that is said, too.
    let (options, given) = options(table, taker, networks).unwrap_or_default();
    // Which limits there are is up to the engine.
    let limits =
        engine.and_then(|engine| limits(table, engine, role).or_else(|_| unless_given(engine, role)));
    let (source, limits) = (source?, limits?);
    let identity = json!({
        "source": source.path,
        "sha256": &*source.hash,
        "options": given,
        "limits": format!("{limits:?}"),
    });
    Ok((Function { limits, source, options, given }, identity))
}

fn engine(value: &Value<'_>) -> Result<Engine, Reported> {
    let engine = value.choice(&[("lua", Engine::Lua), ("wasm", Engine::Wasm)])?;
    if engine == Engine::Wasm && !cfg!(feature = "wasm") {
        let problem = value.problem("this build of the program runs no components");
        return Err(value.reader.report(problem.with_help("build it with the cargo feature `wasm`")));
    }
    Ok(engine)
}

/// The longest script, in bytes, which is that of the engine.
const LONGEST_SCRIPT: u64 = 1 << 20;
/// The largest component, in bytes: those that carry an interpreter have some ten million.
const LARGEST_COMPONENT: u64 = 256 << 20;
/// How large all files together can be, in bytes. They are in memory for as long as the app runs.
const LARGEST_TOTAL: u64 = 1 << 30;

/// The files that were read for one manifest. A file that many functions name is read and kept once.
#[derive(Default)]
pub(crate) struct Sources {
    files: RefCell<HashMap<(PathBuf, Kind), Content>>,
    /// How many bytes they have.
    total: Cell<u64>,
    /// The names of the files beside those that were not found.
    neighbours: RefCell<HashMap<PathBuf, Rc<[String]>>>,
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Script,
    Component,
}

#[derive(Clone)]
struct Content {
    bytes: Arc<[u8]>,
    text: Option<Arc<str>>,
    hash: Arc<str>,
    is_quotable: bool,
}

/// Reads the file that a manifest names.
pub(crate) fn source(value: &Value<'_>, engine: Option<Engine>) -> Read<Source> {
    let path = value.str("\"greet.lua\"")?;
    let file = value.reader.directory.join(path);
    let kind = if engine == Some(Engine::Lua) { Kind::Script } else { Kind::Component };
    let sources = &value.reader.sources;
    let content = sources.read(&file, kind, &value.reader.directory);
    let content = content.map_err(|error| refused(value, path, &file, kind, &error))?;
    let Content { bytes, text, hash, is_quotable } = content;
    if kind == Kind::Script && text.is_none() {
        let problem = value.problem(format_args!("`{path}` is no text in UTF-8"));
        return Err(value.reader.report(problem.with_help("a script is given as its source")));
    }
    Ok(Source { path: path.to_owned(), span: value.span.clone(), bytes, text, hash, is_quotable })
}

impl Sources {
    fn read(&self, file: &Path, kind: Kind, directory: &Path) -> io::Result<Content> {
        let key = (file.to_owned(), kind);
        if let Some(content) = self.files.borrow().get(&key) {
            return Ok(content.clone());
        }
        let limit = match kind {
            Kind::Script => LONGEST_SCRIPT,
            Kind::Component => LARGEST_COMPONENT,
        };
        let (opened, is_quotable) = files::open_regular_beneath(directory, file)?;
        let bytes = files::read_at_most(opened, limit.min(LARGEST_TOTAL - self.total.get()))?;
        self.total.set(self.total.get() + bytes.len() as u64);
        let hash = sha256(&bytes).into();
        let content = match kind {
            Kind::Component => Content { bytes: bytes.into(), text: None, hash, is_quotable },
            Kind::Script => match String::from_utf8(bytes) {
                Ok(text) => {
                    let text: Arc<str> = text.into();
                    Content { bytes: Arc::clone(&text).into(), text: Some(text), hash, is_quotable }
                }
                Err(error) => Content { bytes: error.into_bytes().into(), text: None, hash, is_quotable },
            },
        };
        self.files.borrow_mut().insert(key, content.clone());
        Ok(content)
    }

    /// The names of files in a directory, in order.
    fn names_in(&self, directory: &Path) -> Rc<[String]> {
        let mut known = self.neighbours.borrow_mut();
        let names = known.entry(directory.to_owned()).or_insert_with(|| {
            let entries = fs::read_dir(directory).into_iter().flatten().take(1000);
            let mut names: Vec<_> =
                entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
            names.sort_unstable();
            names.into()
        });
        Rc::clone(names)
    }
}

fn refused(value: &Value<'_>, path: &str, file: &Path, kind: Kind, error: &io::Error) -> Reported {
    let directory = value.reader.directory.display();
    let problem = match error.kind() {
        io::ErrorKind::NotFound => {
            let problem = value.problem(format_args!("there is no file `{path}`"));
            let problem = match neighbour(value, file) {
                Some(near) => problem.with_label(format_args!("did you mean `{near}`?")),
                None => problem,
            };
            problem.with_help(format_args!("paths begin at the directory of the manifest, `{directory}`"))
        }
        io::ErrorKind::IsADirectory => {
            value.problem(format_args!("`{path}` is a directory")).with_help("name a file in it")
        }
        io::ErrorKind::FileTooLarge if kind == Kind::Script => value
            .problem(format_args!("`{path}` is larger than {}", size_text(LONGEST_SCRIPT)))
            .with_help("split it into several functions"),
        io::ErrorKind::FileTooLarge => value.problem(format_args!(
            "`{path}` is larger than {}, or all sources together than {}",
            size_text(LARGEST_COMPONENT),
            size_text(LARGEST_TOTAL)
        )),
        _ => value.problem(format_args!("`{path}` cannot be read: {error}")),
    };
    value.reader.report(problem)
}

/// The file beside one that does not exist whose name is nearest. Names are shown only of what is beneath the manifest.
fn neighbour(value: &Value<'_>, file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let parent = file.parent()?.canonicalize().ok()?;
    if !parent.starts_with(value.reader.directory.canonicalize().ok()?) {
        return None;
    }
    let names = value.reader.sources.names_in(&parent);
    value.reader.nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
}

/// Whom options are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taker {
    /// Functions and processes.
    Everything,
    Function,
    Process,
}

/// The member `options` of a table, and the same as it is written.
pub(crate) fn options(
    table: &Table<'_>,
    taker: Taker,
    networks: &Known<NetworkKind>,
) -> Read<(Options, Map<String, Json>)> {
    let table = table.optional("options", |value| value.table("`options`", "{ timeout = \"2s\" }"))?;
    let (mut options, mut given) = (Options::new(), Map::new());
    let Some(table) = table else { return Ok((options, given)) };
    let mut is_right = Ok(());
    for (name, value) in table.entries() {
        let read = value.option().and_then(|json| {
            options.set_json(name.text, &json).map_err(|error| {
                let is_name = matches!(error, OptionError::Unknown { .. });
                let span = if is_name { name.span.clone() } else { invalid_span(&value, name.text) };
                let problem = match &error {
                    // The value is shown where it is.
                    OptionError::WrongType { option, .. } => {
                        table.reader.problem(span, format_args!("invalid value for the option `{option}`"))
                    }
                    _ => table.reader.problem(span, &error),
                };
                table.reader.report(match &error {
                    OptionError::Unknown { .. } if table.reader.is_full() => problem,
                    OptionError::Unknown { .. } => problem.with_help(available()),
                    OptionError::WrongType { source, .. } => problem.with_help(source),
                    _ => problem,
                })
            })?;
            if taker == Taker::Process {
                refuse_plain(&options, name.text, &value)?;
            }
            given.insert(name.text.to_owned(), json);
            Ok(())
        });
        is_right = is_right.and(read);
    }
    if let Some(id) = options.get(&NETWORK) {
        is_right = is_right.and(check_network(&table, NETWORK.name(), id, networks));
    }
    is_right.map(|()| (options, given))
}

/// Where to point at if `value` is not one of the option `name`: the first element that is not valid by itself, if it is a list.
fn invalid_span(value: &Value<'_>, name: &str) -> Range<usize> {
    let is_invalid = |element: &Value<'_>| {
        let alone = element.option().map(|json| Json::Array(vec![json]));
        alone.is_ok_and(|alone| Options::new().set_json(name, &alone).is_err())
    };
    let invalid = value.elements().into_iter().find(is_invalid);
    invalid.map_or_else(|| value.span.clone(), |element| element.span)
}

/// What reads a dispatcher option stands around calls, and a process is none.
fn refuse_plain(options: &Options, name: &str, value: &Value<'_>) -> Result<(), Reported> {
    if !options.iter().any(|option| option.name() == name && option.kind() == OptionKind::Dispatcher) {
        return Ok(());
    }
    let problem = value.problem(format_args!("`{name}` is an option of calls, and a process is not called"));
    let problem = match name {
        "timeout" => problem.with_help("take it out; `limits.time` is how long a process may live"),
        "retry" => problem.with_help("take it out; a supervisor starts a process again"),
        _ => problem.with_help("take it out"),
    };
    Err(value.reader.report(problem))
}

fn available() -> String {
    let names: Vec<_> =
        declared_options().into_iter().filter(|option| option.is_text()).map(DeclaredOption::name).collect();
    format!("available options: {}; see `frame options`", list(names))
}

/// Those of all engines.
const ALL: [&str; 5] = ["memory", "time", "payload", "calls", "wait"];
/// Those of scripts alone.
const LUA: [&str; 3] = ["idle", "warm", "fresh_vm"];
/// Those of components alone.
const WASM: [&str; 3] = ["table_elements", "json_memory", "host_memory"];

/// A payload of less could not even be `null`, and no engine would have memory for more.
const BYTES: std::ops::RangeInclusive<u64> = 4..=1 << 40;
/// The least that a script can be compiled in, by far.
const LUA_MEMORY: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 40;
/// The engine gives a component 4 memories of 4 GiB.
#[cfg(feature = "wasm")]
const WASM_MEMORY: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 30;
/// The least that a component with some files and requests gets by with.
#[cfg(feature = "wasm")]
const HOST_MEMORY: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 40;
/// As many as the engine has room for in a component.
#[cfg(feature = "wasm")]
const TABLE_ELEMENTS: std::ops::RangeInclusive<u64> = 0..=20_000;

/// The member `limits`, with the defaults of the engine for what it does not say.
pub(crate) fn limits(table: &Table<'_>, engine: Engine, role: Role) -> Read<Limits> {
    let table = table.optional("limits", |value| value.table("`limits`", "{ memory = \"32MiB\" }"))?;
    if let Some(table) = &table {
        only(table, engine);
    }
    of(table.as_ref(), engine, role)
}

/// What the engine has where nothing is given.
fn unless_given(engine: Engine, role: Role) -> Read<Limits> {
    of(None, engine, role)
}

fn of(table: Option<&Table<'_>>, engine: Engine, role: Role) -> Read<Limits> {
    match engine {
        Engine::Lua => lua(table, role).map(Limits::Lua),
        #[cfg(feature = "wasm")]
        Engine::Wasm => wasm(table, role).map(Limits::Wasm),
        // Refused where the engine was read.
        #[cfg(not(feature = "wasm"))]
        Engine::Wasm => Err(Reported),
    }
}

/// Reports limits that the engine does not have.
fn only(table: &Table<'_>, engine: Engine) {
    let (own, others, others_are) = match engine {
        Engine::Lua => (&LUA[..], &WASM[..], "components"),
        Engine::Wasm => (&WASM[..], &LUA[..], "scripts"),
    };
    let known = [&ALL[..], own].concat();
    for (name, _) in table.entries().filter(|(name, _)| !known.contains(&name.text)) {
        let reader = table.reader;
        let problem = if others.contains(&name.text) {
            reader.problem(name.span, format_args!("`{}` is a limit of {others_are}", name.text))
        } else {
            reader.problem(name.span, format_args!("there is no limit `{}`", name.text))
        };
        let known = known.iter().copied();
        reader.report(reader.with_suggestion(problem, name.text, known, "available limits:"));
    }
}

fn lua(table: Option<&Table<'_>>, role: Role) -> Read<LuaConfig> {
    let default = if role == Role::Function { LuaConfig::default() } else { LuaConfig::process() };
    let memory = or(table, "memory", default.memory, |value| value.size(LUA_MEMORY, "\"32MiB\""));
    let time = or(table, "time", default.time, |value| value.time_or_unlimited("\"30s\""));
    let payload = or(table, "payload", default.payload, |value| value.size(BYTES, "\"16MiB\""));
    let fresh_vm = or(table, "fresh_vm", default.fresh_vm, Value::bool);
    let pool = pool(table, default.pool, fresh_vm == Ok(true));
    let config = LuaConfig::default().with_memory(memory?).with_time(time?).with_payload(payload?);
    Ok(config.with_fresh_vm(fresh_vm?).with_pool(pool?))
}

fn pool(table: Option<&Table<'_>>, default: PoolConfig, is_fresh: bool) -> Read<PoolConfig> {
    let size = or(table, "calls", default.size, |value| value.count(1, "64"));
    let wait = or(table, "wait", default.max_wait, wait);
    // Some are made at once, so there cannot be more of them than are ever used.
    let most = size.unwrap_or(usize::MAX) as u64;
    let kept = |name, default: usize| {
        or(table, name, default.min(size.unwrap_or(default)), |value| {
            if is_fresh {
                let problem =
                    value.problem(format_args!("`{name}` has no effect where every call has a fresh VM"));
                return Err(value
                    .reader
                    .report(problem.with_help(format_args!("take out `{name}`, or `fresh_vm`"))));
            }
            let kept = value.integer(0..=most, "1")?;
            usize::try_from(kept).map_err(|_| Reported)
        })
    };
    let (idle, warm) = (kept("idle", default.idle), kept("warm", default.warm));
    Ok(PoolConfig::default().with_size(size?).with_idle(idle?).with_warm(warm?).with_max_wait(wait?))
}

#[cfg(feature = "wasm")]
fn wasm(table: Option<&Table<'_>>, role: Role) -> Read<WasmConfig> {
    let default = if role == Role::Function { WasmConfig::default() } else { WasmConfig::process() };
    let memory = or(table, "memory", default.memory, |value| value.size(WASM_MEMORY, "\"64MiB\""));
    let elements = or(table, "table_elements", default.table_elements, |value| {
        let elements = value.integer(TABLE_ELEMENTS, "20_000")?;
        usize::try_from(elements).map_err(|_| Reported)
    });
    let time = or(table, "time", default.time, |value| value.time_or_unlimited("\"30s\""));
    let payload = or(table, "payload", default.payload, |value| value.size(BYTES, "\"16MiB\""));
    let json = or(table, "json_memory", default.json_memory, |value| value.size(BYTES, "\"32MiB\""));
    let host = or(table, "host_memory", default.host_memory, |value| value.size(HOST_MEMORY, "\"64MiB\""));
    let calls = or(table, "calls", default.calls, |value| value.count(1, "64"));
    let wait = or(table, "wait", default.max_wait, wait);
    let config = WasmConfig::default().with_memory(memory?).with_table_elements(elements?).with_time(time?);
    Ok(config
        .with_payload(payload?)
        .with_json_memory(json?)
        .with_host_memory(host?)
        .with_calls(calls?)
        .with_max_wait(wait?))
}

/// How long a call waits for its turn: not at all is possible, too.
fn wait(value: &Value<'_>) -> Read<std::time::Duration> {
    value.duration("\"5s\"")
}

/// The member `name` as `read` reads it, or else `default`.
fn or<'t, T>(
    table: Option<&Table<'t>>,
    name: &str,
    default: T,
    read: impl FnOnce(&Value<'t>) -> Read<T>,
) -> Read<T> {
    match table.and_then(|table| table.get(name)) {
        Some(value) => read(&value),
        None => Ok(default),
    }
}
