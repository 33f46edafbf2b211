//! The options of one call.

use std::fmt;

use crate::inline_vec::InlineVec;
use crate::key::Key;
use crate::option::{DeclaredOption, FrameOption, Narrowing};
use crate::pair::{Pair, Secret};
use crate::value::{FrameValue, Value};

/// Values for declared options; at most one an option.
///
/// The first four are held without allocating. `Debug` shows the values, but not those of options that are declared with
/// `secret`.
///
/// Two are equal if the same options are set in both, to equal values that are [trusted](Self::is_trusted) alike. Values
/// of a type without `PartialEq` are equal only if one is a copy of the other.
///
/// ```
/// # use frame_registry::{FrameOption, Options, frame_option};
/// #[frame_option(name = "retries", dispatcher)]
/// pub static RETRIES: FrameOption<u32>;
/// #[frame_option(name = "label", dispatcher)]
/// pub static LABEL: FrameOption<String>;
///
/// let preset = Options::new().with(&RETRIES, 1).with(&LABEL, "preset".to_owned());
/// let call = Options::new().with(&RETRIES, 3);
///
/// let merged = preset.merged_under(&call);
/// assert_eq!(merged.get(&RETRIES), Some(&3));
/// assert_eq!(merged.get(&LABEL).unwrap(), "preset");
/// ```
#[derive(Clone)]
pub struct Options {
    list: InlineVec<OptionValue, 4>,
}

/// An option with its value; made with [`FrameOption::value`].
///
/// ```
/// # use frame_registry::{FrameOption, Options, frame_option};
/// #[frame_option(name = "retries", dispatcher)]
/// pub static RETRIES: FrameOption<u32>;
/// #[frame_option(name = "label", dispatcher)]
/// pub static LABEL: FrameOption<String>;
///
/// let options: Options = [RETRIES.value(3), LABEL.value("nightly".to_owned())].into_iter().collect();
/// assert_eq!(options, Options::new().with(&LABEL, "nightly".to_owned()).with(&RETRIES, 3));
/// ```
#[derive(Clone)]
pub struct OptionValue {
    pub(crate) option: &'static DeclaredOption,
    pub(crate) value: Value,
    pub(crate) is_trusted: bool,
    /// It is not trusted, and there was one before it that was.
    pub(crate) replaces_trusted: bool,
    /// It is what the values of several layers allow.
    pub(crate) is_narrowed: bool,
}

/// Nothing hands out a pinned value.
impl Unpin for OptionValue {}

impl OptionValue {
    pub(crate) const fn new(option: &'static DeclaredOption, value: Value) -> Self {
        Self { option, value, is_trusted: true, replaces_trusted: false, is_narrowed: false }
    }

    /// The option.
    pub const fn option(&self) -> &'static DeclaredOption {
        self.option
    }

    /// Takes what this value and that of `under` allow. Untrusted code has chosen it if it has chosen one of the two.
    fn narrow(&mut self, under: &Self, narrowing: Narrowing) {
        if let Some(narrowed) = (narrowing.narrowed)(&under.value, &self.value) {
            (self.value, self.is_narrowed) = (narrowed, true);
            self.is_trusted &= under.is_trusted;
        }
    }

    fn shown(&self) -> &dyn fmt::Debug {
        if self.option.is_hidden() { &Secret } else { self.value.as_debug() }
    }
}

impl OptionValue {
    /// Returns whether the values of two entries of one option are equal, whatever their marks.
    fn has_value_of(&self, other: &Self) -> bool {
        let equality = self.option.equality;
        self.value.is_same(&other.value)
            || equality.is_some_and(|equality| (equality.are_equal)(&self.value, &other.value))
    }
}

impl PartialEq for OptionValue {
    fn eq(&self, other: &Self) -> bool {
        self.option.is(other.option)
            && self.is_trusted == other.is_trusted
            && self.replaces_trusted == other.replaces_trusted
            && self.has_value_of(other)
    }
}

impl fmt::Debug for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OptionValue").field(&self.option.name).field(self.shown()).finish()
    }
}

impl Options {
    /// No options.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self { list: InlineVec::new() }
    }

    /// Gives `option` a value, in place of the one it has.
    pub fn set<T: FrameValue>(&mut self, option: &'static FrameOption<T>, value: T) -> &mut Self {
        self.set_value(OptionValue::new(option.declared(), Value::new(value)));
        self
    }

    /// [`set`](Self::set), by value.
    #[must_use]
    pub fn with<T: FrameValue>(mut self, option: &'static FrameOption<T>, value: T) -> Self {
        self.set(option, value);
        self
    }

    /// The value of `option`.
    #[inline]
    pub fn get<T: FrameValue>(&self, option: &FrameOption<T>) -> Option<&T> {
        self.find(option.declared())?.value.get()
    }

    /// The value of `option` as the pair of a key: what most resolvers do. Shares the value, so it does not
    /// allocate.
    #[inline]
    pub fn pair<T: FrameValue>(&self, option: &FrameOption<T>, key: &'static Key<T>) -> Option<Pair> {
        Some(Pair::new(key.raw(), self.find(option.declared())?.value.clone()))
    }

    /// Whether `option` has a value.
    pub fn contains<T>(&self, option: &FrameOption<T>) -> bool {
        self.find(option.declared()).is_some()
    }

    /// Says of every value that it was chosen by code that is not trusted, such as a script. Whoever takes options from
    /// such code says so, before they are [merged](Self::merged_under) over those that were preset.
    ///
    /// ```
    /// # use frame_registry::{FrameOption, Options, frame_option};
    /// #[frame_option(name = "tenant", dispatcher)]
    /// pub static TENANT: FrameOption<String>;
    ///
    /// let preset = Options::new().with(&TENANT, "acme".to_owned());
    /// let script = Options::new().with(&TENANT, "somebody else".to_owned()).untrusted();
    /// assert!(preset.is_trusted(&TENANT));
    /// assert!(!preset.merged_under(&script).is_trusted(&TENANT));
    /// ```
    #[must_use]
    pub fn untrusted(mut self) -> Self {
        for entry in self.list.iter_mut() {
            entry.is_trusted = false;
        }
        self
    }

    /// Whether the value of `option` was chosen by trusted code, which is the program itself, as opposed to a script
    /// that it runs; true also where the option has none. A resolver that grants something with an option, and not
    /// only narrows what the parent's frame grants, asks this first.
    #[inline]
    pub fn is_trusted<T>(&self, option: &FrameOption<T>) -> bool {
        self.find(option.declared()).is_none_or(|entry| entry.is_trusted)
    }

    /// Whether the value of `option` was not chosen by trusted code, and stands [over](Self::merged_under) one that was,
    /// such as the preset of an entry. Which one that was is not known any more: a resolver that grants something refuses
    /// then what the value before it may not have granted.
    ///
    /// ```
    /// # use frame_registry::{FrameOption, Options, frame_option};
    /// #[frame_option(name = "tenant", dispatcher)]
    /// pub static TENANT: FrameOption<String>;
    ///
    /// let preset = Options::new().with(&TENANT, "acme".to_owned());
    /// let script = Options::new().with(&TENANT, "somebody else".to_owned()).untrusted();
    /// assert!(preset.merged_under(&script).replaces_trusted(&TENANT));
    /// assert!(!script.replaces_trusted(&TENANT));
    /// ```
    #[inline]
    pub fn replaces_trusted<T>(&self, option: &FrameOption<T>) -> bool {
        self.find(option.declared()).is_some_and(|entry| entry.replaces_trusted)
    }

    /// The options that have a value, in the order they were first set, with where that is from.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = OptionEntry<'_>> + Clone {
        self.list.iter().map(|entry| OptionEntry { entry })
    }

    /// Removes the value of `option`; returns whether it had one.
    pub fn remove<T>(&mut self, option: &FrameOption<T>) -> bool {
        let index = self.list.iter().position(|entry| entry.option.is(option.declared()));
        index.and_then(|index| self.list.remove(index)).is_some()
    }

    /// These options, with those of `call` over them: an option that both have takes the value of `call`, unless its type
    /// implements [`Narrow`](crate::Narrow). Then it takes what both values allow.
    #[must_use]
    pub fn merged_under(&self, call: &Self) -> Self {
        let mut merged = self.clone();
        for entry in call.list.iter() {
            let mut entry = entry.clone();
            if let (Some(narrowing), Some(under)) = (entry.option.narrowing, self.find(entry.option)) {
                entry.narrow(under, narrowing);
            }
            merged.set_value(entry);
        }
        merged
    }

    /// The options that have a value, in the order they were first set.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'static DeclaredOption> + Clone {
        self.list.iter().map(|entry| entry.option)
    }

    /// How many options have a value.
    #[inline]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether no option has a value.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`len`](Self::len), as it is in memory.
    #[inline]
    pub(crate) const fn count(&self) -> u32 {
        self.list.count()
    }

    #[cfg(feature = "json")]
    pub(crate) fn values(&self) -> impl Iterator<Item = &OptionValue> {
        self.list.forwards()
    }

    #[cfg(feature = "json")]
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut OptionValue> {
        self.list.iter_mut()
    }

    #[inline]
    pub(crate) fn all(&self, is: impl Fn(&'static DeclaredOption) -> bool) -> bool {
        self.list.forwards().all(|entry| is(entry.option))
    }

    pub(crate) fn set_value(&mut self, mut new: OptionValue) {
        if let Some(entry) = self.list.iter_mut().find(|entry| entry.option.is(new.option)) {
            new.replaces_trusted |= !new.is_trusted && (entry.is_trusted || entry.replaces_trusted);
            *entry = new;
            return;
        }
        self.list.push(new);
    }

    #[inline]
    /// Returns whether `option` is set here and in `other`, to equal values, trusted or not. Values of a type without
    /// `PartialEq` are equal only if one is a copy of the other.
    ///
    /// ```
    /// # use frame_registry::{FrameOption, Options, frame_option};
    /// #[frame_option(name = "retries", dispatcher)]
    /// pub static RETRIES: FrameOption<u32>;
    ///
    /// let preset = Options::new().with(&RETRIES, 1);
    /// assert!(preset.agrees_on(RETRIES.declared(), &Options::new().with(&RETRIES, 1)));
    /// assert!(!preset.agrees_on(RETRIES.declared(), &Options::new().with(&RETRIES, 3)));
    /// assert!(!preset.agrees_on(RETRIES.declared(), &Options::new()));
    /// ```
    pub fn agrees_on(&self, option: &DeclaredOption, other: &Self) -> bool {
        self.find(option).zip(other.find(option)).is_some_and(|(own, other)| own.has_value_of(other))
    }

    fn find(&self, option: &DeclaredOption) -> Option<&OptionValue> {
        self.list.forwards().find(|entry| entry.option.is(option))
    }
}

/// An option that has a value in [`Options`], for who does not know its type.
///
/// ```
/// # use frame_registry::{FrameOption, Options, frame_option};
/// #[frame_option(name = "label", dispatcher)]
/// pub static LABEL: FrameOption<String>;
///
/// let preset = Options::new().with(&LABEL, "preset".to_owned());
/// let merged = preset.merged_under(&Options::new());
/// let label = merged.entries().next().unwrap();
/// assert_eq!(label.option().name(), "label");
/// assert!(label.is_trusted() && label.is_from(&preset));
/// assert!(!label.is_from(&Options::new().with(&LABEL, "preset".to_owned())), "equal, but another value");
/// ```
#[derive(Clone, Copy)]
pub struct OptionEntry<'a> {
    entry: &'a OptionValue,
}

impl OptionEntry<'_> {
    /// The option.
    pub const fn option(&self) -> &'static DeclaredOption {
        self.entry.option
    }

    /// Whether its value was chosen by trusted code; see [`Options::is_trusted`].
    pub const fn is_trusted(&self) -> bool {
        self.entry.is_trusted
    }

    /// Whether its value is what several layers allow; see [`Narrow`](crate::Narrow).
    pub const fn is_narrowed(&self) -> bool {
        self.entry.is_narrowed
    }

    /// Whether its value is the very one that it has in `source`, as it is where that was [merged](Options::merged_under)
    /// into these. Small standard values, such as numbers, are not told apart where they are equal.
    pub fn is_from(&self, source: &Options) -> bool {
        source.find(self.entry.option).is_some_and(|entry| {
            entry.is_trusted == self.entry.is_trusted && entry.value.is_same(&self.entry.value)
        })
    }
}

impl fmt::Debug for OptionEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptionEntry")
            .field("option", &self.option().name())
            .field("value", self.entry.shown())
            .field("is_trusted", &self.is_trusted())
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// The order in which they were set does not count.
impl PartialEq for Options {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.list.forwards().all(|entry| other.find(entry.option).is_some_and(|other| entry == other))
    }
}

impl Extend<OptionValue> for Options {
    /// As [`set`](Self::set), one after the other.
    fn extend<I: IntoIterator<Item = OptionValue>>(&mut self, values: I) {
        for value in values {
            self.set_value(value);
        }
    }
}

impl FromIterator<OptionValue> for Options {
    fn from_iter<I: IntoIterator<Item = OptionValue>>(values: I) -> Self {
        let mut options = Self::new();
        options.extend(values);
        options
    }
}

/// Some of the entries of other options. Values are shared, and stay [untrusted](Self::untrusted).
///
/// ```
/// # use frame_registry::{FrameOption, OptionKind, Options, frame_option};
/// # #[frame_option(name = "retries", dispatcher)]
/// # pub static RETRIES: FrameOption<u32>;
/// # #[frame_option(name = "tenant", runtime)]
/// # pub static TENANT: FrameOption<u32>;
/// let options = Options::new().with(&RETRIES, 3).with(&TENANT, 7);
/// let plain: Options =
///     options.entries().filter(|entry| entry.option().kind() == OptionKind::Dispatcher).collect();
/// assert_eq!(plain, Options::new().with(&RETRIES, 3));
/// ```
impl<'a> FromIterator<OptionEntry<'a>> for Options {
    fn from_iter<I: IntoIterator<Item = OptionEntry<'a>>>(entries: I) -> Self {
        entries.into_iter().map(|entry| entry.entry.clone()).collect()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Options ")?;
        f.debug_map().entries(self.list.iter().map(|entry| (entry.option.name, entry.shown()))).finish()
    }
}
