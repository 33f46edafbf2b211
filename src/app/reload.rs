//! Turning an app that runs into what another manifest says.

use std::time::Duration;

use frame_net::http::HttpClient;

use super::changes::Changes;
use super::compile::{Purpose, compile};
use super::live::{Core, Live, http_client};
use super::plan::Plan;
use super::regroup::regroup;
use crate::manifest::{Manifest, Problem, Problems};

/// An app was not made what a manifest says.
pub(super) struct NotReloaded {
    /// All that is wrong.
    pub(super) problems: Problems,
    /// Why it was not put back either, if it was not.
    pub(super) not_restored: Option<Problem>,
}

impl From<Vec<Problem>> for NotReloaded {
    fn from(problems: Vec<Problem>) -> Self {
        Self { problems: Problems::new(problems), not_restored: None }
    }
}

/// Makes the app what `manifest` says, and returns the plan of that and what changed. Returns `None`, and has changed nothing, if
/// `superseded` was done before everything was compiled.
///
/// # Errors
///
/// All that is wrong. The app is then what `old` says, unless it could not be put back.
pub(super) async fn reload(
    core: &Core,
    live: &mut Live,
    (before, old): (&Manifest, &Plan),
    manifest: &Manifest,
    grace: Duration,
    superseded: impl Future<Output = ()>,
) -> Result<Option<(Plan, Changes)>, NotReloaded> {
    // Whatever can be wrong is to be known before anything changes.
    let mut problems = unchangeable(before, manifest);
    let http = http_client(manifest).map_err(|problem| problems.push(problem));
    let compiled = tokio::select! {
        biased;
        compiled = compile(manifest, &core.networks, &core.engines, Some(old), Purpose::Run) => compiled,
        () = superseded => return Ok(None),
    };
    let new = match compiled {
        Ok(new) if problems.is_empty() => new,
        Ok(_) => return Err(problems.into()),
        Err(more) => {
            let mut refused = NotReloaded::from(problems);
            refused.problems.append(more);
            return Err(refused);
        }
    };
    let client = &core.engines.http;
    // The files that it names may be others while it says the same.
    let is_other = |http: &HttpClient| {
        before.http_identity != manifest.http_identity || !client.has_same_certificates(http)
    };
    let before = http.ok().filter(is_other).map(|http| client.switch_to(&http));
    match become_as(core, live, &new, grace).await {
        Ok(restarted) => {
            live.sweep(core, &new, grace).await;
            let changes = Changes { http: before.is_some(), ..Changes::between(old, &new, restarted) };
            Ok(Some((new, changes)))
        }
        Err(problem) => {
            if let Some(before) = before {
                drop(client.switch_to(&before));
            }
            let mut refused = NotReloaded::from(vec![problem]);
            refused.not_restored = restore(core, live, old, grace).await.err();
            if let Some(problem) = refused.not_restored.clone() {
                let why = format!("the app is not what it was before this reload: {}", problem.message);
                refused.problems.push(Problem { message: why, ..problem });
            }
            Err(refused)
        }
    }
}

/// Makes the app what `plan` says, from whatever it is after a reload that failed.
pub(super) async fn restore(
    core: &Core,
    live: &mut Live,
    plan: &Plan,
    grace: Duration,
) -> Result<(), Problem> {
    let restored = become_as(core, live, plan, grace).await;
    live.sweep(core, plan, grace).await;
    restored.map(drop)
}

/// Puts everything of the plan in its place, new versions before old ones are asked to end; gives what was restarted for that.
async fn become_as(
    core: &Core,
    live: &mut Live,
    plan: &Plan,
    grace: Duration,
) -> Result<Vec<String>, Problem> {
    let is_root_new = live.put(core, plan)?;
    regroup(core, live, plan, is_root_new, grace).await
}

/// What is different and cannot be in an app that runs.
fn unchangeable(before: &Manifest, manifest: &Manifest) -> Vec<Problem> {
    let file = &manifest.file;
    let refused = |path: &[&str], what: String| {
        let span = manifest.layout.whole(path).unwrap_or_default();
        Problem::new(file, span, format!("{what} cannot change while the app runs"))
    };
    let mut problems = Vec::new();
    let base = |manifest: &Manifest| manifest.base.as_ref().map(|base| base.identity.clone());
    let audit = |manifest: &Manifest| manifest.audit.as_ref().map(|audit| audit.identity.clone());
    // What they say is read when an app is booted, and is part of values that are written once.
    let written_once = [
        ("clearnet", before.clearnet != manifest.clearnet),
        ("limits", before.limits != manifest.limits),
        ("fs", base(before) != base(manifest)),
        ("audit", audit(before) != audit(manifest)),
        ("telemetry", before.otlp != manifest.otlp),
        #[cfg(feature = "wasm")]
        ("wasm", before.wasm != manifest.wasm),
    ];
    for (name, _) in written_once.into_iter().filter(|(_, is_other)| *is_other) {
        let help = "put back what it was, or restart the app";
        problems.push(refused(&[name], format!("`[{name}]`")).with_help(help));
    }
    if before.app.name != manifest.app.name {
        let help = format!("put back `{}`, or restart the app", before.app.name);
        problems.push(refused(&["app", "name"], "the name of the app".to_owned()).with_help(help));
    }
    if before.app.functions != manifest.app.functions {
        let help = format!("put back {}, or restart the app", before.app.functions.max_depth);
        problems.push(refused(&["app", "max_depth"], "`max_depth`".to_owned()).with_help(help));
    }
    for (id, host) in &manifest.hosts {
        if before.hosts.get(id).is_some_and(|before| before.identity != host.identity) {
            let help = "put back what it was, give the host another id, so that what lives there moves, or restart the app";
            problems.push(refused(&["hosts", id.as_str()], format!("the host `{id}`")).with_help(help));
        }
    }
    problems
}
