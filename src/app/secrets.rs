//! The secrets of an app: reading their values, and finding those that no unit may use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use frame_net::secrets::{SecretConfig, SecretHost, SecretIds, SecretSourceError, StoredSecret};
use frame_net::{Egress, Endpoint, SECRETS, SECRETS_KEY, SecretId};
use frame_registry::{App, Frame, Options};
use tokio::task::spawn_blocking;

use crate::manifest::{Given, Manifest, Problem};
use crate::report;

/// Secrets with their values, by id.
pub(crate) type Secrets = BTreeMap<SecretId, Arc<StoredSecret>>;

/// Reads the values of all secrets, and says what is wrong with those that cannot be read.
pub(crate) async fn load(manifest: &Manifest) -> (Secrets, Vec<Problem>) {
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

/// A unit that has secrets, and where it may connect.
pub(crate) struct Holder {
    secrets: SecretIds,
    egress: Option<Egress>,
}

impl Holder {
    /// The unit of `frame`, if it has secrets.
    pub(crate) fn of(frame: &Frame, app: &App) -> Option<Self> {
        let secrets = frame.get(&SECRETS_KEY)?.clone();
        let egress = frame_net::dialer(frame, app).ok()?.egress().cloned();
        Some(Self { secrets, egress })
    }

    fn can_reach(&self, to: &Endpoint) -> bool {
        self.egress.as_ref().is_none_or(|egress| egress.check(to).is_allowed())
    }
}

/// What is not wrong, and most likely not meant: files that others can read, secrets that no unit may use, and hosts of
/// secrets that no unit can reach that has these.
pub(crate) fn warnings(manifest: &Manifest, secrets: &Secrets, holders: &[Holder]) -> Vec<Problem> {
    let granted = granted(manifest);
    let mut warnings = Vec::new();
    for (id, Given { span, value, .. }) in &manifest.secrets {
        let place = |setting| manifest.layout.whole(&["secrets", id.as_str(), setting]).unwrap_or_default();
        let holders: Vec<_> = holders.iter().filter(|holder| holder.secrets.contains(id)).collect();
        for to in value.hosts().iter().filter_map(SecretHost::endpoint) {
            if !holders.is_empty() && !holders.iter().any(|holder| holder.can_reach(&to)) {
                let why = format_args!(
                    "no unit that may use the secret `{id}` can reach {to}: `egress` does not allow it"
                );
                warnings.push(Problem::new(&manifest.file, place("hosts"), why));
            }
        }
        if !granted.contains(id) {
            let why = format_args!("no unit may use the secret `{id}`");
            let problem = Problem::new(&manifest.file, span.clone(), why);
            warnings.push(problem.with_help(format_args!(
                "add `secrets = [\"{id}\"]` to the options of the functions and processes that use it"
            )));
        }
        if let Some(remark) = secrets.get(id).and_then(|secret| secret.remark()) {
            warnings.push(Problem::new(&manifest.file, place("file"), remark));
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
    options.filter_map(|options: &Options| options.get(&SECRETS)).flat_map(SecretIds::iter).collect()
}

/// Secrets that options grant and that there are not.
pub(crate) fn unknown<'a>(manifest: &Manifest, options: &'a Options) -> Option<&'a SecretId> {
    options.get(&SECRETS)?.iter().find(|id| !manifest.secrets.contains_key(*id))
}
