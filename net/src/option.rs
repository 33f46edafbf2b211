//! The option that chooses an overlay network, and the frame key that carries the choice.

use frame_registry::{FrameOption, Key, frame_key, frame_option};

use crate::id::NetworkId;

/// The overlay network that the frame's traffic goes through: `namespace:name`.
///
/// In text, whatever is no [`NetworkId`] is refused, an empty string included: a variable that was left empty does not
/// mean clearnet. Of a script or a component an empty string is as good as no option, so that it has the network that
/// it would have without.
///
/// ```
/// use frame_net::{NETWORK, NetworkId};
/// use frame_registry::Options;
/// use serde_json::json;
///
/// let error = Options::from_json(&json!({ "network": "" })).unwrap_err();
/// assert_eq!(error.to_string(), "option `network` is empty; leave it out, or give it a value");
/// assert!(Options::from_json(&json!({ "network": null })).is_err());
///
/// let preset = Options::from_json(&json!({ "network": "app:tor" }))?;
/// let call = Options::from_untrusted_json(&json!({ "network": "" }))?;
/// assert_eq!(preset.merged_under(&call).get(&NETWORK).unwrap().as_str(), "app:tor");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[frame_option(name = "network", empty_is_unset)]
pub static NETWORK: FrameOption<NetworkId>;

/// The overlay network of a frame; forks inherit it. A frame without one is on the app's default, or on clearnet.
#[frame_key(name = "net.overlay", propagates, inherit, public)]
pub static NETWORK_KEY: Key<NetworkId>;

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
        let error = Options::from_json(&json!({ "network": 3 })).unwrap_err();
        assert_eq!(error.to_string(), "option `network` is the number 3, which is not a `NetworkId`");
    }
}
