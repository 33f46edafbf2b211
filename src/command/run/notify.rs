//! Telling the service manager how far the program is, where one has started it and wants to know: `Type=notify` and
//! `Type=notify-reload` of systemd.

/// The app runs, as its manifest says.
pub(super) fn ready() {
    send(ServiceState::Ready);
}

/// The app runs again as its manifest says.
pub(super) fn restored() {
    send(ServiceState::Restored);
}

/// The manifest is read again.
pub(super) fn reloading() {
    send(ServiceState::Reloading);
}

/// The app is not what its manifest says, and the reload that it is of is not done.
pub(super) fn degraded(how: &str) {
    send(ServiceState::Degraded(how));
}

/// The app is told to end.
pub(super) fn stopping() {
    send(ServiceState::Stopping);
}

#[derive(Clone, Copy)]
enum ServiceState<'a> {
    Ready,
    Restored,
    Reloading,
    Degraded(&'a str),
    Stopping,
}

#[cfg(target_os = "linux")]
fn send(state: ServiceState<'_>) {
    use sd_notify::{NotifyState, notify};

    // An empty name counts as not set, as for systemd's own `sd_notify`.
    if std::env::var_os("NOTIFY_SOCKET").is_none_or(|socket| socket.is_empty()) {
        return;
    }
    let sent = match state {
        ServiceState::Ready => notify(&[NotifyState::Ready]),
        ServiceState::Restored => notify(&[NotifyState::Ready, NotifyState::Status("ready")]),
        ServiceState::Degraded(how) => notify(&[NotifyState::Status(how)]),
        ServiceState::Reloading => {
            NotifyState::monotonic_usec_now().and_then(|since| notify(&[NotifyState::Reloading, since]))
        }
        ServiceState::Stopping => notify(&[NotifyState::Stopping]),
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// Nobody listens here.
#[cfg(not(target_os = "linux"))]
fn send(_: ServiceState<'_>) {}
