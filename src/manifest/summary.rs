//! What a manifest would run, for people and programs to read.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};
use std::time::Duration;

use frame_dispatch::process::EntryId;
use frame_dispatch::process::supervisor::{Shutdown, Strategy};
use frame_net::NetworkId;
use frame_registry::Id;
use serde_json::{Map, Value as Json, json};

use super::model::{Child, Dynamic, Function, Given, Limits, Manifest, SupervisorSpec};
use super::problem::{Problem, Problems};
use super::reader::size_text;
use crate::report::{one_line, table};

/// What a manifest would run, with remarks on its networks, and warnings, which programs read with it. Of networks it has the
/// kinds, and no settings.
pub(crate) struct Summary<'a>(
    pub(crate) &'a Manifest,
    pub(crate) &'a BTreeMap<NetworkId, String>,
    pub(crate) &'a [Problem],
);

impl Summary<'_> {
    pub(crate) fn to_json(&self) -> Json {
        let Manifest { app, networks, base, collector, functions, hosts, processes, supervisors, .. } =
            self.0;
        let secrets = self.0.secrets.iter().map(|(id, given)| {
            let hosts: Vec<_> = given.value.hosts().iter().map(ToString::to_string).collect();
            json!({ "id": id, "hosts": hosts, "header": given.value.header().as_str() })
        });
        let functions = functions.iter().map(|(id, given)| function(id.as_str(), &given.value));
        let processes = processes.iter().map(|(id, given)| function(id.as_str(), &given.value));
        let hosts = hosts.iter().map(|(id, Given { value, .. })| {
            json!({
                "id": id,
                "processes": value.processes,
                "mailbox": value.mailbox,
                "timers": value.timers,
                "groups": value.groups,
                "group_members": value.group_members,
                "engines": value.engines,
            })
        });
        let networks = networks.iter().map(|(id, network)| {
            let mut shown = json!({ "id": id, "kind": network.value.kind() });
            if let Some(remark) = self.1.get(id) {
                shown["remark"] = json!(remark);
            }
            shown
        });
        let started = self.children_of_all();
        let supervisors = supervisors.iter().map(|(id, Given { value, .. })| {
            json!({
                "id": id,
                "host": value.host,
                "strategy": strategy(value.strategy),
                "restarts": value.intensity.0,
                "within": duration(value.intensity.1),
                "is_started": !started.contains(id),
                "children": value.children.iter().map(|child| self::child(&child.value)).collect::<Vec<_>>(),
                "template": value.dynamic.as_ref().map(|dynamic| self::child(&dynamic.template.value)),
                "max_children": value.dynamic.as_ref().and_then(|dynamic| dynamic.max_children),
            })
        });
        json!({
            "app": app.name,
            "options": app.given,
            "networks": networks.collect::<Vec<_>>(),
            "secrets": secrets.collect::<Vec<_>>(),
            "fs": base.as_ref().map(|base| base.value.display().to_string()),
            "audit": self.0.audit.as_ref().map(|Given { value, .. }| json!({
                "file": value.file.display().to_string(),
                "required": value.required,
                "sync": value.sync,
                "attempts_per_second": value.attempts_per_second,
            })),
            "telemetry": collector,
            "functions": functions.collect::<Vec<_>>(),
            "processes": processes.collect::<Vec<_>>(),
            "hosts": hosts.collect::<Vec<_>>(),
            "supervisors": supervisors.collect::<Vec<_>>(),
            "warnings": Problems::new(self.2.to_vec()).to_json()["problems"],
        })
    }

    /// What is started by a supervisor. A supervisor that is not is started with the app.
    fn children_of_all(&self) -> HashSet<&EntryId> {
        let supervisors = self.0.supervisors.values();
        supervisors
            .flat_map(|supervisor| supervisor.value.all_children())
            .map(|child| &child.value.process)
            .collect()
    }

    /// The children of a supervisor, and theirs below them. Those of one that is several times in the tree are there
    /// once: a manifest can say how to make a tree that is far longer than itself.
    fn write_children<'a>(
        &'a self,
        f: &mut fmt::Formatter<'_>,
        top: &'a EntryId,
        shown: &mut HashSet<&'a EntryId>,
    ) -> fmt::Result {
        let mut path = vec![self.children(top)];
        while let Some(children) = path.last_mut() {
            let Some(Given { value, .. }) = children.next() else {
                path.pop();
                continue;
            };
            let Child { id, process, host, restart, name, .. } = value;
            let name = name.as_ref().map_or_else(String::new, |name| format!(", named {name:?}"));
            let supervisor = self.0.supervisors.get(process);
            let is_new = supervisor.is_some() && shown.insert(process);
            let own = match supervisor {
                Some(supervisor) if is_new => format!(", {}", settings(&supervisor.value)),
                Some(_) => ", see there".to_owned(),
                None => String::new(),
            };
            let indent = "  ".repeat(path.len().min(DEEPEST) + 1);
            let level = match path.len() {
                level if level > DEEPEST => format!("(level {level}) "),
                _ => String::new(),
            };
            line(f, format_args!("{indent}{level}{id}: {process} on {host}, {restart}{name}{own}"))?;
            if is_new {
                path.push(self.children(process));
            }
        }
        Ok(())
    }

    fn children(&self, supervisor: &EntryId) -> impl Iterator<Item = &Given<Child>> {
        self.0.supervisors.get(supervisor).into_iter().flat_map(|given| given.value.all_children())
    }
}

/// For people: a table for what there can be many of.
impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Manifest { app, networks, base, collector, functions, hosts, processes, supervisors, .. } =
            self.0;
        line(f, format_args!("app: {}", app.name))?;
        if !app.given.is_empty() {
            line(f, format_args!("options of everything: {}", members(&app.given)))?;
        }
        if let Some(base) = base {
            line(f, format_args!("files below: {}", base.value.display()))?;
        }
        if let Some(Given { value, .. }) = &self.0.audit {
            let required = if value.required { ", required" } else { "" };
            line(f, format_args!("audit log: {}{required}", value.file.display()))?;
        }
        if let Some(collector) = collector {
            line(f, format_args!("traces to: {collector}"))?;
        }
        let functions: Vec<_> = functions.iter().map(row).collect();
        let processes: Vec<_> = processes.iter().map(row).collect();
        for (what, functions) in [("function", functions), ("process", processes)] {
            if !functions.is_empty() {
                writeln!(f, "\n{}", table(&[what, "engine", "source", "options", "limits"], functions))?;
            }
        }
        if !hosts.is_empty() {
            let rows = hosts.iter().map(|(id, Given { value, .. })| {
                let engines =
                    value.engines.as_ref().map_or_else(|| "all".to_owned(), |engines| engines.join(", "));
                let limits =
                    [value.processes, value.mailbox, value.timers, value.groups, value.group_members];
                let limits = limits.map(|limit| limit.to_string());
                [id.to_string()].into_iter().chain(limits).chain([engines]).collect()
            });
            let header = ["host", "processes", "mailbox", "timers", "groups", "group_members", "engines"];
            writeln!(f, "\n{}", table(&header, rows))?;
        }
        if !networks.is_empty() {
            let rows = networks.iter().map(|(id, given)| vec![id.to_string(), given.value.kind().to_owned()]);
            writeln!(f, "\n{}", table(&["network", "kind"], rows))?;
            for (id, remark) in self.1 {
                line(f, format_args!("{id}: {remark}"))?;
            }
        }
        if !self.0.secrets.is_empty() {
            let rows = self.0.secrets.iter().map(|(id, given)| {
                let hosts: Vec<_> = given.value.hosts().iter().map(ToString::to_string).collect();
                vec![id.to_string(), given.value.header().to_string(), hosts.join(", ")]
            });
            writeln!(f, "\n{}", table(&["secret", "header", "hosts"], rows))?;
        }
        let mut shown = HashSet::new();
        let started = self.children_of_all();
        for (id, Given { value, .. }) in supervisors.iter().filter(|(id, _)| !started.contains(id)) {
            writeln!(f, "\n{id} on {}, {}", value.host, settings(value))?;
            self.write_children(f, id, &mut shown)?;
        }
        Ok(())
    }
}

/// How far children are indented. A manifest says how deep they are.
const DEEPEST: usize = 20;

/// Writes a line, whatever is in it: a child's id or a path may have characters that end a line.
fn line(f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "{}", one_line(&text.to_string()))
}

/// What a supervisor does with its children.
fn settings(supervisor: &SupervisorSpec) -> String {
    let (restarts, within) = supervisor.intensity;
    let kind = match &supervisor.dynamic {
        None => strategy(supervisor.strategy).to_owned(),
        Some(Dynamic { max_children: None, .. }) => "dynamic".to_owned(),
        Some(Dynamic { max_children: Some(max), .. }) => format!("dynamic, at most {max} children"),
    };
    format!("{kind}, at most {restarts} restarts within {}", duration(within))
}

fn row<K>((id, given): (&Id<K>, &Given<Function>)) -> Vec<String> {
    let Function { limits, source, given, .. } = &given.value;
    let engine = limits.engine().as_str().to_owned();
    vec![id.to_string(), engine, source.path.clone(), members(given), members(&self::limits(limits))]
}

fn function(id: &str, function: &Function) -> Json {
    json!({
        "id": id,
        "engine": function.limits.engine().as_str(),
        "source": function.source.path,
        "bytes": function.source.bytes.len(),
        "options": function.given,
        "limits": limits(&function.limits),
    })
}

fn child(child: &Child) -> Json {
    let shutdown = match child.shutdown {
        Shutdown::AtOnce => "at_once".to_owned(),
        Shutdown::Within(time) => duration(time),
        _ => UNLIMITED.to_owned(),
    };
    json!({
        "id": child.id,
        "process": child.process,
        "host": child.host,
        "name": child.name,
        "restart": child.restart,
        "shutdown": shutdown,
    })
}

/// Limits as a manifest has them.
fn limits(limits: &Limits) -> Map<String, Json> {
    let size = |bytes: usize| Json::from(size_text(bytes as u64));
    let count = |count: usize| if count == usize::MAX { Json::from(UNLIMITED) } else { Json::from(count) };
    let time = |time: Duration| Json::from(duration(time));
    let limits = match limits {
        Limits::Lua(lua) => vec![
            ("memory", size(lua.memory)),
            ("time", time(lua.time)),
            ("payload", size(lua.payload)),
            ("calls", count(lua.pool.size)),
            ("wait", time(lua.pool.max_wait)),
            ("idle", count(lua.pool.idle)),
            ("warm", count(lua.pool.warm)),
            ("fresh_vm", lua.fresh_vm.into()),
        ],
        #[cfg(feature = "wasm")]
        Limits::Wasm(wasm) => vec![
            ("memory", size(wasm.memory)),
            ("time", time(wasm.time)),
            ("payload", size(wasm.payload)),
            ("calls", count(wasm.calls)),
            ("wait", time(wasm.max_wait)),
            ("table_elements", count(wasm.table_elements)),
            ("json_memory", size(wasm.json_memory)),
            ("host_memory", size(wasm.host_memory)),
        ],
    };
    limits.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

const UNLIMITED: &str = "unlimited";

fn duration(duration: Duration) -> String {
    if duration == Duration::MAX {
        return UNLIMITED.to_owned();
    }
    humantime::format_duration(duration).to_string().replace(' ', "")
}

fn strategy(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::OneForAll => "one_for_all",
        Strategy::RestForOne => "rest_for_one",
        _ => "one_for_one",
    }
}

/// How many characters of a value a table shows. A list may have thousands of elements.
const LONGEST: usize = 400;

/// Members in one line, as in TOML. Of long values only the beginning.
fn members(members: &Map<String, Json>) -> String {
    members.iter().fold(String::new(), |mut line, (name, value)| {
        let separator = if line.is_empty() { "" } else { ", " };
        let mut value = match value {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        if let Some((end, _)) = value.char_indices().nth(LONGEST) {
            value.truncate(end);
            value.push('…');
        }
        // Writing to a string does not fail.
        let _ = write!(line, "{separator}{name} = {value}");
        line
    })
}
