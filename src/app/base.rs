//! What everything else of an app stands on: its values, its resolvers and its networks.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use frame_net::audit::{AUDIT, Audit};
use frame_net::secrets::{SECRET_STORE, SecretStore, StoredSecret};
use frame_net::{
    BootError, BoxFuture, BoxStream, Cause, Direct, DriverError, DriverStep, Endpoint, IsolationKey,
    NetConfig, Network, NetworkChanges, NetworkRegistry, UNIT_OF,
};
use frame_registry::{App, AppBuilder, Frame, FrameBuilder, FrameResolvers, Options, ResolveContext};

use crate::audit::{AuditConfig, AuditLog};
use crate::fs_root::{FS_BASE, Root};
use crate::manifest::{Given, Manifest, Problem};
use crate::modules::units::unit_of;
use crate::report;

/// The app of a manifest, its networks still to be registered.
pub(crate) fn of(
    manifest: &Manifest,
    secrets: SecretStore,
    audit: Option<&AuditLog>,
) -> Result<(App, NetworkRegistry), Problem> {
    let config = NetConfig::default().with_clearnet(manifest.clearnet.clone());
    let config = config.with_limits(manifest.limits.clone());
    let mut app = builder(manifest, secrets)?;
    if let Some(audit) = audit {
        let log: Arc<dyn Audit> = Arc::new(audit.clone());
        app.set(&AUDIT, log).map_err(|error| unbootable(manifest, &error.into()))?;
    }
    let networks = frame_net::boot(&mut app, config).map_err(|error| unbootable(manifest, &error))?;
    Ok((app.build(), networks))
}

/// Opens the audit log, if there is to be one.
pub(crate) fn audit_log(manifest: &Manifest) -> Result<Option<AuditLog>, Problem> {
    let Some(audit) = &manifest.audit else { return Ok(None) };
    let opened = AuditLog::open(&audit.value, &manifest.app.name);
    opened.map(Some).map_err(|error| unwritable(manifest, audit, &error))
}

/// Returns the problem that no user can write the audit log, without opening it.
pub(crate) fn audit_problem(manifest: &Manifest) -> Option<Problem> {
    let audit = manifest.audit.as_ref()?;
    audit.value.check_kind().err().map(|error| unwritable(manifest, audit, &error))
}

fn unwritable(manifest: &Manifest, audit: &Given<AuditConfig>, error: &io::Error) -> Problem {
    let why = format!("the audit log `{}` cannot be written: {error}", audit.value.file.display());
    Problem::new(&manifest.file, audit.span.clone(), why)
        .with_help("nothing runs without it; name a file that this user can write, or take `[audit]` out")
}

/// Warns of an audit log that this user cannot write. Another user may run the app.
pub(crate) fn audit_warning(manifest: &Manifest) -> Option<Problem> {
    let audit = manifest.audit.as_ref()?;
    let error = audit.value.check_writable().err()?;
    let why = format!("this user cannot write the audit log `{}`: {error}", audit.value.file.display());
    let problem = Problem::new(&manifest.file, audit.span.clone(), why);
    Some(problem.with_help("the app does not start as a user who cannot write it"))
}

/// Builds an app to check frames with. Its networks refuse every connection, so they need no sockets and no tasks.
pub(crate) fn dry_run_app(manifest: &Manifest) -> Result<App, Problem> {
    let networks = NetworkRegistry::new(Arc::new(Direct::new(manifest.clearnet.clone())));
    let mut changes = NetworkChanges::default();
    for (id, network) in &manifest.networks {
        changes.insert(id.clone(), Arc::new(DryRunNetwork), network.value.is_selectable());
    }
    networks.apply(changes).map_err(|error| unbootable(manifest, &error.into()))?;
    // A frame has the ids of secrets, and this one sends nothing.
    let secrets = manifest.secrets.keys().map(|id| Ok((id.clone(), StoredSecret::new("no such value", [])?)));
    let secrets = secrets
        .collect::<Result<_, frame_net::secrets::SecretValueError>>()
        .map_err(|error| Problem::new(&manifest.file, 0..0, error))?;
    let mut app = builder(manifest, secrets)?;
    frame_net::install(&mut app, networks, None).map_err(|error| unbootable(manifest, &error))?;
    Ok(app.build())
}

/// Stands for a network of which only the id counts.
struct DryRunNetwork;

impl Network for DryRunNetwork {
    fn kind(&self) -> &'static str {
        "dry-run"
    }

    fn connect<'a>(
        &'a self,
        to: &'a Endpoint,
        _: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        let refused = Cause::NotSupported { kind: self.kind(), what: "connecting" };
        Box::pin(async move { Err(DriverError::new(DriverStep::Connect, to, refused)) })
    }
}

/// With all that the app carries beside its networks.
fn builder(manifest: &Manifest, secrets: SecretStore) -> Result<AppBuilder, Problem> {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).map_err(|error| unbootable(manifest, &error.into()))?;
    app.set(&SECRET_STORE, secrets).map_err(|error| unbootable(manifest, &error.into()))?;
    app.set(&UNIT_OF, unit_of).map_err(|error| unbootable(manifest, &error.into()))?;
    if let Some(base) = &manifest.base {
        let wrong = |why: String| Problem::new(&manifest.file, base.span.clone(), why);
        let root = Root::open(&base.value)
            .map_err(|error| wrong(format!("`{}` cannot be opened: {error}", base.value.display())))?;
        app.set(&FS_BASE, root).map_err(|error| wrong(report::chain(&error)))?;
    }
    Ok(app)
}

fn unbootable(manifest: &Manifest, error: &BootError) -> Problem {
    Problem::new(&manifest.file, 0..0, report::chain(error))
}

/// The frame that `options` make of `parent`.
///
/// # Errors
///
/// Why a resolver refuses.
pub(crate) fn resolve(app: &App, parent: Option<&Frame>, options: &Options) -> Result<Frame, String> {
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
