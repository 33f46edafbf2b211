//! From a manifest to a plan, in two passes. The first one checks what needs nothing but the manifest, which is
//! [`check`](super::check). The second one, here, compiles sources, builds networks and reads secrets. Nothing runs yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;

use frame_dispatch::lua::LuaError;
use frame_net::{ConfigError, NetworkConfig, NetworkError, NetworkId, NetworkRegistry};
use frame_registry::{Id, Options, text};
use serde_json::json;
use tokio::sync::Semaphore;

use super::check::{self, Checked, MOST_COMPARED, Purpose};
use super::engines::{Code, Engines};
use super::plan::{Made, Plan, Unit};
use super::secrets;
use crate::manifest::{
    DRAWN, Function, Given, Limits, Manifest, PointAt, Problem, Problems, Role, SourceFile,
};
use crate::report;
use crate::telemetry::{failed, progress, reporting};
use crate::threads::processors;

/// Returns the plan of `manifest`. Takes over from `earlier` what has not changed.
///
/// # Errors
///
/// Every problem of both passes.
///
/// # Cancel safety
///
/// If the future is dropped, sources that are being compiled are compiled to their end.
pub(crate) async fn compile(
    manifest: &Manifest,
    networks: &NetworkRegistry,
    engines: &Arc<Engines>,
    earlier: Option<&Plan>,
    purpose: Purpose,
) -> Result<Plan, Problems> {
    let Checked { defaults, mut problems, mut warnings, holders } = check::check(manifest, purpose)?;

    let permits = Arc::new(Semaphore::new(processors()));
    let compiler = Compiler { manifest, engines, permits, purpose };
    let codes = async {
        tokio::join!(
            compiler.codes(&manifest.functions, Role::Function, earlier.map(|plan| &plan.functions)),
            compiler.codes(&manifest.processes, Role::Process, earlier.map(|plan| &plan.processes)),
        )
    };
    let (functions, processes) = reporting(codes).await;
    let (functions, refused) = functions;
    problems.extend(refused);
    let (processes, refused) = processes;
    problems.extend(refused);

    let (networks, refused) = make_networks(manifest, networks, earlier);
    problems.extend(refused);
    let (secrets, refused) = secrets::load(manifest).await;
    problems.extend(refused);
    if !problems.is_empty() {
        return Err(Problems::new(problems));
    }
    warnings.extend(secrets::warnings(manifest, &secrets, &holders));
    let warnings = warnings.into_iter().map(Problem::into_warning).collect();
    let unit = |defaults: &Given<Options>, given: &Given<Function>, (code, generation)| {
        let options = defaults.value.merged_under(&given.value.options);
        // Another default is another unit, of the same code.
        let identity = json!([given.identity, defaults.identity, generation]);
        let value = Unit { code, compiled_from: given.identity.clone(), generation, options };
        Given { value, span: given.span.clone(), identity }
    };
    let function = |given: &Given<Function>, code| unit(&defaults.functions, given, code);
    let process = |given: &Given<Function>, code| unit(&defaults.processes, given, code);
    Ok(Plan {
        file: Arc::clone(&manifest.file),
        networks,
        secrets,
        hosts: manifest.hosts.clone(),
        functions: units(&manifest.functions, functions, function),
        processes: units(&manifest.processes, processes, process),
        supervisors: manifest.supervisors.clone(),
        all_defaults: defaults.frame.value.merged_under(&defaults.functions.value),
        defaults: defaults.frame,
        warnings: Problems::sorted(warnings, 0, &manifest.file.name).into_parts().0,
    })
}

/// What a unit is compiled to, and its generation.
type Compiled = (Code, u32);

/// What a kind of unit is compiled to, by id, and what is wrong with the others.
type Codes<K> = (BTreeMap<Id<K>, Compiled>, Vec<Problem>);

struct Compiler<'a> {
    manifest: &'a Manifest,
    engines: &'a Arc<Engines>,
    permits: Arc<Semaphore>,
    purpose: Purpose,
}

impl Compiler<'_> {
    async fn codes<K>(
        &self,
        parts: &BTreeMap<Id<K>, Given<Function>>,
        role: Role,
        earlier: Option<&BTreeMap<Id<K>, Given<Unit>>>,
    ) -> Codes<K> {
        let (mut codes, mut problems, mut running) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut scripts = Scripts::default();
        for (id, given) in parts {
            let earlier = earlier.and_then(|earlier| earlier.get(id)).map(|unit| &unit.value);
            let generation = match earlier.filter(|unit| unit.compiled_from == given.identity) {
                Some(unit) if unit.code.quarantine().is_none() => {
                    codes.insert(id.clone(), (unit.code.clone(), unit.generation));
                    continue;
                }
                Some(quarantined) => quarantined.generation + 1,
                None => 0,
            };
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let (engines, mut function) = (Arc::clone(self.engines), given.value.clone());
            if let (Purpose::Check, Limits::Lua(limits)) = (self.purpose, &mut function.limits) {
                limits.pool = limits.pool.with_warm(0);
            }
            let message = format!("compiling the {} {id}", role.noun());
            let compiled = self.engines.compilers.run(move || {
                let _permit = permit;
                let mut span = None;
                let compiled = engines.compile(&function, role, || span = Some(progress(&message).entered()));
                if let (Some(span), Err(_)) = (&span, &compiled) {
                    failed(span);
                }
                compiled
            });
            running.push((id, given, generation, compiled));
        }
        for (id, given, generation, compiled) in running {
            match compiled.await.unwrap_or_else(|error| Err(error.into())) {
                Ok(code) => _ = codes.insert(id.clone(), (code, generation)),
                Err(error) => problems.extend(refused(self.manifest, &given.value, &*error, &mut scripts)),
            }
        }
        (codes, problems)
    }
}

/// Scripts that problems are in. Many functions may have the same.
#[derive(Default)]
struct Scripts {
    /// By path.
    files: HashMap<String, Arc<SourceFile>>,
    /// What was said of which.
    said: HashSet<(String, String)>,
}

/// What is wrong with a source: in the script, if its compiler gives the line, or else where the manifest names it. Nothing if
/// that was said of the script for another function.
fn refused(
    manifest: &Manifest,
    function: &Function,
    error: &(dyn Error + Send + Sync + 'static),
    scripts: &mut Scripts,
) -> Option<Problem> {
    let source = &function.source;
    match (error.downcast_ref(), &source.text) {
        (Some(LuaError::Syntax { message }), Some(text)) if source.is_quotable => {
            if !scripts.said.insert((source.path.clone(), message.clone())) {
                return None;
            }
            let file = scripts.files.entry(source.path.clone()).or_insert_with(|| {
                let path = manifest.directory.join(&source.path);
                let name = path.strip_prefix(".").unwrap_or(&path).display().to_string();
                Arc::new(SourceFile::new(name, Arc::clone(text)))
            });
            Some(Problem::of_script(file, message))
        }
        // Lua's message quotes the script as well.
        (Some(LuaError::Syntax { message }), _) => {
            let line = message.split(':').find_map(|part| part.parse::<u32>().ok());
            let line = line.map_or_else(String::new, |line| format!(": there is a mistake in line {line}"));
            let problem = Problem::new(
                &manifest.file,
                source.span.clone(),
                format_args!("the script does not compile{line}"),
            );
            Some(
                problem
                    .with_help("lines are shown of scripts that are beneath the directory of the manifest"),
            )
        }
        _ => Some(Problem::new(&manifest.file, source.span.clone(), report::chain(error))),
    }
}

fn units<K>(
    parts: &BTreeMap<Id<K>, Given<Function>>,
    mut codes: BTreeMap<Id<K>, Compiled>,
    unit: impl Fn(&Given<Function>, Compiled) -> Given<Unit>,
) -> BTreeMap<Id<K>, Given<Unit>> {
    let units = parts.iter().filter_map(|(id, given)| Some((id.clone(), unit(given, codes.remove(id)?))));
    units.collect()
}

/// Networks, by id.
type Networks = BTreeMap<NetworkId, Given<Made>>;

fn make_networks(
    manifest: &Manifest,
    registry: &NetworkRegistry,
    earlier: Option<&Plan>,
) -> (Networks, Vec<Problem>) {
    let (mut networks, mut problems) = (Networks::new(), Vec::new());
    for (id, given) in &manifest.networks {
        let earlier = earlier.and_then(|plan| plan.networks.get(id));
        let network = match earlier.filter(|earlier| earlier.identity == given.identity) {
            Some(earlier) => Ok(earlier.value.clone()),
            None => registry
                .build(id, &given.value)
                .map(|network| Made { network, is_selectable: given.value.is_selectable() }),
        };
        match network {
            Ok(value) => {
                let (span, identity) = (given.span.clone(), given.identity.clone());
                networks.insert(id.clone(), Given { value, span, identity });
            }
            Err(error) => problems.extend(unmakeable(manifest, id, given, &error)),
        }
    }
    let circles = circles(&networks);
    for (id, given) in &networks {
        if let Some(why) = unreachable_network(manifest, &circles, id, given) {
            let via = manifest.places.get(id).map(|places| places.key(&"via".into()));
            let problem = Problem::new(&manifest.file, via.unwrap_or_else(|| given.span.clone()), why);
            let others = manifest.places.keys().filter(|&other| other != id).map(Id::as_str);
            let others = others.take(MOST_COMPARED);
            let meant = given.value.network.via().filter(|via| !manifest.places.contains_key(*via));
            // Among thousands of networks it would take long to find one for each.
            let meant = meant.filter(|_| problems.len() < DRAWN);
            problems.push(match meant.and_then(|via| text::nearest(via.as_str(), others)) {
                Some(near) => problem.with_label(format_args!("did you mean `{near}`?")),
                None => problem,
            });
        }
    }
    (networks, problems)
}

/// What is wrong with a network, at the settings that it is about.
fn unmakeable(
    manifest: &Manifest,
    id: &NetworkId,
    given: &Given<NetworkConfig>,
    error: &NetworkError,
) -> Vec<Problem> {
    match (error, manifest.places.get(id)) {
        (NetworkError::Config { source: ConfigError::Invalid { kind, source, .. }, .. }, Some(places)) => {
            places.problems(&manifest.file, &format!("a network of the kind `{kind}`"), PointAt::Key, source)
        }
        _ => vec![Problem::new(&manifest.file, given.span.clone(), report::chain(error))],
    }
}

/// Why a network leads nowhere, if it does not: what it goes through is not there, or leads back to it.
fn unreachable_network(
    manifest: &Manifest,
    circles: &HashSet<&NetworkId>,
    id: &NetworkId,
    given: &Given<Made>,
) -> Option<String> {
    let via = given.value.network.via()?;
    // What could not be read is there all the same.
    if !manifest.places.contains_key(via) {
        return Some(format!("unknown network `{via}` in `via` of `{id}`"));
    }
    circles.contains(id).then(|| format!("network `{id}` goes via `{via}`, which leads back to it"))
}

/// The networks that lead back to themselves. Each is looked at once, however long the ways are.
fn circles(networks: &Networks) -> HashSet<&NetworkId> {
    let (mut seen, mut circles) = (HashSet::new(), HashSet::new());
    for start in networks.keys() {
        let mut way = Vec::new();
        let mut here = Some(start);
        while let Some(id) = here.filter(|&id| seen.insert(id)) {
            way.push(id);
            here = networks.get(id).and_then(|given| given.value.network.via());
        }
        // What was seen before this way is a circle elsewhere, or none.
        let circle = here.and_then(|again| way.iter().position(|&id| id == again));
        circles.extend(circle.map_or(&[][..], |first| &way[first..]).iter().copied());
    }
    circles
}
