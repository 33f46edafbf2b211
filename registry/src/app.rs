//! What belongs to the whole application.

use std::fmt;
use std::sync::Arc;

use crate::frame::Frame;
use crate::key::Key;
use crate::pair::Pairs;
use crate::resolvers::FrameResolvers;
use crate::value::FrameValue;

/// Application-wide values, each written once before the app is built, and the app's [`FrameResolvers`].
/// Cloning it is one reference count.
///
/// ```standalone_crate
/// use frame_registry::{App, FrameResolvers, Key};
///
/// static NODE: Key<String> = Key::new("node");
///
/// let mut builder = App::builder();
/// builder.set(&NODE, "n1".to_owned())?;
/// builder.set_resolvers(FrameResolvers::linked())?;
/// assert!(builder.set(&NODE, "n2".to_owned()).is_err());
///
/// let app = builder.build();
/// assert_eq!(app.get(&NODE).unwrap(), "n1");
/// # Ok::<(), frame_registry::AppError>(())
/// ```
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    values: Pairs,
    resolvers: FrameResolvers,
}

impl App {
    /// A builder without values.
    #[must_use]
    pub fn builder() -> AppBuilder {
        AppBuilder::new()
    }

    /// The value of `key`.
    pub fn get<T: FrameValue>(&self, key: &Key<T>) -> Option<&T> {
        self.inner.values.get(key)
    }

    /// The app's resolvers: [`FrameResolvers::empty`] where the builder was given none.
    #[inline]
    pub fn resolvers(&self) -> &FrameResolvers {
        &self.inner.resolvers
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { values, resolvers } = &*self.inner;
        f.debug_struct("App").field("values", values).field("resolvers", resolvers).finish()
    }
}

/// Collects what an [`App`] is made of.
#[derive(Debug, Default)]
pub struct AppBuilder {
    values: Pairs,
    resolvers: Option<FrameResolvers>,
}

impl AppBuilder {
    /// A builder without values.
    #[must_use]
    pub fn new() -> Self {
        Self { values: Pairs::new(), resolvers: None }
    }

    /// Sets `key`, once.
    ///
    /// # Errors
    ///
    /// [`AppError::AlreadySet`] if the key has a value, which it keeps.
    pub fn set<T: FrameValue>(&mut self, key: &'static Key<T>, value: T) -> Result<&mut Self, AppError> {
        if self.values.get(key).is_some() {
            return Err(AppError::AlreadySet { key: key.name() });
        }
        self.values.push(key.pair(value));
        Ok(self)
    }

    /// Gives the app its resolvers, once. Most apps want [`FrameResolvers::linked`].
    ///
    /// # Errors
    ///
    /// [`AppError::ResolversAlreadySet`] if it has some, which it keeps.
    pub fn set_resolvers(&mut self, resolvers: FrameResolvers) -> Result<&mut Self, AppError> {
        if self.resolvers.is_some() {
            return Err(AppError::ResolversAlreadySet);
        }
        self.resolvers = Some(resolvers);
        Ok(self)
    }

    /// The value that `key` has so far.
    pub fn get<T: FrameValue>(&self, key: &Key<T>) -> Option<&T> {
        self.values.get(key)
    }

    /// The resolvers given so far: what a part that relies on them checks before the app starts.
    pub fn resolvers(&self) -> Option<&FrameResolvers> {
        self.resolvers.as_ref()
    }

    /// The app. Nothing can be written to it any more.
    #[must_use]
    pub fn build(self) -> App {
        let resolvers = self.resolvers.unwrap_or(FrameResolvers::empty());
        App { inner: Arc::new(Inner { values: self.values, resolvers }) }
    }
}

/// A value of an [`AppBuilder`] was set a second time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The key has a value.
    #[error("the app's `{key}` is set already; it is written once")]
    AlreadySet {
        /// The key's name.
        key: &'static str,
    },
    /// The app has resolvers.
    #[error("the app's resolvers are set already; they are given once")]
    ResolversAlreadySet,
}

/// What a resolver may read beside the options: the app, and the frame of the unit that spawns.
#[derive(Debug, Clone, Copy)]
pub struct ResolveContext<'a> {
    app: &'a App,
    parent: Option<&'a Frame>,
}

impl<'a> ResolveContext<'a> {
    /// A context for a unit that is spawned by the unit of frame `parent`, or by none.
    #[inline]
    pub const fn new(app: &'a App, parent: Option<&'a Frame>) -> Self {
        Self { app, parent }
    }

    /// The app.
    #[inline]
    pub const fn app(&self) -> &'a App {
        self.app
    }

    /// The frame of the unit that spawns; `None` at the root.
    #[inline]
    pub const fn parent(&self) -> Option<&'a Frame> {
        self.parent
    }
}
