//! `[supervisors]`: each by itself first, then the tree that they form, with all that they refer to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter::Chain;
use std::ops::Range;
use std::time::Duration;
use std::{option, slice};

use frame_dispatch::process::supervisor::{Backoff, Restart, Shutdown, Strategy};
use frame_dispatch::process::{EntryId, EntryKind, HostConfig, HostId, HostKind};
use frame_net::NetworkKind;
use frame_registry::text::is_printable;
use frame_registry::{Id, Options};
use serde_json::{Map, Value as Json, json};

use super::function::{Taker, options};
use super::ids::{Known, Section};
use super::model::{Child, Dynamic, Function, Given, SupervisorSpec};
use super::reader::{Read, Reader, Reported, Table, Value};

/// A supervisor as it is written. What it refers to may be something that is not there.
pub(crate) struct Draft {
    host: Read<At<HostId>>,
    settings: Read<Settings>,
    /// Those that could be read. Where one could not, neither could the settings.
    children: Vec<ChildDraft>,
    /// What a dynamic one starts.
    template: Option<ChildDraft>,
}

/// What a supervisor does with its children.
#[derive(Clone, Copy)]
struct Settings {
    strategy: Strategy,
    intensity: (u32, Duration),
    backoff: Backoff,
    max_children: Option<usize>,
}

/// A child as it is written.
struct ChildDraft {
    span: Range<usize>,
    id: At<String>,
    process: At<EntryId>,
    host: Option<At<HostId>>,
    name: Option<At<String>>,
    payload: Option<At<Json>>,
    options: Options,
    given: Map<String, Json>,
    restart: Restart,
    shutdown: Option<Shutdown>,
}

/// Something, and where it is.
#[derive(Clone)]
struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

impl<T> At<T> {
    fn read<'t>(value: &Value<'t>, read: impl FnOnce(&Value<'t>) -> Read<T>) -> Read<Self> {
        Ok(Self { value: read(value)?, span: value.span.clone() })
    }
}

/// A supervisor. It is read even where something in it is wrong, so that what it refers to is checked as well.
pub(crate) fn read(table: &Table<'_>, networks: &Known<NetworkKind>) -> (Draft, Json) {
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
fn identity(host: &HostId, settings: &Settings) -> Json {
    let Settings { strategy, intensity, backoff, max_children } = settings;
    json!({
        "host": host,
        "strategy": format!("{strategy:?}"),
        "intensity": format!("{intensity:?}"),
        "backoff": format!("{backoff:?}"),
        "max_children": max_children,
    })
}

/// What supervisors may refer to.
struct Tree<'a> {
    reader: &'a Reader,
    hosts: &'a Section<HostKind, HostConfig>,
    processes: &'a Section<EntryKind, Function>,
    supervisors: &'a Section<EntryKind, Draft>,
}

/// The supervisors that are right.
pub(crate) fn checked(
    reader: &Reader,
    supervisors: &Section<EntryKind, Draft>,
    hosts: &Section<HostKind, HostConfig>,
    processes: &Section<EntryKind, Function>,
) -> BTreeMap<EntryId, Given<SupervisorSpec>> {
    let tree = Tree { reader, hosts, processes, supervisors };
    tree.refuse_shared_ids();
    tree.refuse_shared_names();
    let right = supervisors.entries.iter().filter_map(|(id, draft)| {
        let supervisor = tree.supervisor(id, draft).ok()?;
        Some((id.clone(), supervisor))
    });
    let right = right.collect();
    tree.refuse_cycles();
    right
}

impl Tree<'_> {
    fn supervisor(&self, id: &EntryId, given: &Given<Draft>) -> Read<Given<SupervisorSpec>> {
        let draft = &given.value;
        let host = draft.host.clone().and_then(|host| {
            self.check_host(&host)?;
            self.check_engine(&host.value, &host.span, "native", &format!("`{id}` is a supervisor, which"))?;
            Ok(host.value)
        });
        self.refuse_shared_child_ids(draft);
        let children: Vec<_> =
            draft.children.iter().map(|child| self.child(child, draft.host.as_ref().ok())).collect();
        let children = children.into_iter().collect::<Read<Vec<_>>>();
        let template = draft
            .template
            .as_ref()
            .map(|template| self.child(template, draft.host.as_ref().ok()))
            .transpose();
        let (host, settings, children, template) = (host?, draft.settings?, children?, template?);
        let mut identity = identity(&host, &settings);
        identity["children"] = children.iter().map(|child| child.identity.clone()).collect();
        identity["template"] = template.iter().map(|template| template.identity.clone()).collect();
        let (strategy, intensity, backoff) = (settings.strategy, settings.intensity, settings.backoff);
        let max_children = settings.max_children;
        let dynamic = template.map(|template| Dynamic { template, max_children });
        let value = SupervisorSpec { host, strategy, intensity, backoff, children, dynamic };
        Ok(Given { value, span: given.span.clone(), identity })
    }

    fn child(&self, draft: &ChildDraft, host: Option<&At<HostId>>) -> Read<Given<Child>> {
        let is_supervisor = self.supervisors.known.contains_key(&draft.process.value);
        let process = self.check_process(&draft.process);
        let own_host = draft.host.as_ref().map_or(Ok(()), |host| self.check_host(host));
        let host = draft.host.as_ref().or(host).ok_or(Reported)?;
        let engine = process.and_then(|()| match self.engine(&draft.process.value) {
            // Said where it says which process it is: the host may be right for the others.
            Some(engine) if own_host.is_ok() => {
                let what = format!("`{}`", draft.process.value);
                self.check_engine(&host.value, &draft.process.span, engine, &what)
            }
            _ => Ok(()),
        });
        if let (true, Some(payload)) = (is_supervisor, &draft.payload)
            && !payload.value.is_null()
        {
            let problem = self.reader.problem(payload.span.clone(), "a supervisor takes no payload");
            self.reader.report(problem.with_help("give it to its children"));
            return Err(Reported);
        }
        process.and(own_host).and(engine)?;
        let default = if is_supervisor { Shutdown::Unlimited } else { Shutdown::default() };
        let child = Child {
            id: draft.id.value.clone(),
            process: draft.process.value.clone(),
            host: host.value.clone(),
            name: draft.name.as_ref().map(|name| name.value.clone()),
            payload: draft.payload.as_ref().map_or(Json::Null, |payload| payload.value.clone()),
            options: draft.options.clone(),
            restart: draft.restart,
            shutdown: draft.shutdown.unwrap_or(default),
        };
        let identity = json!({
            "id": child.id,
            "process": child.process,
            "host": child.host,
            "name": child.name,
            "payload": child.payload,
            "options": draft.given,
            "restart": child.restart,
            "shutdown": format!("{:?}", child.shutdown),
        });
        Ok(Given { value: child, span: draft.span.clone(), identity })
    }

    /// Both are started by their id.
    fn refuse_shared_ids(&self) {
        for (id, span) in &self.supervisors.known {
            if let Some(process) = self.processes.known.get(id) {
                let message = format_args!("`{id}` is both a process and a supervisor");
                let problem = self.reader.problem(span.clone(), message).with_label("a supervisor");
                let problem = problem.with_related(process.clone(), "a process");
                self.reader.report(problem.with_help("give one of them another id"));
            }
        }
    }

    /// A name is that of one process in all of the app.
    fn refuse_shared_names(&self) {
        let children = self.supervisors.entries.values().flat_map(|draft| &draft.value.children);
        let names = children.filter_map(|child| child.name.as_ref());
        self.refuse_shared(names, |name| format!("two processes have the name `{name}`"));
    }

    fn refuse_shared_child_ids(&self, draft: &Draft) {
        let ids = draft.children.iter().map(|child| &child.id);
        self.refuse_shared(ids, |id| format!("two children have the id `{id}`"));
    }

    fn refuse_shared<'a>(
        &self,
        names: impl Iterator<Item = &'a At<String>>,
        message: impl Fn(&str) -> String,
    ) {
        let mut names: Vec<_> = names.collect();
        names.sort_by_key(|name| name.span.start);
        let mut first: HashMap<&str, &Range<usize>> = HashMap::new();
        for name in names {
            let Some(first) = first.insert(&name.value, &name.span) else { continue };
            let problem = self.reader.problem(name.span.clone(), message(&name.value)).with_label("again");
            self.reader
                .report(problem.with_related(first.clone(), "first").with_help("give one of them another"));
        }
    }

    fn check_host(&self, host: &At<HostId>) -> Read<()> {
        if self.hosts.known.contains_key(&host.value) {
            return Ok(());
        }
        let problem = self.reader.problem(host.span.clone(), format_args!("unknown host `{}`", host.value));
        let problem = if self.hosts.known.is_empty() {
            problem.with_help(format_args!("no hosts are configured; add `[hosts.\"{}\"]`", host.value))
        } else {
            let ids = self.hosts.known.keys().map(Id::as_str);
            self.reader.with_suggestion(problem, host.value.as_str(), ids, "available hosts:")
        };
        Err(self.reader.report_missing(problem))
    }

    fn check_process(&self, process: &At<EntryId>) -> Read<()> {
        let (processes, supervisors) = (&self.processes.known, &self.supervisors.known);
        if processes.contains_key(&process.value) || supervisors.contains_key(&process.value) {
            return Ok(());
        }
        let message = format_args!("unknown process or supervisor `{}`", process.value);
        let problem = self.reader.problem(process.span.clone(), message);
        let ids = processes.keys().chain(supervisors.keys()).map(Id::as_str);
        let id = process.value.as_str();
        Err(self.reader.report_missing(self.reader.with_suggestion(problem, id, ids, "available ids:")))
    }

    /// What a process runs in, as far as it was read.
    fn engine(&self, id: &EntryId) -> Option<&'static str> {
        if self.supervisors.known.contains_key(id) {
            return Some("native");
        }
        Some(self.processes.entries.get(id)?.value.limits.engine().as_str())
    }

    /// Refuses a host that does not run `engine`; `what` is what runs in it, at `span`.
    fn check_engine(&self, host: &HostId, span: &Range<usize>, engine: &str, what: &str) -> Read<()> {
        let Some(given) = self.hosts.entries.get(host) else { return Ok(()) };
        let Some(engines) = &given.value.engines else { return Ok(()) };
        if engines.iter().any(|other| other == engine) {
            return Ok(());
        }
        let message = format_args!("{what} runs in `{engine}`, and the host `{host}` does not run that");
        let problem = self.reader.problem(span.clone(), message);
        let problem = problem.with_related(given.span.clone(), format!("runs {}", engines.join(", ")));
        Err(self.reader.report(problem.with_help(format_args!("add \"{engine}\" to its `engines`"))))
    }

    /// Refuses supervisors that are below themselves. Without recursion: a manifest says how deep they are.
    fn refuse_cycles(&self) {
        let mut done = HashSet::new();
        for top in self.supervisors.entries.keys() {
            // Those above the one that is looked at, each with its children that are still to be looked at.
            let mut path = self.step(top, &mut done).into_iter().collect::<Vec<_>>();
            let mut depths: HashMap<_, _> = path.iter().map(|(id, _)| (*id, 0)).collect();
            while let Some((id, children)) = path.last_mut() {
                let Some(child) = children.next() else {
                    depths.remove(*id);
                    path.pop();
                    continue;
                };
                if let Some(&start) = depths.get(&child.process.value) {
                    self.report_cycle(child, path[start..].iter().map(|(id, _)| *id));
                } else if let Some(step) = self.step(&child.process.value, &mut done) {
                    depths.insert(step.0, path.len());
                    path.push(step);
                }
            }
        }
    }

    /// A supervisor with its children, the first time.
    fn step<'a>(&'a self, id: &'a EntryId, done: &mut HashSet<&'a EntryId>) -> Option<PathStep<'a>> {
        let draft = self.supervisors.entries.get(id)?;
        done.insert(id).then(|| (id, draft.value.children.iter().chain(&draft.value.template)))
    }

    fn report_cycle<'a>(&self, last: &'a ChildDraft, path: impl ExactSizeIterator<Item = &'a EntryId>) {
        const SHOWN: usize = 8;
        let left_out = path.len().saturating_sub(SHOWN);
        let mut cycle: Vec<_> = path.take(SHOWN).map(|id| id.as_str().to_owned()).collect();
        if left_out > 0 {
            cycle.push(format!("… {left_out} more …"));
        }
        cycle.push(last.process.value.as_str().to_owned());
        let message = format!("a supervisor is below itself: {}", cycle.join(" > "));
        let problem = self.reader.problem(last.process.span.clone(), message);
        self.reader.report(problem.with_help("take one of them out of the children of the other"));
    }
}

type PathStep<'a> = (&'a EntryId, Chain<slice::Iter<'a, ChildDraft>, option::Iter<'a, ChildDraft>>);
