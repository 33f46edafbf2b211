//! Telling the service manager how far the program is, where one has started it and wants to know: `Type=notify` and
//! `Type=notify-reload` of systemd.

/// The app runs, as its manifest says.
pub(super) fn ready() {
    send(State::Ready);
}

/// The manifest is read again.
pub(super) fn reloading() {
    send(State::Reloading);
}

/// The app is told to end.
pub(super) fn stopping() {
    send(State::Stopping);
}

#[derive(Clone, Copy)]
enum State {
    Ready,
    Reloading,
    Stopping,
}

#[cfg(target_os = "linux")]
fn send(state: State) {
    use sd_notify::{NotifyState, notify};

    let sent = match state {
        State::Ready => notify(&[NotifyState::Ready]),
        State::Reloading => {
            NotifyState::monotonic_usec_now().and_then(|since| notify(&[NotifyState::Reloading, since]))
        }
        State::Stopping => notify(&[NotifyState::Stopping]),
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// Nobody listens here.
#[cfg(not(target_os = "linux"))]
fn send(_: State) {}
