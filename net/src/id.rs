//! What an overlay network is called.

use frame_registry::{Id, IdKind};

/// The name of an overlay network: `namespace:name`.
///
/// ```
/// use frame_net::NetworkId;
///
/// let id: NetworkId = "app:tor".parse()?;
/// assert_eq!((id.namespace(), id.name()), ("app", "tor"));
///
/// let error = "tor".parse::<NetworkId>().unwrap_err();
/// assert_eq!(error.to_string(), "network id \"tor\" has no namespace; write `namespace:name`, such as `app:tor`");
/// # Ok::<(), frame_registry::IdError>(())
/// ```
pub type NetworkId = Id<NetworkKind>;

/// Says that an [`Id`] is the name of an overlay network.
#[derive(Debug)]
pub enum NetworkKind {}

impl IdKind for NetworkKind {
    const NOUN: &'static str = "network";
    const EXAMPLE: &'static str = "app:tor";
}
