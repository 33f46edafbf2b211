//! Which setting of a network an error is about.

use std::error::Error;
use std::fmt::{self, Display};
use std::sync::Arc;

use frame_registry::BoxError;

/// The place of a setting: the keys and indices that lead to it, such as `peers[0].endpoint`.
///
/// ```
/// use frame_net::SettingPath;
///
/// let path = SettingPath::new().key("peers").index(0).key("endpoint");
/// assert_eq!(path.to_string(), "peers[0].endpoint");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SettingPath(Vec<SettingSegment>);

/// A step on the way to a setting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingSegment {
    /// The member of an object.
    Key(Box<str>),
    /// The element of a list, counted from 0.
    Index(usize),
}

impl SettingPath {
    /// The path of the settings as a whole.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The member `key` of what is here.
    #[must_use]
    pub fn key(mut self, key: impl Into<Box<str>>) -> Self {
        self.0.push(SettingSegment::Key(key.into()));
        self
    }

    /// The element `index` of what is here.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(SettingSegment::Index(index));
        self
    }

    /// The steps, outermost first.
    pub fn segments(&self) -> &[SettingSegment] {
        &self.0
    }

    /// What this is a member or an element of; none for the settings as a whole.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }
}

/// A setting at the top.
impl From<&str> for SettingPath {
    fn from(key: &str) -> Self {
        Self::new().key(key)
    }
}

impl Display for SettingPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                SettingSegment::Key(key) if place == 0 => f.write_str(key)?,
                SettingSegment::Key(key) => write!(f, ".{key}")?,
                SettingSegment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A setting is wrong. A [`Driver`](crate::Driver) fails with this to say which, and reports then point at it; with any
/// other error they point at the network.
///
/// ```
/// use frame_net::{SettingError, SettingPath};
///
/// let path = SettingPath::from("servers").index(1);
/// let error = SettingError::new(path, "the port is missing");
/// assert_eq!(error.to_string(), "`servers[1]`: the port is missing");
/// ```
#[derive(Debug, Clone)]
pub struct SettingError {
    path: SettingPath,
    fault: SettingFault,
}

/// What is wrong with a setting.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SettingFault {
    /// There is no such setting.
    Unknown {
        /// The settings that there are at this place.
        known: Vec<String>,
        /// The one that was most likely meant.
        meant: Option<String>,
    },
    /// It has to be there.
    Missing,
    /// Its value is wrong. The error does not show it, unless it cannot be secret.
    Invalid(Arc<dyn Error + Send + Sync>),
}

impl SettingError {
    /// The setting at `path` has a value that is wrong.
    pub fn new(path: impl Into<SettingPath>, why: impl Into<BoxError>) -> Self {
        Self { path: path.into(), fault: SettingFault::Invalid(why.into().into()) }
    }

    pub(crate) fn with_fault(path: SettingPath, fault: SettingFault) -> Self {
        Self { path, fault }
    }

    /// The setting; empty if the error is about all of them.
    pub const fn path(&self) -> &SettingPath {
        &self.path
    }

    /// What is wrong with it.
    pub const fn fault(&self) -> &SettingFault {
        &self.fault
    }
}

impl Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.fault {
            SettingFault::Unknown { known, meant } => {
                write!(f, "unknown key `{path}`")?;
                match (meant, &known[..]) {
                    (Some(meant), _) => write!(f, "; did you mean `{meant}`?"),
                    (None, []) => Ok(()),
                    (None, known) => write!(f, "; available keys: `{}`", known.join("`, `")),
                }
            }
            SettingFault::Missing => write!(f, "missing key `{path}`"),
            SettingFault::Invalid(why) => {
                let why = why.to_string();
                // An error that names its setting need not be told which that is.
                let key = path.segments().iter().rev().find_map(|segment| match segment {
                    SettingSegment::Key(key) => Some(key),
                    SettingSegment::Index(_) => None,
                });
                match key.filter(|key| !why.contains(&format!("`{key}`"))) {
                    Some(_) => write!(f, "`{path}`: {why}"),
                    None => f.write_str(&why),
                }
            }
        }
    }
}

impl Error for SettingError {
    /// What caused the error whose text this shows.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.fault {
            SettingFault::Invalid(why) => why.source(),
            _ => None,
        }
    }
}

/// Everything that was found wrong with the settings of a network: one error at least.
#[derive(Debug, Clone)]
pub struct SettingErrors(Vec<SettingError>);

impl SettingErrors {
    pub(crate) const fn new(errors: Vec<SettingError>) -> Self {
        Self(errors)
    }

    /// The errors, in the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, SettingError> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a SettingErrors {
    type Item = &'a SettingError;
    type IntoIter = std::slice::Iter<'a, SettingError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<SettingError> for SettingErrors {
    fn from(error: SettingError) -> Self {
        Self(vec![error])
    }
}

/// What a driver failed with.
impl From<BoxError> for SettingErrors {
    fn from(error: BoxError) -> Self {
        match error.downcast::<SettingError>() {
            Ok(error) => (*error).into(),
            Err(error) => match error.downcast::<Self>() {
                Ok(errors) => *errors,
                Err(error) => SettingError::new(SettingPath::new(), error).into(),
            },
        }
    }
}

/// All of them with their causes, as one text.
impl Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if place == 0 { "" } else { "; " })?;
            let mut cause = error.source();
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

impl Error for SettingErrors {}
