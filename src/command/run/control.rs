//! The socket that `frame ps` asks.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::app::RunningApp;
use crate::control::{BindError, ControlAddress, ControlHandle, Server};
use crate::report;

/// The task that serves the socket. Dropped, it ends soon after, and the socket is removed.
pub(super) struct Control {
    serving: JoinSet<()>,
    renewals: mpsc::Sender<oneshot::Sender<Vec<PathBuf>>>,
    files: Vec<PathBuf>,
}

/// Serves the socket: the one that was asked for, or else that of the manifest. Without the latter an app runs all the same,
/// but cannot be asked what it does.
///
/// # Errors
///
/// If another run has the socket, or the one that was asked for cannot be used.
pub(super) fn serve(
    asked: Option<&Path>,
    manifest: &Path,
    name: String,
    app: &RunningApp,
) -> Result<Control, BindError> {
    let mut serving = JoinSet::new();
    let canonical = manifest.canonicalize().unwrap_or_else(|_| PathBuf::from(manifest));
    let place = match asked {
        Some(path) => ControlAddress::At(path.to_owned()),
        None => ControlAddress::OfManifest(canonical.clone()),
    };
    let (started, processes) = (Instant::now(), app.processes().clone());
    let (quarantines, health) = (app.quarantines(), app.health());
    let handle = ControlHandle { app: name, manifest: canonical, started, processes, quarantines, health };
    let (renewals, renew) = mpsc::channel(1);
    let mut files = Vec::new();
    match Server::bind(place, handle) {
        Ok(server) => {
            tracing::debug!(socket = server.shown(), "`frame ps` can ask");
            files = server.files();
            serving.spawn(attend(server, renew));
        }
        Err(error @ BindError::Io { .. }) if asked.is_none() => unreachable_for_ps(&error),
        Err(error) => return Err(error),
    }
    Ok(Control { serving, renewals, files })
}

impl Control {
    /// Returns the files that a process leaves which ends without [`shutdown`](Self::shutdown).
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    /// Makes the socket again if it was removed.
    pub(super) async fn renew(&mut self) {
        let (renewed, files) = oneshot::channel();
        if self.renewals.send(renewed).await.is_ok()
            && let Ok(files) = files.await
        {
            self.files = files;
        }
    }

    /// Removes the socket.
    pub(super) async fn shutdown(mut self) {
        self.serving.shutdown().await;
    }
}

async fn attend(mut server: Server, mut renew: mpsc::Receiver<oneshot::Sender<Vec<PathBuf>>>) {
    loop {
        let renewed = tokio::select! {
            never = server.serve() => match never {},
            renewed = renew.recv() => renewed,
        };
        let Some(renewed) = renewed else { return };
        match server.renew() {
            Ok(true) => {
                tracing::warn!(socket = server.shown(), "the control socket was removed, and made again");
            }
            Ok(false) => (),
            Err(error) => unreachable_for_ps(&error),
        }
        // If it is not waited for, there is no reload any more.
        let _ = renewed.send(server.files());
    }
}

fn unreachable_for_ps(error: &BindError) {
    tracing::warn!("`frame ps` cannot ask what runs: {}", report::chain(error));
}
