//! The option `spawn`: the hosts on which a unit may start processes.
//!
//! A script or a component may start processes on its own host: that of the process that it is, or that it is called by. On
//! every other it may only where the manifest, the command line or native code grants it, by [`SPAWN`]. What it calls and
//! starts inherits the grant. So a script that is not trusted fills its own host at most, however it starts what it starts.
//!
//! Trusted code sets the hosts anew, also where the caller has others. Scripts and components can only pass on what they have,
//! or less; and they cannot put anything in the place of what is preset.
//!
//! ```standalone_crate
//! use frame_dispatch::process::SPAWN_KEY;
//! use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, Options, ResolveContext};
//! use serde_json::json;
//!
//! let mut app = App::builder();
//! app.set_resolvers(FrameResolvers::linked())?;
//! let app = app.build();
//!
//! let frame = |parent: Option<&Frame>, options: &Options| {
//!     let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
//!     app.resolvers().resolve(&ResolveContext::new(&app, parent), options, frame.pairs_mut())?;
//!     Ok::<_, frame_registry::ResolveError>(frame.seal())
//! };
//! let granted = frame(None, &Options::from_json(&json!({ "spawn": ["app:workers", "app:mail"] }))?)?;
//! assert!(granted.get(&SPAWN_KEY).unwrap().contains(&"app:mail".parse()?));
//!
//! // A script gives what it calls less, and no more.
//! let script = |hosts| Options::from_json(&json!({ "spawn": hosts })).map(Options::untrusted);
//! let narrowed = frame(Some(&granted), &script(json!(["app:workers"]))?)?;
//! assert!(!narrowed.get(&SPAWN_KEY).unwrap().contains(&"app:mail".parse()?));
//! assert!(frame(Some(&narrowed), &script(json!(["app:mail"]))?).is_err());
//! # use frame_runtime as _;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use frame_dispatch::process::{HostId, SPAWN_KEY, SpawnHosts};
use frame_registry::{FrameOption, Options, Pair, ResolveContext, frame_option, frame_resolver};

/// The hosts on which a unit may start processes, beside its own: a list such as `["app:workers"]`.
///
/// See [the module](self). An empty list grants none.
#[frame_option(name = "spawn")]
pub static SPAWN: FrameOption<SpawnHosts>;

/// Puts the hosts of the option on the frame, or else those of the parent's frame.
///
/// What the parent's frame carries is added again, so that it holds also where the new frame is no fork of it.
///
/// # Errors
///
/// [`SpawnError`] if a script or a component asks for more than it has.
#[frame_resolver(order = 310, covers(SPAWN))]
fn spawn(ctx: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, SpawnError> {
    let held = || ctx.parent().and_then(|parent| parent.pair(&SPAWN_KEY));
    let Some(wanted) = options.get(&SPAWN) else {
        return Ok(held().cloned());
    };
    if options.replaces_trusted(&SPAWN) {
        return Err(SpawnError::Preset);
    }
    if !options.is_trusted(&SPAWN) {
        let held = ctx.parent().and_then(|parent| parent.get(&SPAWN_KEY));
        let is_held = |host: &&HostId| held.is_some_and(|held| held.contains(host));
        if let Some(host) = wanted.iter().find(|host| !is_held(host)) {
            return Err(SpawnError::NotGranted { host: host.clone() });
        }
    }
    Ok(Some(SPAWN_KEY.pair(wanted.clone())))
}

/// A frame did not get its hosts, so what it was for does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// A script or a component grants what it was not granted.
    #[error(
        "the caller is not granted the host `{host}`, so it cannot pass it on; set `spawn` in the manifest"
    )]
    NotGranted {
        /// The host.
        host: HostId,
    },
    /// A script or a component would replace what is preset.
    #[error(
        "`spawn` is preset for what was called, and is not for scripts and components to replace; leave it out"
    )]
    Preset,
}

#[cfg(test)]
mod tests {
    use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, ResolveError};
    use serde_json::json;

    use super::*;

    fn options(hosts: &[&str]) -> Options {
        Options::from_json(&json!({ "spawn": hosts })).unwrap()
    }

    fn frame(parent: Option<&Frame>, options: &Options) -> Result<Frame, ResolveError> {
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        let app = app.build();
        let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
        app.resolvers().resolve(&ResolveContext::new(&app, parent), options, frame.pairs_mut())?;
        Ok(frame.seal())
    }

    fn hosts(frame: &Frame) -> Vec<String> {
        frame.get(&SPAWN_KEY).into_iter().flat_map(SpawnHosts::iter).map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_granted_is_inherited_and_set_anew_by_trusted_code() {
        let parent = frame(None, &options(&["app:b", "app:a"])).unwrap();
        assert_eq!(hosts(&parent), ["app:a", "app:b"]);
        assert_eq!(hosts(&frame(Some(&parent), &Options::new()).unwrap()), ["app:a", "app:b"]);
        assert_eq!(hosts(&frame(Some(&parent), &options(&["app:c"])).unwrap()), ["app:c"]);
        assert_eq!(hosts(&frame(None, &Options::new()).unwrap()), [""; 0]);
    }

    #[test]
    fn code_that_is_not_trusted_passes_on_what_it_has_or_less() {
        let parent = frame(None, &options(&["app:a", "app:b"])).unwrap();
        for (less, expected) in [(&["app:b"][..], &["app:b"][..]), (&[], &[])] {
            let narrowed = frame(Some(&parent), &options(less).untrusted()).unwrap();
            assert_eq!(hosts(&narrowed), expected);
        }
        for more in [&["app:c"][..], &["app:a", "app:c"]] {
            let error = frame(Some(&parent), &options(more).untrusted()).unwrap_err();
            assert!(error.to_string().contains("spawn"), "{error}");
        }
        assert!(frame(None, &options(&["app:a"]).untrusted()).is_err());
    }

    #[test]
    fn code_that_is_not_trusted_replaces_no_preset() {
        let parent = frame(None, &options(&["app:a"])).unwrap();
        let merged = options(&["app:b"]).merged_under(&options(&["app:a"]).untrusted());
        assert!(frame(Some(&parent), &merged).is_err());
    }

    #[test]
    fn what_is_not_a_list_of_hosts_says_what_one_is() {
        for wrong in [json!("app:a"), json!({ "app:a": true }), json!(7)] {
            let error = Options::from_json(&json!({ "spawn": wrong })).unwrap_err();
            let causes = crate::report::chain(&error);
            assert!(causes.contains("a list of hosts, such as [\"app:workers\"]"), "{causes}");
        }
        assert!(Options::from_json(&json!({ "spawn": ["nowhere"] })).is_err());
    }
}
