//! The secrets of an app: reading their values, and finding those that no unit may use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use frame_net::secrets::{SecretConfig, SecretSourceError, StoredSecret};
use frame_net::{SECRETS, SecretId};
use frame_registry::Options;
use tokio::task::spawn_blocking;

use crate::manifest::{Given, Manifest, Problem};
use crate::report;

/// Secrets with their values, by id.
pub(super) type Secrets = BTreeMap<SecretId, Arc<StoredSecret>>;

/// Reads the values of all secrets, and says what is wrong with those that cannot be read.
pub(super) async fn load(manifest: &Manifest) -> (Secrets, Vec<Problem>) {
    let (mut secrets, mut problems) = (Secrets::new(), Vec::new());
    if manifest.secrets.is_empty() {
        return (secrets, problems);
    }
    let directory = manifest.directory.clone();
    let configs: Vec<_> =
        manifest.secrets.iter().map(|(id, given)| (id.clone(), given.value.clone())).collect();
    let read = move |(id, config): (SecretId, SecretConfig)| (id, config.load(&directory));
    // A file may be on another machine.
    let loaded = spawn_blocking(move || configs.into_iter().map(read).collect::<Vec<_>>()).await;
    let loaded = loaded.unwrap_or_else(|error| {
        problems.push(Problem::new(&manifest.file, 0..0, format_args!("secrets were not read: {error}")));
        Vec::new()
    });
    for (id, loaded) in loaded {
        match loaded {
            Ok(secret) => _ = secrets.insert(id, Arc::new(secret)),
            Err(error) => problems.push(unreadable(manifest, &id, &error)),
        }
    }
    (secrets, problems)
}

fn unreadable(manifest: &Manifest, id: &SecretId, error: &SecretSourceError) -> Problem {
    let span = manifest.layout.whole(&["secrets", id.as_str(), error.setting()]).unwrap_or_default();
    Problem::new(&manifest.file, span, format_args!("secret `{id}`: {}", report::chain(error)))
}

/// What is not wrong, and most likely not meant: files that others can read, and secrets that no unit may use.
pub(super) fn warnings(manifest: &Manifest, secrets: &Secrets) -> Vec<Problem> {
    let granted = granted(manifest);
    let mut warnings = Vec::new();
    for (id, Given { span, .. }) in &manifest.secrets {
        if !granted.contains(id) {
            let why = format_args!("no unit may use the secret `{id}`");
            let problem = Problem::new(&manifest.file, span.clone(), why);
            warnings.push(problem.with_help(format_args!(
                "add `secrets = [\"{id}\"]` to the options of the functions and processes that use it"
            )));
        }
        if let Some(remark) = secrets.get(id).and_then(|secret| secret.remark()) {
            let span = manifest.layout.whole(&["secrets", id.as_str(), "file"]).unwrap_or_default();
            warnings.push(Problem::new(&manifest.file, span, remark));
        }
    }
    warnings
}

/// The secrets that some options of the manifest grant.
fn granted(manifest: &Manifest) -> BTreeSet<&SecretId> {
    let functions = manifest.functions.values().chain(manifest.processes.values());
    let children = manifest.supervisors.values().flat_map(|given| given.value.all_children());
    let options = std::iter::once(&manifest.app.options)
        .chain(functions.map(|given| &given.value.options))
        .chain(children.map(|given| &given.value.options));
    options.filter_map(|options: &Options| options.get(&SECRETS)).flat_map(|ids| ids.iter()).collect()
}

/// Secrets that options grant and that there are not.
pub(super) fn unknown<'a>(manifest: &Manifest, options: &'a Options) -> Option<&'a SecretId> {
    options.get(&SECRETS)?.iter().find(|id| !manifest.secrets.contains_key(*id))
}
