//! The frames that an app begins with.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use frame_dispatch::process::HostId;
use frame_net::{EGRESS, EGRESS_KEY, Egress, SECRETS};
use frame_registry::{
    App, Frame, FrameBuilder, Id, OptionError, OptionKind, Options, ResolveContext, declared_options, nearest,
};
use serde_json::{Map, Value as Json};

use super::secrets::{self, Holder};
use super::{base, egress};
use crate::manifest::{Child, DRAWN, Function, Given, Manifest, Problem, SupervisorSpec};
use crate::report;
use crate::spawn::SPAWN;
use crate::trace::TRACE;

/// The options of `[app]`, by who reads them.
pub(super) struct Defaults {
    /// Those of the root frame, which all that runs inherits from.
    pub(super) frame: Given<Options>,
    /// Those that are preset for each function: what belongs to a call and is no part of any frame, and what is for each
    /// unit.
    pub(super) functions: Given<Options>,
    /// Those that are preset for each process: what is for each unit.
    pub(super) processes: Given<Options>,
}

/// Options that would mean something else on the root frame: a trace that begins there has all that ever runs in it, and
/// not one call.
const FOR_EACH_UNIT: [&str; 1] = [TRACE.name()];

impl Defaults {
    pub(super) fn of(manifest: &Manifest) -> Result<Self, Problem> {
        let declared = declared_options();
        let is_plain = |name: &str| {
            declared.iter().any(|option| option.name() == name && option.kind() == OptionKind::Dispatcher)
        };
        let given = manifest.app.given.clone().into_iter();
        let (plain, others): (Map<_, _>, Map<_, _>) = given.partition(|(name, _)| is_plain(name));
        let (unit, frame): (Map<_, _>, Map<_, _>) =
            others.into_iter().partition(|(name, _)| FOR_EACH_UNIT.contains(&name.as_str()));
        let functions = plain.into_iter().chain(unit.clone()).collect();
        let span = manifest.layout.whole(&["app", "options"]).unwrap_or_default();
        let options = |given: Map<String, Json>| -> Result<_, OptionError> {
            let identity = Json::Object(given);
            Ok(Given { value: Options::from_json(&identity)?, span: span.clone(), identity })
        };
        let defaults = options(frame)
            .and_then(|frame| Ok(Self { frame, functions: options(functions)?, processes: options(unit)? }));
        defaults.map_err(|error| Problem::new(&manifest.file, span.clone(), report::chain(&error)))
    }
}

/// The frame that `options` make of `parent`.
///
/// # Errors
///
/// Why a resolver refuses.
pub(super) fn resolve(app: &App, parent: Option<&Frame>, options: &Options) -> Result<Frame, String> {
    let resolved = catch_unwind(AssertUnwindSafe(|| {
        let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
        app.resolvers().resolve(&ResolveContext::new(app, parent), options, frame.pairs_mut())?;
        Ok::<_, frame_registry::ResolveError>(frame.seal())
    }));
    match resolved {
        Ok(resolved) => resolved.map_err(|error| report::chain(&error)),
        Err(_) => Err("a resolver panicked".to_owned()),
    }
}

/// What there is to say of the options of a manifest.
#[derive(Default)]
pub(super) struct Findings {
    /// What would be refused when a function is called or a process started.
    pub(super) problems: Vec<Problem>,
    /// What has no effect.
    pub(super) warnings: Vec<Problem>,
    /// The units that have secrets.
    pub(super) holders: Vec<Holder>,
}

/// Makes the frames that a manifest describes, and says what is wrong with their options.
pub(super) fn check(manifest: &Manifest, defaults: &Defaults) -> Findings {
    let problem = |problem| Findings { problems: vec![problem], ..Findings::default() };
    let refused =
        |given: &Given<Options>, why| problem(Problem::new(&manifest.file, given.span.clone(), why));
    let app = match base::hollow(manifest) {
        Ok(app) => app,
        Err(refused) => return problem(refused),
    };
    // Where this is wrong, so is all that inherits from it.
    let root = match resolve(&app, None, &defaults.frame.value) {
        Ok(root) => root,
        Err(why) => return refused(&defaults.frame, why),
    };
    let mut checked = Checked { manifest, app: &app, findings: Findings::default(), ways: HashMap::new() };
    let place = (&["app", "options"][..], &defaults.frame.span);
    checked.rules(None, &root, &defaults.frame.value, place);
    for (id, function) in &manifest.functions {
        checked.definition(&root, &["functions", id.as_str(), "options"], function);
    }
    for (id, process) in &manifest.processes {
        checked.definition(&root, &["processes", id.as_str(), "options"], process);
    }
    let children: HashSet<_> = manifest
        .supervisors
        .values()
        .flat_map(|given| given.value.all_children())
        .map(|child| &child.value.process)
        .collect();
    for (_, top) in manifest.supervisors.iter().filter(|(id, _)| !children.contains(id)) {
        checked.below(&root, &top.value);
    }
    checked.hosts(&["app", "options"], &defaults.frame, &defaults.frame.value);
    for (id, function) in &manifest.functions {
        checked.hosts(&["functions", id.as_str(), "options"], function, &function.value.options);
    }
    for (id, process) in &manifest.processes {
        checked.hosts(&["processes", id.as_str(), "options"], process, &process.value.options);
    }
    for child in manifest.supervisors.values().flat_map(|supervisor| supervisor.value.all_children()) {
        checked.hosts(&[], child, &child.value.options);
    }
    checked.findings
}

/// Among how many names the one is looked for that was probably meant.
pub(super) const MOST_COMPARED: usize = 2000;

struct Checked<'a> {
    manifest: &'a Manifest,
    app: &'a App,
    findings: Findings,
    /// The options on the ways down to supervisors, each a number for those on the way to its parent and its own, as they are
    /// written.
    ways: HashMap<(usize, String), usize>,
}

impl Checked<'_> {
    /// Gives the frame, if there is one.
    fn unit<T>(
        &mut self,
        parent: &Frame,
        path: &[&str],
        given: &Given<T>,
        options: &Options,
    ) -> Option<Frame> {
        match resolve(self.app, Some(parent), options) {
            Ok(frame) => {
                self.findings.holders.extend(Holder::of(&frame, self.app));
                Some(frame)
            }
            Err(why) => {
                let file = &self.manifest.file;
                // What refuses an unknown secret does not know where it is written.
                let unknown = secrets::unknown(self.manifest, options);
                let place = unknown.map(|_| [path, &[SECRETS.name()]].concat());
                let span = place.and_then(|place| self.manifest.layout.whole(&place));
                let span =
                    span.or_else(|| self.manifest.layout.whole(path)).unwrap_or_else(|| given.span.clone());
                self.findings.problems.push(Problem::new(file, span, why));
                None
            }
        }
    }

    /// A function, or what processes are started from.
    fn definition(&mut self, root: &Frame, path: &[&str], given: &Given<Function>) {
        let options = &given.value.options;
        if let Some(frame) = self.unit(root, path, given, options) {
            self.rules(root.get(&EGRESS_KEY), &frame, options, (path, &given.span));
        }
    }

    /// Rules of `egress` that have no effect.
    fn rules(
        &mut self,
        outer: Option<&Egress>,
        frame: &Frame,
        options: &Options,
        place: (&[&str], &Range<usize>),
    ) {
        self.findings.warnings.extend(egress::dead_rules(self.manifest, outer, frame, options, place));
    }

    /// Hosts that are granted and that there are not.
    fn hosts<T>(&mut self, path: &[&str], given: &Given<T>, options: &Options) {
        let file = &self.manifest.file;
        let unknown = |host: &&HostId| !self.manifest.hosts.contains_key(*host);
        let Some(host) = options.get(&SPAWN).and_then(|hosts| hosts.iter().find(unknown)) else { return };
        let place = [path, &[SPAWN.name()]].concat();
        let span = self.manifest.layout.whole(&place).unwrap_or_else(|| given.span.clone());
        let problem =
            Problem::new(file, span, format!("`spawn` grants the host `{host}`, which is not in `[hosts]`"));
        // Among thousands of hosts it would take long to find one for each.
        let hosts = self.manifest.hosts.keys().map(Id::as_str).take(MOST_COMPARED);
        let hosts = hosts.filter(|_| self.findings.problems.len() < DRAWN);
        self.findings.problems.push(match nearest(host.as_str(), hosts) {
            Some(nearest) => problem.with_help(format!("did you mean `{nearest}`?")),
            None => problem,
        });
    }

    /// The children of a supervisor that has this frame, and theirs. A manifest says how deep they are, and can make more ways down
    /// than it has bytes; a supervisor is looked at once for each of the options that lead to it.
    fn below(&mut self, parent: &Frame, supervisor: &SupervisorSpec) {
        /// More of those are no manifest that anyone writes. What a resolver refuses there is refused when it is started.
        const MOST: usize = 10_000;
        let manifest = self.manifest;
        let mut seen = HashSet::new();
        let mut left = vec![(parent.clone(), 0, supervisor)];
        while let Some((parent, way, supervisor)) = left.pop() {
            for child in supervisor.all_children() {
                let id = &child.value.process;
                let preset = manifest.processes.get(id).map(|process| &process.value.options);
                if child.value.options.is_empty() && preset.is_some_and(Options::is_empty) {
                    continue;
                }
                let options = match preset {
                    Some(preset) => preset.merged_under(&child.value.options),
                    None => child.value.options.clone(),
                };
                let Some(frame) = self.unit(&parent, &[], child, &options) else { continue };
                let lists = [parent.get(&EGRESS_KEY), preset.and_then(|preset| preset.get(&EGRESS))];
                let outer =
                    lists.into_iter().flatten().cloned().reduce(|outer, preset| outer.narrowed_by(&preset));
                self.rules(outer.as_ref(), &frame, &child.value.options, (&[], &child.span));
                let Some(supervisor) = manifest.supervisors.get(id) else { continue };
                let way = self.way(way, child);
                if seen.len() < MOST && seen.insert((way, id)) {
                    left.push((frame, way, &supervisor.value));
                }
            }
        }
    }

    /// The options on the way to a child.
    fn way(&mut self, parent: usize, child: &Given<Child>) -> usize {
        if child.value.options.is_empty() {
            return parent;
        }
        let next = self.ways.len() + 1;
        *self.ways.entry((parent, child.identity["options"].to_string())).or_insert(next)
    }
}
