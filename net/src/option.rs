//! The option that chooses an overlay network, and the frame key that carries the choice.

use std::str::FromStr;
use std::sync::Arc;

use frame_registry::{FrameOption, IdError, Key, frame_option};
use serde::Deserialize;

use crate::id::NetworkId;

/// The overlay network that the frame's traffic goes through: `namespace:name`. An empty string is as good as no
/// option.
#[frame_option(name = "network")]
pub static NETWORK: FrameOption<NetworkChoice>;

/// The overlay network of a frame; forks inherit it. A frame without one is on the app's default, or on clearnet.
pub static OVERLAY: Key<NetworkId> = Key::new("net.overlay").inherit();

/// The value of [`NETWORK`]: a network, or nothing.
///
/// In text it is a string, and an empty one is [`NOT_GIVEN`](Self::NOT_GIVEN), as a form field or an environment
/// variable that was left empty. Anything else that is no [`NetworkId`] is refused.
///
/// ```
/// use frame_net::{NETWORK, NetworkChoice, NetworkId};
/// use frame_registry::Options;
/// use serde_json::json;
///
/// let id: NetworkId = "app:tor".parse()?;
/// let options = Options::new().with(&NETWORK, id.clone().into());
/// assert_eq!(options.get(&NETWORK).and_then(NetworkChoice::id), Some(&id));
///
/// let options = Options::from_json(&json!({ "network": "" }))?;
/// assert_eq!(options.get(&NETWORK), Some(&NetworkChoice::NOT_GIVEN));
///
/// assert!(Options::from_json(&json!({ "network": null })).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct NetworkChoice(Option<Arc<NetworkId>>);

impl NetworkChoice {
    /// No network: what decides is what would decide without the option.
    pub const NOT_GIVEN: Self = Self(None);

    /// The network, if one is given.
    pub fn id(&self) -> Option<&NetworkId> {
        self.0.as_deref()
    }

    /// The network as the value of a frame's pair, which then costs no allocation.
    pub(crate) fn shared(&self) -> Option<&Arc<NetworkId>> {
        self.0.as_ref()
    }
}

impl From<NetworkId> for NetworkChoice {
    fn from(id: NetworkId) -> Self {
        Self(Some(Arc::new(id)))
    }
}

impl FromStr for NetworkChoice {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() { Ok(Self::NOT_GIVEN) } else { text.parse().map(NetworkId::into) }
    }
}

impl TryFrom<String> for NetworkChoice {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use frame_registry::{OptionError, Options};
    use serde_json::json;

    #[test]
    fn anything_but_an_id_or_an_empty_string_is_refused() {
        for given in
            [json!(null), json!(3), json!(["app:tor"]), json!({}), json!(true), json!("tor"), json!(" ")]
        {
            let error = Options::from_json(&json!({ "network": given })).unwrap_err();
            assert!(matches!(error, OptionError::WrongType { option: "network", .. }), "{given}");
        }
    }
}
