//! How an app gets its networks.

use std::sync::Arc;

use frame_registry::{AppBuilder, AppError};

use crate::config::NetConfig;
use crate::direct::Direct;
use crate::driver::Drivers;
use crate::error::NetworkError;
use crate::network::NetworkId;
use crate::overlay::NETWORK;
use crate::registry::{DEFAULT, NETWORKS, NetworkRegistry};

/// Gives the app the networks of `config`, its default, and clearnet. The registry that is given back, and that
/// the app carries as [`NETWORKS`], takes further networks at any time.
///
/// The app's resolvers are set before this.
///
/// ```
/// use frame_net::{BootError, NetConfig};
/// use frame_registry::App;
///
/// let error = frame_net::boot(&mut App::builder(), NetConfig::default()).unwrap_err();
/// assert!(matches!(error, BootError::ResolversMissing));
/// ```
///
/// # Errors
///
/// [`BootError::Network`] if a network cannot be made from its configuration, else as [`install`].
pub fn boot(app: &mut AppBuilder, config: NetConfig) -> Result<NetworkRegistry, BootError> {
    boot_with(app, config, Drivers::standard())
}

/// [`boot`], with drivers of further kinds, or of fewer.
///
/// # Errors
///
/// As [`boot`].
pub fn boot_with(
    app: &mut AppBuilder,
    config: NetConfig,
    drivers: Drivers,
) -> Result<NetworkRegistry, BootError> {
    let clearnet = Arc::new(Direct::new(config.clearnet));
    let networks = NetworkRegistry::with_limits(clearnet, drivers, &config.limits);
    let built = config.networks.into_iter().map(|(id, network)| {
        let built = networks.build_registered(&id, &network)?;
        Ok((id, built))
    });
    let built = built.collect::<Result<Vec<_>, NetworkError>>()?;
    networks.register_all(&built)?;
    install(app, networks.clone(), config.default)?;
    Ok(networks)
}

/// Gives the app networks that are registered already: [`boot`] for those that no configuration describes.
///
/// # Errors
///
/// Where the app's default, or an option given for a call, would go unheeded: [`BootError::ResolversMissing`],
/// [`BootError::NotCovered`] and [`BootError::DefaultNotRegistered`]. [`BootError::App`] if the app has networks.
/// The app is then as it was.
pub fn install(
    app: &mut AppBuilder,
    networks: NetworkRegistry,
    default: Option<NetworkId>,
) -> Result<(), BootError> {
    let resolvers = app.resolvers().ok_or(BootError::ResolversMissing)?;
    let covers_network =
        |option: &_| std::ptr::eq::<frame_registry::DeclaredOption>(option, NETWORK.declared());
    if !resolvers.iter().any(|resolver| resolver.covers().into_iter().any(covers_network)) {
        return Err(BootError::NotCovered);
    }
    if let Some(id) = default.as_ref().filter(|&id| !networks.contains(id)) {
        return Err(BootError::DefaultNotRegistered { id: id.clone() });
    }
    app.set(&NETWORKS, networks)?;
    if let Some(id) = default {
        // Only this function sets it, and it got past the line above.
        app.set(&DEFAULT, Arc::new(id))?;
    }
    Ok(())
}

/// An app did not get its networks, and must not start.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// The app has no resolvers, so that no frame would get its network.
    #[error(
        "the app has no frame resolvers; call `set_resolvers(FrameResolvers::linked())` before `frame_net::boot`"
    )]
    ResolversMissing,
    /// None of the app's resolvers puts the network on frames.
    #[error(
        "no resolver of the app covers the option `network`, so that no frame would get its network; \
         use `FrameResolvers::linked()`, or register one that does"
    )]
    NotCovered,
    /// The default is none of the networks.
    #[error("the default network `{id}` is not registered; add it to `networks`, or leave the default out")]
    DefaultNotRegistered {
        /// The default.
        id: NetworkId,
    },
    /// A network of the configuration cannot be made.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The app has networks already.
    #[error("the app has networks already")]
    App(#[from] AppError),
}

#[cfg(test)]
mod tests {
    use frame_registry::{App, FrameResolvers};

    use super::*;
    use crate::registry::default_network;

    fn builder(resolvers: FrameResolvers) -> AppBuilder {
        let mut app = App::builder();
        app.set_resolvers(resolvers).unwrap();
        app
    }

    fn config(json: &str) -> NetConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn installs_the_networks_and_the_default() {
        let mut app = builder(FrameResolvers::linked());
        let json = r#"{ "default": "a:b", "networks": { "a:b": { "kind": "direct" }, "a:c": { "kind": "socks5", "proxy": "h:1" } } }"#;
        let networks = boot(&mut app, config(json)).unwrap();
        let app = app.build();
        assert_eq!(default_network(&app).unwrap().as_str(), "a:b");
        networks.unregister(&"a:b".parse().unwrap());
        let (networks, left) = (app.get(&NETWORKS).unwrap(), "a:c".parse().unwrap());
        assert_eq!(networks.kind(&left), Some("socks5"));
        assert_eq!(networks.ids(), [left]);
    }

    #[test]
    fn an_app_without_resolvers_is_refused() {
        let booted = boot(&mut App::builder(), NetConfig::default());
        assert!(matches!(booted, Err(BootError::ResolversMissing)));
    }

    #[test]
    fn resolvers_that_do_not_cover_the_option_are_refused() {
        let booted = boot(&mut builder(FrameResolvers::empty()), NetConfig::default());
        assert!(matches!(booted, Err(BootError::NotCovered)));
    }

    #[test]
    fn a_default_that_is_not_registered_is_refused() {
        let mut app = builder(FrameResolvers::linked());
        let booted = boot(&mut app, config(r#"{ "default": "a:b" }"#));
        assert!(matches!(booted, Err(BootError::DefaultNotRegistered { id }) if id.as_str() == "a:b"));
        assert!(app.get(&NETWORKS).is_none());
    }

    #[test]
    fn booting_twice_is_refused() {
        let mut app = builder(FrameResolvers::linked());
        boot(&mut app, NetConfig::default()).unwrap();
        assert!(matches!(boot(&mut app, NetConfig::default()), Err(BootError::App(_))));
    }
}
