//! The tree of supervisors: whether all that they refer to is there, and fits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter::Chain;
use std::ops::Range;
use std::{option, slice};

use frame_dispatch::process::supervisor::Shutdown;
use frame_dispatch::process::{EntryId, EntryKind, HostConfig, HostId, HostKind};
use frame_registry::Id;
use serde_json::{Value as Json, json};

use super::document::Section;
use super::model::{Child, Dynamic, Function, Given, SupervisorSpec};
use super::reader::{Read, Reader, Reported};
use super::supervisor::{At, ChildDraft, Draft, identity};

/// What supervisors may refer to.
struct Tree<'a> {
    reader: &'a Reader,
    hosts: &'a Section<HostKind, HostConfig>,
    processes: &'a Section<EntryKind, Function>,
    supervisors: &'a Section<EntryKind, Draft>,
}

/// The supervisors that are right.
pub(super) fn checked(
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
    fn step<'a>(&'a self, id: &'a EntryId, done: &mut HashSet<&'a EntryId>) -> Option<Step<'a>> {
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

type Step<'a> = (&'a EntryId, Chain<slice::Iter<'a, ChildDraft>, option::Iter<'a, ChildDraft>>);
