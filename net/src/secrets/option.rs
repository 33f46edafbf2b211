//! The option `secrets`: which secrets the requests of a unit may carry.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use frame_registry::{
    FrameOption, Id, IdKind, Key, Options, Pair, ResolveContext, frame_key, frame_option, frame_resolver,
    text,
};
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::store::SECRET_STORE;

/// The name of a secret: `namespace:name`.
///
/// ```
/// use frame_net::SecretId;
///
/// let id: SecretId = "app:stripe".parse()?;
/// assert_eq!((id.namespace(), id.name()), ("app", "stripe"));
/// # Ok::<(), frame_registry::IdError>(())
/// ```
pub type SecretId = Id<SecretKind>;

/// Says that an [`Id`] is the name of a secret.
#[derive(Debug)]
pub enum SecretKind {}

impl IdKind for SecretKind {
    const NOUN: &'static str = "secret";
    const EXAMPLE: &'static str = "app:stripe";
}

/// The secrets that the requests of a unit may carry: a list of ids, such as `["app:stripe"]`.
///
/// Trusted code sets the list anew. Scripts and components pass on what they have, or less. An empty list grants none.
/// See [`crate::secrets`].
///
/// ```
/// use frame_net::SECRETS;
/// use frame_registry::Options;
/// use serde_json::json;
///
/// let options = Options::from_json(&json!({ "secrets": ["app:stripe"] }))?;
/// assert!(options.get(&SECRETS).unwrap().contains(&"app:stripe".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[frame_option(name = "secrets")]
pub static SECRETS: FrameOption<SecretIds>;

/// The ids of the secrets of a frame; forks inherit it. A frame without it has none.
///
/// It holds names and never values. Scripts and components can read it.
#[frame_key(name = "net.secrets", propagates, inherit, public)]
pub static SECRETS_KEY: Key<SecretIds>;

/// Ids of secrets: the value of [`SECRETS`] and [`SECRETS_KEY`]. As data it is a list. An empty map is an empty list,
/// because in Lua they are the same; so it is read from formats that describe themselves. Cloning it is one reference count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretIds(Arc<BTreeSet<SecretId>>);

impl SecretIds {
    /// Returns whether `id` is one of them.
    pub fn contains(&self, id: &SecretId) -> bool {
        self.0.contains(id)
    }

    /// The ids, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &SecretId> {
        self.0.iter()
    }
}

impl FromIterator<SecretId> for SecretIds {
    fn from_iter<I: IntoIterator<Item = SecretId>>(ids: I) -> Self {
        Self(Arc::new(ids.into_iter().collect()))
    }
}

impl Serialize for SecretIds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for SecretIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = SecretIds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of secrets, such as [\"app:stripe\"]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<SecretIds, A::Error> {
                let mut ids = BTreeSet::new();
                while let Some(id) = list.next_element()? {
                    ids.insert(id);
                }
                Ok(SecretIds(Arc::new(ids)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretIds, A::Error> {
                match map.next_key::<IgnoredAny>()? {
                    None => Ok(SecretIds::default()),
                    Some(_) => Err(A::Error::invalid_type(Unexpected::Map, &self)),
                }
            }
        }

        deserializer.deserialize_any(List)
    }
}

/// Puts the secrets of the option on the frame, or else those of the parent's frame.
///
/// What the parent's frame carries is added again, so that it also holds if the new frame was not forked from it.
///
/// # Errors
///
/// [`SecretGrantError`] if untrusted code asks for more than it has, and if the app has no secret of an id.
#[frame_resolver(order = 230, covers(SECRETS))]
pub fn secrets(ctx: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, SecretGrantError> {
    let held = ctx.parent().and_then(|parent| parent.pair(&SECRETS_KEY));
    let Some(wanted) = options.get(&SECRETS) else {
        return Ok(held.cloned());
    };
    if options.replaces_trusted(&SECRETS) {
        return Err(SecretGrantError::Preset);
    }
    if options.is_trusted(&SECRETS) {
        check_known(ctx, wanted)?;
    } else {
        // Whether the app has a secret of another id is not for this code to know.
        let held = held.and_then(|pair| pair.get(&SECRETS_KEY));
        let is_held = |id: &&SecretId| held.is_some_and(|held| held.contains(id));
        if let Some(id) = wanted.iter().find(|id| !is_held(id)) {
            return Err(SecretGrantError::NotGranted { id: id.clone() });
        }
    }
    Ok(options.pair(&SECRETS, &SECRETS_KEY))
}

fn check_known(ctx: &ResolveContext<'_>, wanted: &SecretIds) -> Result<(), SecretGrantError> {
    let known = ctx.app().get(&SECRET_STORE).map(super::SecretStore::ids).unwrap_or_default();
    let Some(id) = wanted.iter().find(|id| !known.contains(id)) else { return Ok(()) };
    let meant = text::nearest(id.as_str(), known.iter().map(Id::as_str)).and_then(|near| near.parse().ok());
    Err(SecretGrantError::Unknown { id: id.clone(), meant })
}

/// A frame did not get its secrets, so what it was for does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretGrantError {
    /// The app has no such secret.
    #[error("unknown secret `{id}` (from option `secrets`){}", suggestion(meant.as_ref()))]
    Unknown {
        /// The id.
        id: SecretId,
        /// The one that was most likely meant.
        meant: Option<SecretId>,
    },
    /// A script or a component passes on what it does not have.
    #[error(
        "the caller may not use the secret `{id}`, so it cannot pass it on; set `secrets` in the manifest"
    )]
    NotGranted {
        /// The id.
        id: SecretId,
    },
    /// A script or a component would replace what is preset.
    #[error(
        "`secrets` is preset for what was called, and is not for scripts and components to replace; leave it out"
    )]
    Preset,
}

fn suggestion(meant: Option<&SecretId>) -> String {
    if meant.is_some() { text::did_you_mean(meant) } else { "; add it to `[secrets]`".to_owned() }
}

#[cfg(test)]
mod tests {
    use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, ResolveError};
    use serde_json::json;

    use super::*;
    use crate::secrets::{SecretStore, StoredSecret};

    fn options(ids: &[&str]) -> Options {
        Options::from_json(&json!({ "secrets": ids })).unwrap()
    }

    fn frame(parent: Option<&Frame>, options: &Options) -> Result<Frame, ResolveError> {
        let secret = |id: &str| {
            (id.parse().unwrap(), StoredSecret::new("0123456789", ["api.example".parse().unwrap()]).unwrap())
        };
        let mut app = App::builder();
        app.set_resolvers(FrameResolvers::linked()).unwrap();
        app.set(&SECRET_STORE, ["app:a", "app:b", "app:c"].map(secret).into_iter().collect::<SecretStore>())
            .unwrap();
        let app = app.build();
        let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
        app.resolvers().resolve(&ResolveContext::new(&app, parent), options, frame.pairs_mut())?;
        Ok(frame.seal())
    }

    fn ids(frame: &Frame) -> Vec<String> {
        frame.get(&SECRETS_KEY).into_iter().flat_map(SecretIds::iter).map(ToString::to_string).collect()
    }

    fn causes(error: &ResolveError) -> String {
        let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    #[test]
    fn what_is_granted_is_inherited_and_set_anew_by_trusted_code() {
        let parent = frame(None, &options(&["app:b", "app:a"])).unwrap();
        assert_eq!(ids(&parent), ["app:a", "app:b"]);
        assert_eq!(ids(&frame(Some(&parent), &Options::new()).unwrap()), ["app:a", "app:b"]);
        assert_eq!(ids(&frame(Some(&parent), &options(&["app:c"])).unwrap()), ["app:c"]);
        assert_eq!(ids(&frame(Some(&parent), &options(&[])).unwrap()), [""; 0]);
        assert_eq!(ids(&frame(None, &Options::new()).unwrap()), [""; 0]);
    }

    #[test]
    fn untrusted_code_passes_on_what_it_has_or_less() {
        let parent = frame(None, &options(&["app:a", "app:b"])).unwrap();
        for (less, expected) in [(&["app:b"][..], &["app:b"][..]), (&[], &[])] {
            let narrowed = frame(Some(&parent), &options(less).untrusted()).unwrap();
            assert_eq!(ids(&narrowed), expected);
        }
        // Those that exist and those that do not are refused alike.
        for more in ["app:c", "app:nowhere"] {
            let error = frame(Some(&parent), &options(&["app:a", more]).untrusted()).unwrap_err();
            let error = causes(&error);
            assert!(error.contains(&format!("may not use the secret `{more}`")), "{error}");
        }
        assert!(frame(None, &options(&["app:a"]).untrusted()).is_err());
    }

    #[test]
    fn untrusted_code_replaces_no_preset() {
        let parent = frame(None, &options(&["app:a"])).unwrap();
        let merged = options(&["app:a"]).merged_under(&options(&["app:a"]).untrusted());
        let error = causes(&frame(Some(&parent), &merged).unwrap_err());
        assert!(error.contains("leave it out"), "{error}");
        // The preset itself grants what the caller does not have.
        let preset = options(&["app:b"]).merged_under(&Options::new().untrusted());
        assert_eq!(ids(&frame(Some(&parent), &preset).unwrap()), ["app:b"]);
    }

    #[test]
    fn an_unknown_secret_is_an_error_with_a_suggestion() {
        let error = causes(&frame(None, &options(&["app:d"])).unwrap_err());
        assert!(error.contains("unknown secret `app:d`") && error.contains("did you mean `app:"), "{error}");
        let error = causes(&frame(None, &options(&["other:elsewhere"])).unwrap_err());
        assert!(error.contains("add it to `[secrets]`"), "{error}");
    }

    #[test]
    fn an_empty_table_of_lua_is_an_empty_list() {
        let parent = frame(None, &options(&["app:a"])).unwrap();
        let none = Options::from_untrusted_json(&json!({ "secrets": {} })).unwrap();
        assert_eq!(ids(&frame(Some(&parent), &none).unwrap()), [""; 0]);
    }

    #[test]
    fn what_is_not_a_list_of_ids_is_refused() {
        for wrong in [json!("app:a"), json!({ "app:a": true }), json!(7), json!(["a"]), json!([""])] {
            let error = Options::from_json(&json!({ "secrets": wrong })).unwrap_err();
            assert!(error.to_string().contains("secrets"), "{error}");
        }
    }
}
