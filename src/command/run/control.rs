//! The socket that `frame ps` asks.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::task::JoinSet;

use crate::app::RunningApp;
use crate::control::{BindError, ControlHandle, Place, Server};

/// Serves the socket, until what is given back is dropped: the one that was asked for, or else that of the manifest. Without
/// the latter an app runs all the same, but nobody can ask what it does.
///
/// # Errors
///
/// If another run has the socket, or the one that was asked for cannot be used.
pub(super) fn serve(
    asked: Option<&Path>,
    manifest: &Path,
    name: String,
    app: &RunningApp,
) -> Result<JoinSet<()>, BindError> {
    let mut serving = JoinSet::new();
    let canonical = manifest.canonicalize().unwrap_or_else(|_| PathBuf::from(manifest));
    let place = match asked {
        Some(path) => Place::At(path.to_owned()),
        None => Place::OfManifest(canonical.clone()),
    };
    let (started, processes) = (Instant::now(), app.processes().clone());
    let (quarantines, health) = (app.quarantines(), app.health());
    let handle = ControlHandle { app: name, manifest: canonical, started, processes, quarantines, health };
    match Server::bind(&place, handle) {
        Ok(server) => {
            tracing::debug!(socket = %server.socket().display(), "`frame ps` can ask");
            serving.spawn(async move { match server.serve().await {} });
        }
        Err(error @ BindError::Io { .. }) if asked.is_none() => {
            tracing::warn!("`frame ps` cannot ask what runs: {}", crate::report::chain(&error));
        }
        Err(error) => return Err(error),
    }
    Ok(serving)
}
