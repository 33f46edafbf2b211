//! One function for each section of a manifest that is not about functions, processes or supervisors.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;
#[cfg(feature = "wasm")]
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use frame_dispatch::process::HostConfig;
#[cfg(feature = "wasm")]
use frame_dispatch::wasm::ComponentLimits;
use frame_net::secrets::{SecretConfig, SecretSource};
use frame_net::{DirectConfig, Drivers, NetworkConfig, read_settings};
use http::{HeaderName, HeaderValue, Uri};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::function::{Taker, options};
use super::ids::Known;
#[cfg(feature = "wasm")]
use super::model::WasmSection;
use super::model::{AppSection, Given, Otlp, sha256};
use super::places::{Places, PointAt};
use super::reader::{Read, Reported, Table, Value};
use super::variables;
use crate::audit::AuditConfig;

/// What an app without a name is called whose directory has none either.
const NAMELESS: &str = "app";

/// Reads `[app]`. The app gets a name even if none is set.
pub(crate) fn app(document: &Table<'_>, networks: &Known<frame_net::NetworkKind>) -> AppSection {
    let mut app = AppSection::default();
    let table = document.optional("app", |value| value.table("`[app]`", "{ name = \"hello\" }"));
    if let Ok(Some(table)) = table {
        table.only(&["max_depth", "name", "options"]);
        if let Ok(depth) = table.or("max_depth", None, |depth| depth.u32(1, "1000").map(Some)) {
            app.functions = depth.map_or(app.functions, |depth| app.functions.with_max_depth(depth));
        }
        if let Ok(name) = table
            .or("name", "", |name| name.filled("\"hello\"", "leave it out for the name of the directory"))
        {
            name.clone_into(&mut app.name);
        }
        if let Ok((options, given)) = options(&table, Taker::Everything, networks) {
            (app.options, app.given) = (options, given);
        }
    }
    if app.name.is_empty() {
        let directory = document.reader.directory.canonicalize().unwrap_or_default();
        app.name =
            directory.file_name().map_or_else(|| NAMELESS.into(), |name| name.to_string_lossy().into_owned());
    }
    app
}

/// What other programs call a setting of `[clearnet]`.
pub(crate) const CLEARNET: &[(&str, &str)] = DirectConfig::SYNONYMS;

/// What other programs call a setting of `[http]`.
pub(crate) const HTTP: &[(&str, &str)] = &[
    ("connections_per_host", "max_connections_per_host"),
    ("deadline", "time_limit"),
    ("default_headers", "headers"),
    ("timeout", "time_limit"),
    ("redirects", "max_redirects"),
    ("keep_alive", "idle_timeout"),
    ("keepalive", "idle_timeout"),
    ("max_body", "max_response_body"),
    ("max_headers", "max_response_headers"),
    ("pool_size", "max_idle"),
];

/// Reads a section into the configuration of another crate: `[clearnet]`, `[limits]` or `[http]`. Returns the default if the
/// section is missing or invalid, and the identity. Reports each invalid member.
pub(crate) fn settings<T: DeserializeOwned + Default>(
    document: &Table<'_>,
    name: &str,
    synonyms: &[(&str, &str)],
) -> (T, Json) {
    let absent = || (T::default(), Json::Null);
    let Some(value) = document.get(name) else { return absent() };
    let Ok(table) = value.table("it", "{}") else { return absent() };
    let settings = if variables::are_replaced_in(name) { table.settings() } else { table.options() };
    let Ok(settings) = settings else { return absent() };
    match read_settings(&settings, synonyms) {
        // A hash, as values of variables may be secret.
        Ok(read) => (read, sha256(Json::Object(settings).to_string().as_bytes()).into()),
        Err(errors) => {
            let places = Places::of(&value, value.span.clone());
            let owner = format!("`[{name}]`");
            for problem in places.problems(&document.reader.file, &owner, PointAt::Value, &errors) {
                document.reader.report(problem);
            }
            absent()
        }
    }
}

/// Reads a member of `[networks]`. Its driver reads the settings when the network is built.
pub(crate) fn network(table: &Table<'_>) -> Read<(NetworkConfig, Json)> {
    let kind = table.required("kind", "\"socks5\"").and_then(|value| {
        let kind = value.str("\"socks5\"")?;
        let drivers = Drivers::standard();
        let kinds: Vec<_> = drivers.kinds().collect();
        if kinds.contains(&kind) {
            return Ok(kind);
        }
        let problem = value.problem(format_args!("unknown kind of network `{kind}`"));
        let problem = table.reader.with_suggestion(problem, kind, kinds.into_iter(), "available kinds:");
        Err(table.reader.report(problem))
    });
    let selectable = table.or("selectable", false, Value::bool);
    let settings = table.settings_without(&["kind", "selectable"]);
    let (kind, selectable, settings) = (kind?, selectable?, settings?);
    // A hash, as settings may be secret, and an identity is shown.
    let hash = sha256(Json::Object(settings.clone()).to_string().as_bytes());
    let identity = json!({ "kind": kind, "selectable": selectable, "settings": hash });
    Ok((NetworkConfig::new(kind, settings).with_selectable(selectable), identity))
}

/// Reads a member of `[secrets]`. The value is read when the app boots. Its file may not be below `base`, where scripts may be given files.
pub(crate) fn secret(
    value: &Value<'_>,
    table: &Table<'_>,
    base: Option<&Path>,
) -> Read<(SecretConfig, Json)> {
    // That of a variable in `env` would be the secret.
    let env = table.optional("env", Value::json);
    let settings = table.settings_without(&["env"]);
    let (env, mut settings) = (env?, settings?);
    settings.extend(env.map(|env| ("env".to_owned(), env)));
    // A hash, as something secret may be there by mistake, and an identity is shown.
    let identity = json!(sha256(Json::Object(settings.clone()).to_string().as_bytes()));
    let config = read_settings(&settings, SecretConfig::SYNONYMS).map_err(|errors| {
        let places = Places::of(value, value.key.clone());
        for problem in places.problems(&value.reader.file, "a secret", PointAt::Key, &errors) {
            value.reader.report(problem);
        }
        Reported
    })?;
    check_secret_file(table, &config, base)?;
    Ok((config, identity))
}

/// Reports the file of a secret if scripts could read it.
fn check_secret_file(table: &Table<'_>, config: &SecretConfig, base: Option<&Path>) -> Read<()> {
    let SecretSource::File(file) = config.source() else { return Ok(()) };
    let checked = table.optional("file", |value| {
        if !is_below(base, &value.reader.directory.join(file)) {
            return Ok(());
        }
        let why = "the secret is below the base directory of `[fs]`, where scripts may be given files";
        let help = "put it into a directory that is not below `base`";
        Err(value.reader.report(value.problem(why).with_help(help)))
    });
    checked.map(drop)
}

/// Reads `[fs]`: the directory that every `fs_root` is below.
pub(crate) fn fs(document: &Table<'_>) -> Option<Given<PathBuf>> {
    let table = document.optional("fs", |value| value.table("`[fs]`", "{ base = \"data\" }")).ok()??;
    table.only(&["base"]);
    existing_directory(&table.required("base", "\"data\"").ok()?).ok()
}

/// Whether the file at `path` is below `base`, by its own name or by where that leads.
fn is_below(base: Option<&Path>, path: &Path) -> bool {
    let Some(base) = base.and_then(|base| base.canonicalize().ok()) else { return false };
    [path, parent_directory(path)]
        .iter()
        .any(|path| path.canonicalize().is_ok_and(|path| path.starts_with(&base)))
}

fn existing_directory(value: &Value<'_>) -> Read<Given<PathBuf>> {
    let path =
        value.reader.directory.join(value.filled("\"data\"", "write `.` for the directory of the manifest")?);
    let refused = |message: String, help: &str| {
        let from = value.reader.directory.display();
        let problem = value.problem(message).with_help(format_args!("{help}; paths begin at `{from}`"));
        value.reader.report(problem)
    };
    let shown = path.display();
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let identity = json!(shown.to_string());
            Ok(Given { span: value.span.clone(), identity, value: path })
        }
        Ok(_) => Err(refused(format!("`{shown}` is no directory"), "give the directory that it is in")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(refused(format!("there is no directory `{shown}`"), "make it, or give another"))
        }
        Err(error) => Err(refused(format!("`{shown}` cannot be used: {error}"), "give one that can be read")),
    }
}

/// What processes are run by: supervisors are `native`, as is what the program itself brings.
pub(crate) const ENGINES: [&str; 3] = ["lua", "native", "wasm"];

/// Reads a member of `[hosts]`.
pub(crate) fn host(table: &Table<'_>) -> Read<(HostConfig, Json)> {
    table.only(&["processes", "mailbox", "timers", "groups", "group_members", "engines"]);
    let default = HostConfig::default();
    let processes = table.or("processes", default.processes, |value| value.count(1, "1000"));
    let mailbox = table.or("mailbox", default.mailbox, |value| value.count(1, "64"));
    let timers = table.or("timers", default.timers, |value| value.count(0, "16"));
    let groups = table.or("groups", default.groups, |value| value.count(0, "8"));
    let members = table.or("group_members", default.group_members, |value| value.count(0, "100"));
    let engines = table.optional("engines", |value| {
        let choices = ENGINES.map(|name| (name, name));
        let engines = value.array("[\"lua\", \"wasm\"]")?;
        if engines.is_empty() {
            let problem = value.problem("a host without engines runs nothing");
            return Err(value.reader.report(problem.with_help("leave `engines` out to allow all of them")));
        }
        let engines: Vec<_> = engines.iter().map(|engine| engine.choice(&choices)).collect();
        engines.into_iter().collect::<Read<Vec<_>>>()
    });
    let (processes, mailbox, engines) = (processes?, mailbox?, engines?);
    let (timers, groups, members) = (timers?, groups?, members?);
    let identity = json!({
        "processes": processes, "mailbox": mailbox, "timers": timers, "groups": groups, "group_members": members,
        "engines": engines,
    });
    let host = HostConfig::default().with_processes(processes).with_mailbox(mailbox);
    let host = host.with_timers(timers).with_groups(groups).with_group_members(members);
    Ok((engines.map_or_else(|| host.clone(), |engines| host.clone().with_engines(engines)), identity))
}

/// Reads `[telemetry]`: where traces are sent, and how that is written.
pub(crate) fn otlp(document: &Table<'_>) -> Option<(Otlp, String)> {
    const EXAMPLE: &str = "\"http://127.0.0.1:4318\"";
    let table = document
        .optional("telemetry", |value| value.table("`[telemetry]`", "{ otlp = \"http://127.0.0.1:4318\" }"));
    let table = table.ok()??;
    table.only(&["otlp", "headers"]);
    if !cfg!(feature = "otlp") {
        let problem =
            document.reader.problem(table.span.clone(), "this build of the program sends no traces");
        document
            .reader
            .report(problem.with_help("take `[telemetry]` out, or build with the cargo feature `otlp`"));
        return None;
    }
    let endpoint = table.required("otlp", EXAMPLE).and_then(|value| endpoint(&value, EXAMPLE));
    let headers = table.or("headers", BTreeMap::new(), headers);
    let written = table.get("otlp").and_then(|value| value.text_as_written());
    let otlp = Otlp { endpoint: endpoint.ok()?, headers: headers.ok()? };
    Some((otlp, written.unwrap_or_default().to_owned()))
}

fn endpoint(value: &Value<'_>, example: &str) -> Read<String> {
    let text = value.text(example)?;
    let uri = text.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    let Some(uri) = uri else {
        let problem = value.problem("`otlp` has to be a URL with `http` or `https`");
        return Err(value.reader.report(problem.with_help(format_args!("write `otlp = {example}`"))));
    };
    // The exporter refuses these, too, and by then the URL has been shown.
    if has_more_than_a_place(&text, &uri) {
        let problem = value.problem("`otlp` has a user, a password or a query in it, and none is sent");
        let help = format_args!("write `otlp = {example}`, and what is secret as one of the `headers`");
        return Err(value.reader.report(problem.with_help(help)));
    }
    Ok(text.into_owned())
}

/// Whether there is something in a URL that can be secret. A fragment is looked for in the text: no parsed one has any.
fn has_more_than_a_place(text: &str, uri: &Uri) -> bool {
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    has_user || text.contains(['?', '#'])
}

/// Their values are tokens more often than not, so no problem shows one.
fn headers(value: &Value<'_>) -> Read<BTreeMap<String, String>> {
    let table = value.table("`headers`", "{ authorization = \"…\" }")?;
    let headers: Vec<_> = table
        .entries()
        .map(|(name, value)| {
            let is_name = name.text.parse::<HeaderName>().map(drop).map_err(|_| {
                let message = format_args!("{:?} is no name of a header", name.text);
                let problem = table.reader.problem(name.span.clone(), message);
                table.reader.report(problem.with_help("a name is of ASCII letters, digits and `-`"))
            });
            let text = value.text("\"…\"").and_then(|text| {
                let valid = text.parse::<HeaderValue>().map(|_| text.into_owned());
                valid.map_err(|_| {
                    let message =
                        format_args!("the header `{}` has a character that none can have", name.text);
                    let problem = value.problem(message);
                    table
                        .reader
                        .report(problem.with_help("values are of visible ASCII characters and spaces"))
                })
            });
            is_name?;
            Ok((name.text.to_owned(), text?))
        })
        .collect();
    headers.into_iter().collect()
}

/// Reads `[audit]`. Its file may not be below `base`, where scripts may be given files.
pub(crate) fn audit(document: &Table<'_>, base: Option<&Path>) -> Option<Given<AuditConfig>> {
    const EXAMPLE: &str = "\"audit.log\"";
    let table = document.optional("audit", |value| value.table("`[audit]`", "{ file = \"audit.log\" }"));
    let table = table.ok()??;
    table.only(&["file", "required", "sync", "attempts_per_second"]);
    let file = table.required("file", EXAMPLE).and_then(|value| {
        let path = value.filled(EXAMPLE, "give the path of a file")?;
        let path = value.reader.directory.join(path);
        check_log_directory(&value, &path)?;
        check_log_file(&value, &path, base)?;
        Ok((path, value.span))
    });
    let required = table.or("required", false, Value::bool);
    let sync = table.or("sync", false, Value::bool);
    let per_second = table.or("attempts_per_second", AuditConfig::ATTEMPTS_PER_SECOND, |value| {
        value.u32(1, "1000").map(|number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    });
    let ((file, span), required, sync) = (file.ok()?, required.ok()?, sync.ok()?);
    let attempts_per_second = per_second.ok()?;
    let identity = json!([file.display().to_string(), required, sync, attempts_per_second]);
    Some(Given { value: AuditConfig { file, required, sync, attempts_per_second }, span, identity })
}

/// Reports a log file whose directory does not exist. Whether it can be written is seen when it is opened.
fn check_log_directory(value: &Value<'_>, path: &Path) -> Read<()> {
    let directory = parent_directory(path);
    let shown = directory.display();
    let why = match directory.metadata() {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => format!("`{shown}` is not a directory"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => format!("there is no directory `{shown}`"),
        Err(error) => format!("`{shown}` cannot be used: {error}"),
    };
    let help =
        format!("make it, or give a file in another; paths begin at `{}`", value.reader.directory.display());
    Err(value.reader.report(value.problem(why).with_help(help)))
}

/// Reports a log file that scripts could write to.
fn check_log_file(value: &Value<'_>, path: &Path, base: Option<&Path>) -> Read<()> {
    if !is_below(base, path) {
        return Ok(());
    }
    let why = "the audit log is below the base directory of `[fs]`, where scripts may be given files";
    Err(value.reader.report(value.problem(why).with_help("put it into a directory that is not below `base`")))
}

/// The directory that a file is in.
fn parent_directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// As many as address space can be reserved for on any machine.
#[cfg(feature = "wasm")]
const INSTANCES: RangeInclusive<u64> = 1..=100_000;
#[cfg(feature = "wasm")]
const MEMORIES: RangeInclusive<u64> = 1..=100;
/// A page of WebAssembly, and all that its addresses reach.
#[cfg(feature = "wasm")]
const RESERVATION: RangeInclusive<u64> = 64 << 10..=4 << 30;
#[cfg(feature = "wasm")]
const COUNT: RangeInclusive<u64> = 1..=1 << 40;

/// Reads `[wasm]`.
#[cfg(feature = "wasm")]
pub(crate) fn wasm(document: &Table<'_>) -> WasmSection {
    let example = "{ instances = 64 }";
    let Ok(Some(table)) = document.optional("wasm", |value| value.table("`[wasm]`", example)) else {
        return WasmSection::default();
    };
    table.only(&["instances", "memories", "memory_reservation", "component"]);
    let default = WasmSection::default();
    let instances = table.or("instances", default.instances, |value| number(value, INSTANCES, "64"));
    let memories = table.or("memories", default.memories, |value| number(value, MEMORIES, "1"));
    let reservation = table
        .or("memory_reservation", default.memory_reservation, |value| value.size(RESERVATION, "\"64MiB\""));
    WasmSection {
        instances: instances.unwrap_or(default.instances),
        memories: memories.unwrap_or(default.memories),
        memory_reservation: reservation.unwrap_or(default.memory_reservation),
        component: component(&table),
    }
}

/// What a component may take to be compiled.
#[cfg(feature = "wasm")]
fn component(table: &Table<'_>) -> ComponentLimits {
    let default = ComponentLimits::default();
    let example = "{ functions = 100_000 }";
    let Ok(Some(table)) = table.optional("component", |value| value.table("`component`", example)) else {
        return default;
    };
    table.only(&["size", "depth", "instances", "definitions", "functions", "function_work", "work"]);
    let count = |name: &str, default: u64| {
        table.or(name, default, |value| value.integer(COUNT, "100_000")).unwrap_or(default)
    };
    let size = table.or("size", default.size, |value| value.size(COUNT, "\"256MiB\""));
    let depth = table.or("depth", default.depth, |value| number(value, 1..=100, "32"));
    ComponentLimits::default()
        .with_size(size.unwrap_or(default.size))
        .with_depth(depth.unwrap_or(default.depth))
        .with_instances(count("instances", default.instances))
        .with_definitions(count("definitions", default.definitions))
        .with_functions(count("functions", default.functions))
        .with_function_work(count("function_work", default.function_work))
        .with_work(count("work", default.work))
}

#[cfg(feature = "wasm")]
fn number(value: &Value<'_>, range: RangeInclusive<u64>, example: &str) -> Read<u32> {
    u32::try_from(value.integer(range, example)?).map_err(|_| Reported)
}

#[cfg(all(test, feature = "wasm"))]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_engine() {
        let section = WasmSection::default();
        assert_eq!((section.instances, section.memories), (256, 4));
        assert_eq!(section.memory_reservation, 4 << 30);
    }
}
