//! `[supervisors]`: what is wrong with one by itself. What they refer to is checked in [`tree`](super::tree).

use std::ops::Range;
use std::time::Duration;

use frame_dispatch::printable::is_printable;
use frame_dispatch::process::supervisor::{Backoff, Restart, Shutdown, Strategy};
use frame_dispatch::process::{EntryId, HostId};
use frame_net::NetworkKind;
use frame_registry::Options;
use serde_json::{Map, Value as Json, json};

use super::document::Known;
use super::options::{Taker, options};
use super::reader::{Read, Table, Value};

/// A supervisor as it is written. What it refers to may be something that is not there.
pub(super) struct Draft {
    pub(super) host: Read<At<HostId>>,
    pub(super) settings: Read<Settings>,
    /// Those that could be read. Where one could not, neither could the settings.
    pub(super) children: Vec<ChildDraft>,
    /// What a dynamic one starts.
    pub(super) template: Option<ChildDraft>,
}

/// What a supervisor does with its children.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub(super) strategy: Strategy,
    pub(super) intensity: (u32, Duration),
    pub(super) backoff: Backoff,
    pub(super) max_children: Option<usize>,
}

/// A child as it is written.
pub(super) struct ChildDraft {
    pub(super) span: Range<usize>,
    pub(super) id: At<String>,
    pub(super) process: At<EntryId>,
    pub(super) host: Option<At<HostId>>,
    pub(super) name: Option<At<String>>,
    pub(super) payload: Option<At<Json>>,
    pub(super) options: Options,
    pub(super) given: Map<String, Json>,
    pub(super) restart: Restart,
    pub(super) shutdown: Option<Shutdown>,
}

/// Something, and where it is.
#[derive(Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

impl<T> At<T> {
    fn read<'t>(value: &Value<'t>, read: impl FnOnce(&Value<'t>) -> Read<T>) -> Read<Self> {
        Ok(Self { value: read(value)?, span: value.span.clone() })
    }
}

/// A supervisor. It is read even where something in it is wrong, so that what it refers to is checked as well.
pub(super) fn read(table: &Table<'_>, networks: &Known<NetworkKind>) -> (Draft, Json) {
    let members =
        ["host", "strategy", "restarts", "within", "backoff", "children", "template", "max_children"];
    table.only(&members);
    let host = table.required("host", "\"app:workers\"").and_then(|value| At::read(&value, Value::id));
    let children = table.or("children", Vec::new(), |value| {
        let children = value.array("[{ id = \"worker\", process = \"app:worker\" }]")?;
        Ok(children.iter().map(|value| child(value, networks)).collect::<Vec<_>>())
    });
    let are_children_right = children.as_ref().map_or_else(
        |&reported| Err(reported),
        |children| {
            children.iter().find_map(|child| child.as_ref().err()).map_or(Ok(()), |&reported| Err(reported))
        },
    );
    let template = table.optional("template", |value| template(value, networks));
    let fits = kind_fits(table);
    let settings = fits.and_then(|()| settings(table));
    let children = children.unwrap_or_default().into_iter().filter_map(Result::ok).collect();
    let is_template_right = template.as_ref().map_or_else(|&reported| Err(reported), |_| Ok(()));
    let settings = are_children_right.and(is_template_right).and(settings);
    (Draft { host, settings, children, template: template.unwrap_or_default() }, Json::Null)
}

/// Refuses what is for one kind of supervisor in the other.
fn kind_fits(table: &Table<'_>) -> Read<()> {
    let is_dynamic = table.get("template").is_some();
    let wrong: &[&str] = if is_dynamic { &["children", "strategy"] } else { &["max_children"] };
    for &name in wrong {
        let Some(value) = table.get(name) else { continue };
        let problem = if is_dynamic {
            let problem = value.problem(format_args!("a supervisor with a `template` has no `{name}`"));
            problem.with_help(match name {
                "children" => "take it out, or put the children below a supervisor of their own",
                _ => "take it out: each of its children is restarted alone",
            })
        } else {
            let problem = value.problem("`max_children` is for a supervisor with a `template`");
            problem.with_help(
                "take it out, or add a `template`, of which children are started while the app runs",
            )
        };
        return Err(value.reader.report(problem));
    }
    Ok(())
}

fn settings(table: &Table<'_>) -> Read<Settings> {
    let strategies = [
        ("one_for_one", Strategy::OneForOne),
        ("one_for_all", Strategy::OneForAll),
        ("rest_for_one", Strategy::RestForOne),
    ];
    let strategy = table.or("strategy", Strategy::OneForOne, |value| value.choice(&strategies));
    let restarts = table.or("restarts", 3, |value| value.integer(0..=u32::MAX.into(), "3"));
    let within = table.or("within", Duration::from_secs(5), |value| value.time("\"5s\""));
    let backoff = table.or("backoff", Backoff::default(), backoff);
    let max_children = table.optional("max_children", |value| value.integer(1..=u32::MAX.into(), "100"));
    let restarts = u32::try_from(restarts?).unwrap_or(u32::MAX);
    let max_children = max_children?.map(|max| usize::try_from(max).unwrap_or(usize::MAX));
    Ok(Settings { strategy: strategy?, intensity: (restarts, within?), backoff: backoff?, max_children })
}

fn backoff(value: &Value<'_>) -> Read<Backoff> {
    let table = value.table("`backoff`", "{ first = \"100ms\", max = \"10s\" }")?;
    table.only(&["first", "max", "factor", "jitter", "reset_after"]);
    let first = table.or("first", Duration::from_millis(100), |value| value.duration("\"100ms\""));
    let max = table.or("max", Duration::from_secs(10), |value| value.duration("\"10s\""));
    let factor = table.or("factor", 2.0, |value| {
        number(value, "2.0", "a finite number, 1 or more", |factor| factor >= 1.0 && factor.is_finite())
    });
    let jitter = table.or("jitter", 0.1, |value| {
        number(value, "0.1", "from 0 to 1", |jitter| (0.0..=1.0).contains(&jitter))
    });
    let reset_after = table.or("reset_after", Duration::from_secs(30), |value| value.duration("\"30s\""));
    let (first, max) = (first?, max?);
    if first > max {
        let span =
            table.get("first").or_else(|| table.get("max")).map_or(value.span.clone(), |value| value.span);
        let (first, max) = (humantime::format_duration(first), humantime::format_duration(max));
        let message = format_args!("the first delay, {first}, is longer than the longest, {max}");
        let problem = value.reader.problem(span, message);
        return Err(value.reader.report(problem.with_help("make `first` shorter, or `max` longer")));
    }
    let backoff = Backoff::new(first, max).with_factor(factor?).with_jitter(jitter?);
    Ok(backoff.with_reset_after(reset_after?))
}

fn number(value: &Value<'_>, example: &str, range: &str, is_in_range: impl Fn(f64) -> bool) -> Read<f64> {
    let number = value.float(example)?;
    if is_in_range(number) {
        return Ok(number);
    }
    let problem = value.problem(format_args!("`{}` is out of range", value.name));
    Err(value.reader.report(problem.with_label(format_args!("it has to be {range}"))))
}

fn child(value: &Value<'_>, networks: &Known<NetworkKind>) -> Read<ChildDraft> {
    let table = value.table("a child", "{ id = \"worker\", process = \"app:worker\" }")?;
    table.only(&["id", "process", "host", "name", "payload", "options", "restart", "shutdown"]);
    let id = table.required("id", "\"worker\"").and_then(|value| At::read(&value, child_id));
    let name = table.optional("name", |value| At::read(value, name));
    let child = child_of(value, &table, networks, |_| id)?;
    Ok(ChildDraft { name: name?, ..child })
}

/// What a dynamic supervisor starts. Its id is what those of the children begin with, and they have names of their own.
fn template(value: &Value<'_>, networks: &Known<NetworkKind>) -> Read<ChildDraft> {
    let table = value.table("`template`", "{ process = \"app:worker\" }")?;
    if let Some(name) = table.get("name") {
        let problem = name.problem("a `template` has no `name`");
        let help = "take it out; a name is given to each child when it is started";
        return Err(name.reader.report(problem.with_help(help)));
    }
    table.only(&["id", "process", "host", "payload", "options", "restart", "shutdown"]);
    let id = table.optional("id", |value| At::read(value, child_id));
    child_of(value, &table, networks, |process| {
        let name = || process.value.as_str().split_once(':').map_or("", |(_, name)| name).to_owned();
        Ok(id?.unwrap_or_else(|| At { value: name(), span: process.span.clone() }))
    })
}

/// A child without its name. `id` may follow from its process.
fn child_of(
    value: &Value<'_>,
    table: &Table<'_>,
    networks: &Known<NetworkKind>,
    id: impl FnOnce(&At<EntryId>) -> Read<At<String>>,
) -> Read<ChildDraft> {
    let process = table.required("process", "\"app:worker\"").and_then(|value| At::read(&value, Value::id));
    let host = table.optional("host", |value| At::read(value, Value::id));
    let payload = table.optional("payload", |value| At::read(value, Value::json));
    let options = options(table, Taker::Process, networks);
    let restart = table.or("restart", Restart::default(), |value| {
        let all = [Restart::Permanent, Restart::Transient, Restart::Temporary];
        value.choice(&all.map(|restart| (restart.as_str(), restart)))
    });
    let shutdown = table.optional("shutdown", shutdown);
    let (options, given) = options?;
    let process = process?;
    Ok(ChildDraft {
        span: value.span.clone(),
        id: id(&process)?,
        process,
        host: host?,
        name: None,
        payload: payload?,
        options,
        given,
        restart: restart?,
        shutdown: shutdown?,
    })
}

fn child_id(value: &Value<'_>) -> Read<String> {
    let id = value.str("\"worker\"")?;
    if id.is_empty() {
        let problem = value.problem("a child has the empty id");
        return Err(value.reader.report(problem.with_help("give it one that says what it is")));
    }
    Ok(id.to_owned())
}

/// The longest name of a process, in bytes.
const LONGEST_NAME: usize = 255;

fn name(value: &Value<'_>) -> Read<String> {
    let name = value.str("\"worker\"")?;
    let is_name = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && !name.starts_with('{')
        && name.chars().all(is_printable);
    if is_name {
        return Ok(name.to_owned());
    }
    let problem = value.problem("no process can have this name");
    let help = format_args!(
        "a name has 1 to {LONGEST_NAME} bytes, no control or format characters, and does not begin with `{{`, as PIDs do"
    );
    Err(value.reader.report(problem.with_help(help)))
}

fn shutdown(value: &Value<'_>) -> Read<Shutdown> {
    match value.str("\"5s\"")? {
        "at_once" => Ok(Shutdown::AtOnce),
        "unlimited" => Ok(Shutdown::Unlimited),
        _ => value.duration("\"5s\"").map(Shutdown::Within),
    }
}

/// A supervisor without how it is written, and without its children.
pub(super) fn identity(host: &HostId, settings: &Settings) -> Json {
    let Settings { strategy, intensity, backoff, max_children } = settings;
    json!({
        "host": host,
        "strategy": format!("{strategy:?}"),
        "intensity": format!("{intensity:?}"),
        "backoff": format!("{backoff:?}"),
        "max_children": max_children,
    })
}
