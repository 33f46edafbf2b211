//! Reads tables and values that have spans. Collects every problem and goes on.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use frame_registry::{Id, IdKind, text};
use serde_json::{Map, Number, Value as Json};
use toml::de::{DeTable, DeValue};

use super::function::Sources;
use super::problem::{Problem, Problems, SourceFile};
use super::variables;

/// Something was not read, and a problem says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reported;

/// What was read, unless there was a problem with it.
pub(crate) type Read<T> = Result<T, Reported>;

/// What all of a manifest is read with.
pub(crate) struct Reader {
    pub(crate) file: Arc<SourceFile>,
    /// Where relative paths begin.
    pub(crate) directory: PathBuf,
    /// Whether all of the text was read: otherwise what is missing may be behind a mistake, and nothing is said of it.
    pub(crate) is_whole: bool,
    /// The files that were read.
    pub(crate) sources: Sources,
    /// The lines that are not TOML, of which no other problem is reported: first and last, in order.
    broken: Vec<RangeInclusive<usize>>,
    problems: RefCell<Vec<Problem>>,
    omitted: Cell<usize>,
    /// How many names can still be compared with others that were probably meant.
    comparisons: Cell<usize>,
}

/// How many comparisons of names there are in one manifest: enough for a hundred mistakes among two thousand names.
const COMPARISONS: usize = 200_000;

impl Reader {
    /// Reads a file of which `wrong` is known already.
    pub(crate) fn new(file: Arc<SourceFile>, directory: PathBuf, is_whole: bool, wrong: &[Problem]) -> Self {
        let lines = |problem: &Problem| file.line_of(problem.span.start)..=file.line_of(problem.span.end);
        let mut broken: Vec<_> = wrong.iter().map(lines).collect();
        broken.sort_by_key(|lines| *lines.start());
        broken.dedup_by(|next, lines| {
            let is_joined = next.start() <= lines.end();
            if is_joined {
                *lines = *lines.start()..=*lines.end().max(next.end());
            }
            is_joined
        });
        Self {
            file,
            directory,
            is_whole,
            sources: Sources::default(),
            broken,
            problems: RefCell::default(),
            omitted: Cell::new(0),
            comparisons: Cell::new(COMPARISONS),
        }
    }

    /// A problem that is not yet reported.
    pub(crate) fn problem(&self, span: Range<usize>, message: impl fmt::Display) -> Problem {
        Problem::new(&self.file, span, message)
    }

    /// Reports a problem, unless it is in a line that is not TOML: it follows from that. After [`Problems::MOST`] problems the
    /// others are only counted.
    pub(crate) fn report(&self, problem: Problem) -> Reported {
        let line = self.file.line_of(problem.span.start);
        let before = self.broken.partition_point(|lines| *lines.start() <= line);
        if self.broken[..before].iter().next_back().is_some_and(|lines| lines.contains(&line)) {
            return Reported;
        }
        if self.is_full() {
            self.omitted.set(self.omitted.get().saturating_add(1));
        } else {
            self.problems.borrow_mut().push(problem);
        }
        Reported
    }

    /// Whether further problems are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.borrow().len() >= Problems::MOST
    }

    /// Completes a problem with a name that is not among the `known` ones: with the nearest of these, and with all of them, which
    /// `available` introduces. After many problems, or in a file with many names, neither is looked for.
    pub(crate) fn with_suggestion<'a>(
        &self,
        problem: Problem,
        name: &str,
        known: impl Iterator<Item = &'a str> + Clone,
        available: &str,
    ) -> Problem {
        if self.is_full() || known.clone().next().is_none() {
            return problem;
        }
        let problem = match self.nearest(name, known.clone()) {
            Some(near) => problem.with_label(format_args!("did you mean `{near}`?")),
            None => problem,
        };
        problem.with_help(format_args!("{available} {}", list(known)))
    }

    /// The known name nearest to one that is not known, while there is time to look for it.
    pub(crate) fn nearest<'a>(
        &self,
        name: &str,
        known: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<&'a str> {
        let left = self.comparisons.get();
        let needed = known.clone().take(left.saturating_add(1)).count();
        if self.is_full() || needed > left {
            return None;
        }
        self.comparisons.set(left - needed);
        text::nearest(name, known)
    }

    /// Reports something that is not there, or not known: only if it is not just behind a mistake.
    pub(crate) fn report_missing(&self, problem: Problem) -> Reported {
        if self.is_whole { self.report(problem) } else { Reported }
    }

    /// The problems that are kept, and how many more there are.
    pub(crate) fn into_problems(self) -> (Vec<Problem>, usize) {
        (self.problems.into_inner(), self.omitted.get())
    }
}

/// A name with a span.
pub(crate) struct Name<'t> {
    pub(crate) text: &'t str,
    pub(crate) span: Range<usize>,
}

/// A table.
pub(crate) struct Table<'t> {
    pub(crate) reader: &'t Reader,
    members: &'t DeTable<'t>,
    pub(crate) span: Range<usize>,
    /// What it is, with its article: `a function`.
    what: &'static str,
}

impl<'t> Table<'t> {
    pub(crate) fn new(
        reader: &'t Reader,
        members: &'t DeTable<'t>,
        span: Range<usize>,
        what: &'static str,
    ) -> Self {
        Self { reader, members, span, what }
    }

    /// The member `name`, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<Value<'t>> {
        let (key, value) = self.members.get_key_value(name)?;
        Some(Value::new(self.reader, key.get_ref(), value.get_ref(), key.span(), value.span()))
    }

    /// The member `name`, which has to be there. `example` shows what to write.
    pub(crate) fn required(&self, name: &str, example: &str) -> Read<Value<'t>> {
        self.get(name).ok_or_else(|| {
            let problem =
                self.reader.problem(self.span.clone(), format_args!("{} has no `{name}`", self.what));
            self.reader.report_missing(problem.with_help(format_args!("add `{name} = {example}`")))
        })
    }

    /// The member `name` as `read` reads it, or else `default`.
    pub(crate) fn or<T>(&self, name: &str, default: T, read: impl FnOnce(&Value<'t>) -> Read<T>) -> Read<T> {
        self.get(name).map_or(Ok(default), |value| read(&value))
    }

    /// The member `name` as `read` reads it, if it is there.
    pub(crate) fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Value<'t>) -> Read<T>,
    ) -> Read<Option<T>> {
        self.get(name).map(|value| read(&value)).transpose()
    }

    /// The members, in the order in which they are written: of many that are wrong the first are reported.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Name<'t>, Value<'t>)> + use<'t> {
        let reader = self.reader;
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_by_key(|(key, _)| key.span().start);
        members.into_iter().map(move |(key, value)| {
            let name = Name { text: key.get_ref(), span: key.span() };
            (name, Value::new(reader, key.get_ref(), value.get_ref(), key.span(), value.span()))
        })
    }

    /// Reports all members that are none of `known`.
    pub(crate) fn only(&self, known: &[&str]) {
        self.only_where(known, |_| true);
    }

    /// Reports the members that are none of `known` and of whose value `is_checked` holds.
    pub(crate) fn only_where(&self, known: &[&str], is_checked: impl Fn(&Value<'t>) -> bool) {
        let unknown = self.entries().filter(|(name, _)| !known.contains(&name.text));
        for (name, _) in unknown.filter(|(_, value)| is_checked(value)) {
            let message = format_args!("{} has no member `{}`", self.what, name.text);
            let problem = self.reader.problem(name.span, message);
            let known = known.iter().copied();
            self.reader.report(self.reader.with_suggestion(problem, name.text, known, "it has"));
        }
    }
}

/// Names, to be read; where there are many, the first of them.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 50;
    let mut names = names.into_iter();
    let listed: Vec<_> = names.by_ref().take(MOST).map(|name| format!("`{name}`")).collect();
    match names.count() {
        0 => listed.join(", "),
        more => format!("{} and {more} more", listed.join(", ")),
    }
}

/// A value that has a name.
pub(crate) struct Value<'t> {
    pub(crate) reader: &'t Reader,
    pub(crate) name: &'t str,
    inner: &'t DeValue<'t>,
    /// Where the key is; for an element of a list, where that itself is.
    pub(crate) key: Range<usize>,
    pub(crate) span: Range<usize>,
}

impl<'t> Value<'t> {
    fn new(
        reader: &'t Reader,
        name: &'t str,
        value: &'t DeValue<'t>,
        key: Range<usize>,
        span: Range<usize>,
    ) -> Self {
        Self { reader, name, inner: value, key, span }
    }

    /// A problem with this value.
    pub(crate) fn problem(&self, message: impl fmt::Display) -> Problem {
        self.reader.problem(self.span.clone(), message)
    }

    /// Reports that it is of another type than `expected`, of which there is an example.
    fn wrong_type(&self, expected: &str, example: &str) -> Reported {
        // Where the parser found no value at all it has said so.
        if self.span.is_empty() {
            return Reported;
        }
        let problem = self.problem(format_args!("`{}` has to be {expected}", self.name));
        let problem = problem.with_label(format_args!("this is {}", kind(self.inner)));
        self.reader.report(problem.with_help(format_args!("write `{} = {example}`", self.name)))
    }

    /// A string in which no variable is replaced.
    pub(crate) fn str(&self, example: &str) -> Read<&'t str> {
        let text = self.inner.as_str().ok_or_else(|| self.wrong_type("a string", example))?;
        self.without_variables(text)?;
        Ok(text)
    }

    /// A string that is not empty. `help` is what to do for what an empty one could mean.
    pub(crate) fn filled(&self, example: &str, help: &str) -> Read<&'t str> {
        let text = self.str(example)?;
        if text.is_empty() {
            let problem = self.problem(format_args!("`{}` is empty", self.name));
            return Err(self.reader.report(problem.with_help(help)));
        }
        Ok(text)
    }

    /// A string in which variables are replaced.
    pub(crate) fn text(&self, example: &str) -> Read<Cow<'t, str>> {
        let text = self.inner.as_str().ok_or_else(|| self.wrong_type("a string", example))?;
        self.with_variables(text)
    }

    fn with_variables<'a>(&self, text: &'a str) -> Read<Cow<'a, str>> {
        variables::resolve(text).map_err(|error| {
            let problem = self.reader.problem(self.key.clone(), format_args!("`{}`: {error}", self.name));
            self.reader.report(problem.with_help(error.help()))
        })
    }

    /// Refuses text that looks as if a variable were meant to be replaced where none is.
    fn without_variables(&self, text: &str) -> Read<()> {
        if variables::names(text).is_empty() {
            return Ok(());
        }
        let message = format_args!("environment variables are not replaced in `{}`", self.name);
        let help =
            format_args!("write the value itself; variables are for the settings of {}", variables::SECTIONS);
        Err(self.reader.report(self.problem(message).with_help(help)))
    }

    /// The string that it is, if it is one.
    pub(crate) fn text_as_written(&self) -> Option<&'t str> {
        self.inner.as_str()
    }

    /// The members of a table; none of anything else.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&'t str, Value<'t>)> + use<'t> {
        let reader = self.reader;
        self.inner.as_table().into_iter().flat_map(|table| table.iter()).map(move |(key, value)| {
            let name: &str = key.get_ref();
            (name, Value::new(reader, name, value.get_ref(), key.span(), value.span()))
        })
    }

    /// The elements of a list, each with the name of the list; none of anything else.
    pub(crate) fn elements(&self) -> Vec<Value<'t>> {
        let elements = self.inner.as_array().into_iter().flat_map(|array| array.iter());
        let element = |value: &'t toml::Spanned<DeValue<'t>>| {
            Value::new(self.reader, self.name, value.get_ref(), value.span(), value.span())
        };
        elements.map(element).collect()
    }

    pub(crate) fn bool(&self) -> Read<bool> {
        self.inner.as_bool().ok_or_else(|| self.wrong_type("a boolean", "true"))
    }

    pub(crate) fn table(&self, what: &'static str, example: &str) -> Read<Table<'t>> {
        match self.inner.as_table() {
            Some(members) => Ok(Table::new(self.reader, members, self.span.clone(), what)),
            None => Err(self.wrong_type("a table", example)),
        }
    }

    /// The elements of a list; each has the name of the list.
    pub(crate) fn array(&self, example: &str) -> Read<Vec<Value<'t>>> {
        match self.inner {
            DeValue::Array(_) => Ok(self.elements()),
            _ => Err(self.wrong_type("a list", example)),
        }
    }

    /// A whole number within a range.
    pub(crate) fn integer(&self, range: RangeInclusive<u64>, example: &str) -> Read<u64> {
        let DeValue::Integer(integer) = self.inner else {
            return Err(self.wrong_type("a whole number", example));
        };
        // The placeholder of the parser for no value.
        if self.span.is_empty() {
            return Err(Reported);
        }
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(self.out_of_range(&range, |number| number.to_string())),
        }
    }

    /// A whole number that fits a `usize`, from `least` on.
    pub(crate) fn count(&self, least: usize, example: &str) -> Read<usize> {
        let largest = u64::try_from(usize::MAX).unwrap_or(u64::MAX);
        let number = self.integer(least as u64..=largest, example)?;
        usize::try_from(number).map_err(|_| Reported)
    }

    /// A whole number that fits a `u32`, from `least` on.
    pub(crate) fn u32(&self, least: u32, example: &str) -> Read<u32> {
        let number = self.integer(u64::from(least)..=u64::from(u32::MAX), example)?;
        u32::try_from(number).map_err(|_| Reported)
    }

    /// A number with or without a fraction.
    pub(crate) fn float(&self, example: &str) -> Read<f64> {
        let number = match self.inner {
            DeValue::Float(float) => float.as_str().parse().ok(),
            // What a whole number of more digits than that loses is nothing to a factor.
            DeValue::Integer(integer) if !self.span.is_empty() && integer.radix() == 10 => {
                integer.as_str().parse().ok()
            }
            _ => None,
        };
        number.ok_or_else(|| self.wrong_type("a number", example))
    }

    /// A number of bytes within a range: a plain number, or text with a unit.
    pub(crate) fn size(&self, range: RangeInclusive<u64>, example: &str) -> Read<usize> {
        let bytes = match self.inner {
            DeValue::String(text) => size(text).map_err(|error| {
                let problem = self.problem(format_args!("`{}` is no size: {error}", self.name));
                let help = "write a number of bytes, or one with its unit, such as \"32MiB\" or \"500kB\"; \
                            KiB, MiB and GiB are powers of 1024, kB, MB and GB of 1000";
                self.reader.report(problem.with_help(help))
            })?,
            DeValue::Integer(_) => self.integer(0..=u64::MAX, example)?,
            _ => return Err(self.wrong_type("a size: a number of bytes, or one with its unit", example)),
        };
        let fits = usize::try_from(bytes).ok().filter(|_| range.contains(&bytes));
        fits.ok_or_else(|| self.out_of_range(&range, size_text))
    }

    fn out_of_range(&self, range: &RangeInclusive<u64>, shown: impl Fn(u64) -> String) -> Reported {
        let is_bounded = usize::try_from(*range.end()).is_ok_and(|end| end < usize::MAX);
        let (least, most) = (shown(*range.start()), shown(*range.end()));
        let within = if is_bounded { format!("from {least} to {most}") } else { format!("at least {least}") };
        let problem = self.problem(format_args!("`{}` is out of range", self.name));
        self.reader.report(problem.with_label(format_args!("it has to be {within}")))
    }

    pub(crate) fn duration(&self, example: &str) -> Read<Duration> {
        let Some(text) = self.inner.as_str() else {
            return Err(self.wrong_type("a duration: a string of a number and its unit", example));
        };
        duration(text).map_err(|error| {
            let problem = self.problem(format_args!("`{}` is no duration: {error}", self.name));
            self.reader.report(
                problem.with_help("write a number and its unit, such as \"2s\", \"500ms\" or \"1m30s\""),
            )
        })
    }

    /// A duration that is not zero.
    pub(crate) fn time(&self, example: &str) -> Read<Duration> {
        let duration = self.duration(example)?;
        if duration.is_zero() {
            let problem = self.problem(format_args!("`{}` is out of range", self.name));
            return Err(self.reader.report(problem.with_label("it has to be longer than zero")));
        }
        Ok(duration)
    }

    /// A [`time`](Self::time), or `"unlimited"`.
    pub(crate) fn time_or_unlimited(&self, example: &str) -> Read<Duration> {
        if self.inner.as_str() == Some("unlimited") { Ok(Duration::MAX) } else { self.time(example) }
    }

    /// An id.
    pub(crate) fn id<K: IdKind>(&self) -> Read<Id<K>> {
        let text = self.str(&format!("{:?}", K::EXAMPLE))?;
        id(self.reader, text, self.span.clone())
    }

    /// One of several words, by its name.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Read<T> {
        let names: Vec<_> = choices.iter().map(|&(name, _)| name).collect();
        let text = self.str(&format!("{:?}", names.first().unwrap_or(&"")))?;
        let chosen = choices.iter().find(|&&(name, _)| name == text);
        chosen.map(|&(_, choice)| choice).ok_or_else(|| {
            let problem = self.problem(format_args!("`{}` cannot be {text:?}", self.name));
            let names = names.iter().copied();
            self.reader.report(self.reader.with_suggestion(problem, text, names, "it can be"))
        })
    }

    /// The value as JSON, in which there are no dates, and no numbers that are none. Strings are as they are written: they
    /// are for scripts.
    pub(crate) fn json(&self) -> Read<Json> {
        self.json_of(&|_, text| Ok(text.to_owned()))
    }

    /// The same of settings, whose strings can have variables in them, which are replaced.
    pub(crate) fn settings(&self) -> Read<Json> {
        self.json_of(&|value, text| value.with_variables(text).map(Cow::into_owned))
    }

    /// The same of options, whose strings cannot.
    pub(crate) fn option(&self) -> Read<Json> {
        self.json_of(&|value, text| value.without_variables(text).map(|()| text.to_owned()))
    }

    fn json_of(&self, string: &dyn Fn(&Self, &str) -> Read<String>) -> Read<Json> {
        let number = |number: Option<Number>| {
            number.map(Json::Number).ok_or_else(|| {
                let problem =
                    self.problem(format_args!("`{}` has a number that JSON cannot have", self.name));
                let help = "whole numbers have 64 bits, and others are finite";
                self.reader.report(problem.with_help(help))
            })
        };
        match self.inner {
            _ if self.span.is_empty() && self.inner.is_integer() => Err(Reported),
            DeValue::String(text) => string(self, text).map(Json::String),
            DeValue::Boolean(value) => Ok(Json::Bool(*value)),
            DeValue::Integer(integer) => {
                let (digits, radix) = (integer.as_str(), integer.radix());
                let signed = i64::from_str_radix(digits, radix).map(Number::from);
                number(signed.or_else(|_| u64::from_str_radix(digits, radix).map(Number::from)).ok())
            }
            DeValue::Float(float) => number(float.as_str().parse().ok().and_then(Number::from_f64)),
            DeValue::Datetime(_) => {
                let problem =
                    self.problem(format_args!("`{}` has a date, which JSON cannot have", self.name));
                Err(self.reader.report(problem.with_help("write it in quotes, as a string")))
            }
            DeValue::Array(_) => {
                let elements: Vec<_> =
                    self.elements().iter().map(|element| element.json_of(string)).collect();
                elements.into_iter().collect::<Read<_>>().map(Json::Array)
            }
            DeValue::Table(_) => {
                let members: Vec<_> = self
                    .members()
                    .map(|(name, value)| Ok((name.to_owned(), value.json_of(string)?)))
                    .collect();
                members.into_iter().collect::<Read<_>>().map(Json::Object)
            }
        }
    }
}

impl Table<'_> {
    /// The table as [settings](Value::settings).
    pub(crate) fn settings(&self) -> Read<Map<String, Json>> {
        self.settings_without(&[])
    }

    /// The same without the members `others`, which are read elsewhere.
    pub(crate) fn settings_without(&self, others: &[&str]) -> Read<Map<String, Json>> {
        let members = self.entries().filter(|(name, _)| !others.contains(&name.text));
        object(members.map(|(name, value)| (name, value.settings())))
    }

    /// The table as JSON, in whose strings no variable is replaced.
    pub(crate) fn options(&self) -> Read<Map<String, Json>> {
        object(self.entries().map(|(name, value)| (name, value.option())))
    }
}

/// Collects members only after all are read, so that each that is wrong is reported.
fn object<'t>(members: impl Iterator<Item = (Name<'t>, Read<Json>)>) -> Read<Map<String, Json>> {
    let members: Vec<_> = members.map(|(name, json)| Ok((name.text.to_owned(), json?))).collect();
    members.into_iter().collect()
}

/// An id that is written at `span`.
pub(crate) fn id<K: IdKind>(reader: &Reader, text: &str, span: Range<usize>) -> Read<Id<K>> {
    text.parse::<Id<K>>().map_err(|error| reader.report(reader.problem(span, error)))
}

/// What a value is, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A duration, as `humantime` reads it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// A number of bytes. `KiB` and its like are powers of 1024, `kB` and its like of 1000; case does not count.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>().map(|size| size.as_u64())
}

/// A number of bytes as one would write it: in the largest binary unit that it is a whole number of.
pub(crate) fn size_text(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_and_decimal_units_are_told_apart() {
        let sizes = ["1KiB", "1kB", "1 KB", "1.5MiB", "2M", "77", "3 gib"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [1024, 1000, 1000, 3 << 19, 2_000_000, 77, 3 << 30]);
        assert!(size("").is_err() && size("MiB").is_err() && size("1 stone").is_err() && size("-1").is_err());
    }

    #[test]
    fn a_size_is_shown_as_it_can_be_written() {
        for bytes in [0, 1, 1023, 1024, 1536, 32 << 20, (1 << 30) + 1, 16 << 30] {
            assert_eq!(size(&size_text(bytes)), Ok(bytes));
        }
        assert_eq!(size_text(32 << 20), "32MiB");
    }
}
