//! Where settings are that others read, and what is wrong with them.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

use frame_net::{SettingError, SettingErrors, SettingFault, SettingPath};

use super::problem::{Problem, SourceFile};
use super::reader::{Table, Value, list};
use super::variables;

/// Where the settings of a network or of a section are in the text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// Where they are as a whole.
    header: Range<usize>,
    settings: BTreeMap<SettingPath, SettingSpan>,
}

#[derive(Debug, Clone)]
struct SettingSpan {
    /// The key; of an element of a list, which has none, the value.
    key: Range<usize>,
    value: Range<usize>,
    /// The environment variables in the value.
    variables: Vec<String>,
}

/// Which part of a wrong setting to point at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PointAt {
    /// The key, as values are not shown.
    Key,
    /// The value.
    Value,
}

impl Places {
    /// The places of a table and of all that is in it.
    pub(crate) fn of(value: &Value<'_>, header: Range<usize>) -> Self {
        let mut places = Self { header, settings: BTreeMap::new() };
        places.add(value, SettingPath::new());
        places
    }

    /// The places of everything in a manifest.
    pub(crate) fn of_all(document: &Table<'_>) -> Self {
        let mut places = Self::default();
        for (name, value) in document.entries() {
            places.add(&value, name.text.into());
        }
        places
    }

    /// Where the member at `path` is with its key, if it is there. A table is where its header is.
    pub(crate) fn whole(&self, path: &[&str]) -> Option<Range<usize>> {
        let path = path.iter().fold(SettingPath::new(), |path, &key| path.key(key));
        let SettingSpan { key, value, .. } = self.settings.get(&path)?;
        Some(if value.start >= key.end { key.start..value.end } else { key.clone() })
    }

    /// Where an element of the list at `path` is, if it is there.
    pub(crate) fn element(&self, path: &[&str], index: usize) -> Option<Range<usize>> {
        let path = path.iter().fold(SettingPath::new(), |path, &key| path.key(key));
        Some(self.settings.get(&path.index(index))?.value.clone())
    }

    fn add(&mut self, value: &Value<'_>, path: SettingPath) {
        for (name, member) in value.members() {
            self.add(&member, path.clone().key(name));
        }
        for (index, element) in value.elements().iter().enumerate() {
            self.add(element, path.clone().index(index));
        }
        if !path.segments().is_empty() {
            let variables = value.text_as_written().map(variables::names).unwrap_or_default();
            let place = SettingSpan { key: value.key.clone(), value: value.span.clone(), variables };
            self.settings.insert(path, place);
        }
    }

    /// The place of a setting, or else of the one that it would be a part of.
    fn nearest(&self, path: &SettingPath) -> Option<&SettingSpan> {
        let parents = std::iter::successors(Some(path.clone()), SettingPath::parent);
        parents.into_iter().find_map(|path| self.settings.get(&path))
    }

    /// Where a setting is, by its key.
    pub(crate) fn key(&self, path: &SettingPath) -> Range<usize> {
        self.nearest(path).map_or_else(|| self.header.clone(), |place| place.key.clone())
    }

    /// Where a setting has its value.
    pub(crate) fn value(&self, path: &SettingPath) -> Range<usize> {
        self.nearest(path).map_or_else(|| self.header.clone(), |place| place.value.clone())
    }

    /// What is wrong with settings, each at its place. `owner` is what they are of, such as "`[http]`".
    pub(crate) fn problems(
        &self,
        file: &Arc<SourceFile>,
        owner: &str,
        point_at: PointAt,
        errors: &SettingErrors,
    ) -> Vec<Problem> {
        errors.iter().map(|error| self.problem(file, owner, point_at, error)).collect()
    }

    fn problem(
        &self,
        file: &Arc<SourceFile>,
        owner: &str,
        point_at: PointAt,
        error: &SettingError,
    ) -> Problem {
        let path = error.path();
        match error.fault() {
            SettingFault::Unknown { known, meant } => {
                let problem = Problem::new(file, self.key(path), format_args!("unknown key `{path}`"));
                let known = list(known.iter().map(String::as_str));
                let problem = match path.parent().filter(|parent| !parent.segments().is_empty()) {
                    Some(parent) => problem.with_help(format_args!("`{parent}` has {known}")),
                    None => problem.with_help(format_args!("{owner} has {known}")),
                };
                match meant {
                    Some(meant) => problem.with_label(format_args!("did you mean `{meant}`?")),
                    None => problem,
                }
            }
            SettingFault::Missing => {
                let message = format_args!("{owner} needs the key `{path}`, which is missing");
                Problem::new(file, self.key(path), message)
            }
            _ => {
                let span = match (self.settings.get(path), point_at) {
                    (Some(place), PointAt::Value) => place.value.clone(),
                    _ => self.key(path),
                };
                let message = match self.hidden(path, error) {
                    Some(variables) => {
                        format!("`{path}` is not valid with the value of {variables}, which is not shown")
                    }
                    None => text(error),
                };
                Problem::new(file, span, message)
            }
        }
    }

    /// The variables that are in a setting, if an error about it would show something of their values.
    fn hidden(&self, path: &SettingPath, error: &SettingError) -> Option<String> {
        // Those that it is in, and those in it, which come right after it in the order of paths.
        let parents = std::iter::successors(path.parent(), SettingPath::parent);
        let around = parents.filter_map(|parent| self.settings.get(&parent));
        let inside = self.settings.range(path.clone()..);
        let inside = inside.take_while(|(other, _)| other.segments().starts_with(path.segments()));
        let places = inside.map(|(_, place)| place).chain(around);
        let names: Vec<_> = places.flat_map(|place| place.variables.iter().map(String::as_str)).collect();
        let text = text(error);
        let is_shown = |name: &str| {
            let value = env::var(name).unwrap_or_default();
            words(&value).any(|part| words(&text).any(|word| word == part))
        };
        names.iter().any(|name| is_shown(name)).then(|| {
            let names: Vec<_> = names.iter().map(|name| format!("`${{{name}}}`")).collect();
            names.join(" and ")
        })
    }
}

/// An error with its causes.
fn text(error: &SettingError) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty())
}
