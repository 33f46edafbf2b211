//! The first pass over a manifest: everything that can be checked without compiling, connecting or reading secrets.

use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;
use std::ops::Range;

use frame_dispatch::process::{HostConfig, HostId};
use frame_net::{EGRESS, EGRESS_KEY, Egress, EgressRule, NETWORK, NETWORK_KEY, NetworkId, SECRETS};
use frame_registry::{App, Frame, Id, OptionError, OptionKind, Options, declared_options, text};
use serde_json::{Map, Value as Json};

use super::secrets::{self, Holder};
use super::{base, plan};
#[cfg(feature = "wasm")]
use crate::manifest::Limits;
use crate::manifest::{Child, DRAWN, Function, Given, Manifest, Problem, SupervisorSpec};
use crate::report;
use crate::spawn::SPAWN;
use crate::trace::TRACE;

/// The options of `[app]`, by who reads them.
pub(crate) struct Defaults {
    /// Those of the root frame, which all that runs inherits from.
    pub(crate) frame: Given<Options>,
    /// Those that are preset for each function: what belongs to a call and is no part of any frame, and what is for each
    /// unit.
    pub(crate) functions: Given<Options>,
    /// Those that are preset for each process: what is for each unit.
    pub(crate) processes: Given<Options>,
}

/// Options that would mean something else on the root frame: a trace that begins there has all that ever runs in it, and
/// not one call.
const FOR_EACH_UNIT: [&str; 1] = [TRACE.name()];

impl Defaults {
    fn of(manifest: &Manifest) -> Result<Self, Problem> {
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

/// What the first pass found.
pub(crate) struct Checked {
    pub(crate) defaults: Defaults,
    /// Everything that is not valid, such as options that a resolver refuses.
    pub(crate) problems: Vec<Problem>,
    /// What is valid and has no effect.
    pub(crate) warnings: Vec<Problem>,
    /// The units that have secrets.
    pub(crate) holders: Vec<Holder>,
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To see what is wrong: nothing is kept ready for calls.
    Check,
    Run,
}

/// Checks everything that needs nothing but the manifest: the frames that its options make, supervisors, hosts and the audit log.
///
/// # Errors
///
/// The default options are not valid, so that nothing else can be checked.
pub(crate) fn check(manifest: &Manifest, purpose: Purpose) -> Result<Checked, Problem> {
    let defaults = Defaults::of(manifest)?;
    let Findings { mut problems, mut warnings, holders } = check_frames(manifest, &defaults);
    problems.extend(check_supervisors(manifest));
    problems.extend(full_hosts(manifest));
    if purpose == Purpose::Check {
        problems.extend(base::audit_problem(manifest));
    }
    #[cfg(feature = "wasm")]
    warnings.extend(crowded_hosts(manifest));
    warnings.extend(base::audit_warning(manifest));
    Ok(Checked { defaults, problems, warnings, holders })
}

/// Reports hosts with too little room for the supervisors that the program starts there, and their children.
fn full_hosts(manifest: &Manifest) -> Vec<Problem> {
    let mut parents: HashMap<&str, usize> = HashMap::new();
    let children = manifest.supervisors.values().flat_map(|given| given.value.all_children());
    for child in children.filter(|child| manifest.supervisors.contains_key(&child.value.process)) {
        *parents.entry(child.value.process.as_str()).or_default() += 1;
    }
    // How often each supervisor is started. Each is visited after all that start it, however many ways lead to it.
    let mut started: HashMap<&str, usize> = HashMap::new();
    let mut needed: HashMap<&HostId, usize> = HashMap::new();
    let mut ready = Vec::new();
    for (id, given) in manifest.supervisors.iter().filter(|(id, _)| !parents.contains_key(id.as_str())) {
        started.insert(id.as_str(), 1);
        needed.entry(&given.value.host).and_modify(|count| *count += 1).or_insert(1);
        ready.push((id.as_str(), &given.value));
    }
    while let Some((id, supervisor)) = ready.pop() {
        let times = started.get(id).copied().unwrap_or_default();
        for child in supervisor.all_children() {
            // A dynamic supervisor starts none by itself.
            let times = if supervisor.dynamic.is_some() { 0 } else { times };
            let count = needed.entry(&child.value.host).or_default();
            *count = count.saturating_add(times);
            let Some((id, given)) = manifest.supervisors.get_key_value(&child.value.process) else {
                continue;
            };
            let count = started.entry(id.as_str()).or_default();
            *count = count.saturating_add(times);
            if let Some(left) = parents.get_mut(id.as_str()) {
                *left -= 1;
                if *left == 0 {
                    ready.push((id.as_str(), &given.value));
                }
            }
        }
    }
    let hosts = manifest.hosts.iter().filter_map(|(id, host)| {
        let (room, needed) = (host.value.processes, needed.get(id).copied().unwrap_or_default());
        (needed > room).then(|| {
            let span = manifest.layout.whole(&["hosts", id.as_str(), "processes"]);
            let processes = if room == 1 { "process" } else { "processes" };
            let what = format!(
                "host `{id}` has room for {room} {processes}, but its supervisors and their children are {needed}"
            );
            Problem::new(&manifest.file, span.unwrap_or_else(|| host.span.clone()), what)
                .with_help(format!("set `processes` to {needed} or more"))
        })
    });
    hosts.collect()
}

/// What is wrong with the frames of a manifest.
#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    holders: Vec<Holder>,
}

/// Resolves the frames that a manifest describes, and returns what is wrong with their options.
fn check_frames(manifest: &Manifest, defaults: &Defaults) -> Findings {
    let problem = |problem| Findings { problems: vec![problem], ..Findings::default() };
    let app = match base::dry_run_app(manifest) {
        Ok(app) => app,
        Err(refused) => return problem(refused),
    };
    // Where this is wrong, so is all that inherits from it.
    let root = match base::resolve(&app, None, &defaults.frame.value) {
        Ok(root) => root,
        Err(why) => {
            let span = unknown_secret(manifest, &["app", "options"], &defaults.frame.value);
            let span = span.unwrap_or_else(|| defaults.frame.span.clone());
            return problem(Problem::new(&manifest.file, span, why));
        }
    };
    let mut check = FrameCheck { manifest, app: &app, findings: Findings::default(), ways: HashMap::new() };
    let place = (&["app", "options"][..], &defaults.frame.span);
    check.rules(None, &root, &defaults.frame.value, place);
    for (id, function) in &manifest.functions {
        check.definition(&root, &["functions", id.as_str(), "options"], function);
    }
    for (id, process) in &manifest.processes {
        check.definition(&root, &["processes", id.as_str(), "options"], process);
    }
    let children: HashSet<_> = manifest
        .supervisors
        .values()
        .flat_map(|given| given.value.all_children())
        .map(|child| &child.value.process)
        .collect();
    for (_, top) in manifest.supervisors.iter().filter(|(id, _)| !children.contains(id)) {
        check.below(&root, &top.value);
    }
    check.hosts(&["app", "options"], &defaults.frame, &defaults.frame.value);
    for (id, function) in &manifest.functions {
        check.hosts(&["functions", id.as_str(), "options"], function, &function.value.options);
    }
    for (id, process) in &manifest.processes {
        check.hosts(&["processes", id.as_str(), "options"], process, &process.value.options);
    }
    for child in manifest.supervisors.values().flat_map(|supervisor| supervisor.value.all_children()) {
        check.hosts(&[], child, &child.value.options);
    }
    check.findings
}

/// Among how many names the one is looked for that was probably meant.
pub(crate) const MOST_COMPARED: usize = 2000;

struct FrameCheck<'a> {
    manifest: &'a Manifest,
    app: &'a App,
    findings: Findings,
    /// The options on the ways down to supervisors, each a number for those on the way to its parent and its own, as they are
    /// written.
    ways: HashMap<(usize, String), usize>,
}

impl FrameCheck<'_> {
    /// Gives the frame, if there is one.
    fn unit<T>(
        &mut self,
        parent: &Frame,
        path: &[&str],
        given: &Given<T>,
        options: &Options,
    ) -> Option<Frame> {
        match base::resolve(self.app, Some(parent), options) {
            Ok(frame) => {
                self.findings.holders.extend(Holder::of(&frame, self.app));
                Some(frame)
            }
            Err(why) => {
                let file = &self.manifest.file;
                let span = unknown_secret(self.manifest, path, options);
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

    /// Rules of `egress` that have no effect, or another than is likely to be meant.
    fn rules(
        &mut self,
        outer: Option<&Egress>,
        frame: &Frame,
        options: &Options,
        place: (&[&str], &Range<usize>),
    ) {
        self.findings.warnings.extend(dead_rules(self.manifest, outer, frame, options, place));
        self.findings.warnings.extend(ambiguous_rules(self.manifest, options, place));
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
        self.findings.problems.push(match text::nearest(host.as_str(), hosts) {
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

/// Where the options at `path` grant a secret that there is not. What refuses it does not know where it is written.
fn unknown_secret(manifest: &Manifest, path: &[&str], options: &Options) -> Option<Range<usize>> {
    let id = secrets::unknown(manifest, options)?;
    let place = [path, &[SECRETS.name()]].concat();
    let is_it = |span: &Range<usize>| {
        let text = manifest.file.text.get(span.clone()).unwrap_or_default();
        text.trim_matches(['"', '\'']) == id.as_str()
    };
    let elements = (0..).map_while(|index| manifest.layout.element(&place, index));
    elements.into_iter().find(is_it).or_else(|| manifest.layout.whole(&place))
}

/// Warns of rules that `options` add to what `outer` allows, if they can never match: those that no rule of one of its lists
/// overlaps, and those for what the network of `frame` does not have. `path` is that of the options in the manifest, and `span`
/// what to point at for rules that are not in the manifest.
///
/// The frames are those that the manifest makes. A function that is called from elsewhere may have further lists.
fn dead_rules(
    manifest: &Manifest,
    outer: Option<&Egress>,
    frame: &Frame,
    options: &Options,
    (path, span): (&[&str], &Range<usize>),
) -> Vec<Problem> {
    let Some(egress) = options.get(&EGRESS) else { return Vec::new() };
    let network = options.get(&NETWORK).and(frame.get(&NETWORK_KEY));
    let reason = |rule: &EgressRule| {
        let mut lists = outer.into_iter().flat_map(Egress::lists);
        let refusing = lists.find(|list| !list.overlaps(rule));
        let narrowed =
            refusing.map(|list| format!("what it inherits is {list}, and each level only narrows"));
        narrowed.or_else(|| without_host(manifest, network?, rule))
    };
    let place = [path, &[EGRESS.name()]].concat();
    let rules = egress.lists().flat_map(|list| list.rules()).enumerate();
    let dead = rules.filter_map(|(index, rule)| {
        let why = reason(rule)?;
        let span = manifest.layout.element(&place, index).unwrap_or_else(|| span.clone());
        let problem =
            Problem::new(&manifest.file, span, format!("the rule `{rule}` of `egress` can never match"));
        Some(problem.with_help(format!("{why}; take the rule out")))
    });
    dead.collect()
}

/// Warns of rules whose address ends as if a port followed it, unless they are in brackets.
fn ambiguous_rules(
    manifest: &Manifest,
    options: &Options,
    (path, span): (&[&str], &Range<usize>),
) -> Vec<Problem> {
    let Some(egress) = options.get(&EGRESS) else { return Vec::new() };
    let place = [path, &[EGRESS.name()]].concat();
    let rules = egress.lists().flat_map(|list| list.rules()).enumerate();
    let ambiguous = rules.filter_map(|(index, rule)| {
        let meant = with_port(&rule.to_string())?;
        let written = manifest.layout.element(&place, index);
        let text = written.as_ref().and_then(|written| manifest.file.text.get(written.clone()));
        if text.is_some_and(|text| text.contains('[')) {
            return None;
        }
        let why = format!("the rule `{rule}` of `egress` is an address, with all of its ports");
        let problem = Problem::new(&manifest.file, written.unwrap_or_else(|| span.clone()), why);
        Some(problem.with_help(format!("for a port write `{meant}`; for the address write `[{rule}]`")))
    });
    ambiguous.collect()
}

/// The address and the port that a rule may mean that is an IPv6 address as it stands.
fn with_port(rule: &str) -> Option<String> {
    rule.parse::<Ipv6Addr>().ok()?;
    let (address, port) = rule.rsplit_once(':')?;
    let is_port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    (is_port && address.parse::<Ipv6Addr>().is_ok()).then(|| format!("[{address}]:{port}"))
}

/// Why `network` has no host that `rule` covers, if that is known of its kind.
fn without_host(manifest: &Manifest, network: &NetworkId, rule: &EgressRule) -> Option<String> {
    let is_i2p = manifest.networks.get(network).is_some_and(|network| network.value.kind() == "i2p");
    let below: EgressRule = "*.i2p".parse().ok()?;
    let is_missing = is_i2p && !rule.overlaps(&below);
    is_missing.then(|| format!("the network `{network}` has names below `.i2p` only"))
}

fn check_supervisors(manifest: &Manifest) -> Vec<Problem> {
    let mut problems = Vec::new();
    for given in manifest.supervisors.values() {
        if let Err(error) = plan::supervisor(&given.value) {
            problems.push(Problem::new(&manifest.file, given.span.clone(), report::chain(&error)));
        }
        for child in given.value.all_children() {
            let process = manifest.processes.get(&child.value.process);
            let host = manifest.hosts.get(&child.value.host);
            let (Some(process), Some(host)) = (process, host) else { continue };
            if let Some(why) = not_runnable(&child.value.host, host, &process.value) {
                problems.push(Problem::new(&manifest.file, child.span.clone(), why));
            }
        }
    }
    problems
}

/// Hosts that say that they have more places for components than the engine has instances.
#[cfg(feature = "wasm")]
fn crowded_hosts(manifest: &Manifest) -> Vec<Problem> {
    let instances = manifest.wasm.instances as usize;
    if !manifest.processes.values().any(|process| matches!(process.value.limits, Limits::Wasm(_))) {
        return Vec::new();
    }
    let unsaid = HostConfig::default().processes;
    let is_crowded = |host: &HostConfig| {
        let runs_components =
            host.engines.as_ref().is_none_or(|engines| engines.iter().any(|engine| engine == "wasm"));
        runs_components && host.processes > instances && host.processes != unsaid
    };
    let crowded = manifest.hosts.iter().filter(|(_, host)| is_crowded(&host.value));
    crowded
        .map(|(id, host)| {
            let what = format!(
                "the host `{id}` has places for {} processes, but no more than {instances} of them can be components at the \
                 same time",
                host.value.processes
            );
            let help = "lower `processes` of the host, or raise `instances` in `[wasm]`; other processes wait for an instance, \
                        and then fail";
            Problem::new(&manifest.file, host.span.clone(), what).with_help(help)
        })
        .collect()
}

/// Why a process cannot run on a host, if it cannot.
fn not_runnable(id: &HostId, host: &Given<HostConfig>, process: &Function) -> Option<String> {
    let engine = process.limits.engine().as_str();
    let engines = host.value.engines.as_ref()?;
    let is_there = engines.iter().any(|other| other == engine);
    (!is_there).then(|| {
        format!("the child runs in `{engine}`, and the host `{id}` is for {}", engines.join(" and "))
    })
}
