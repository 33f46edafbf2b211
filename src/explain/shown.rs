//! Explanations as people read them.

use std::fmt;

use super::{
    ExplainedFrame, ExplainedResolver, Explanation, Maker, Outcome, SetOption, SetPair, Source, Unit,
};
use crate::report;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.frames.is_empty() {
            return f.write_str("no frame was built");
        }
        for (at, frame) in self.frames.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n\n" };
            write!(f, "{separator}frame {}, {frame}", at + 1)?;
        }
        match self.omitted {
            0 => Ok(()),
            omitted => write!(f, "\n\nand {omitted} more"),
        }
    }
}

impl fmt::Display for ExplainedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unit {
            Some(unit) => write!(f, "of {unit}")?,
            None => f.write_str("of nothing known")?,
        }
        if let Some(attempt) = self.attempt {
            write!(f, ", attempt {attempt}")?;
        }
        if let Some(pid) = self.pid {
            write!(f, ", {pid}")?;
        }
        if let Some(parent) = &self.parent {
            f.write_str(", spawned by ")?;
            if let Some(unit) = &parent.unit {
                write!(f, "{unit} ")?;
            }
            parent.pid.fmt(f)?;
        }
        let rows = self.rows();
        if !rows.is_empty() {
            let header = ["key", "value", "set by", "order", "option", "took", ""];
            write!(f, "\n{}", report::table(&header, rows))?;
        }
        if !self.options.is_empty() {
            write!(f, "\noptions: {}", joined(&self.options))?;
        }
        match &self.outcome {
            Outcome::Built => write!(f, "\nbuilt in {:.1?}", self.took),
            Outcome::Refused { error } => {
                write!(f, "\nrefused after {:.1?}: {}", self.took, report::one_line(error))
            }
            Outcome::Panicked { error } => {
                let message = error.as_deref().unwrap_or("a panic of no text");
                let message = report::one_line(message);
                write!(f, "\nrefused after {:.1?}: a resolver panicked: {message}", self.took)
            }
        }
    }
}

impl ExplainedFrame {
    /// A row a pair, and one for each resolver that made none.
    fn rows(&self) -> Vec<Vec<String>> {
        let own = self.pairs.iter().filter_map(|pair| {
            let by = match pair.by {
                Maker::Inherited => "inherited",
                Maker::Dispatcher => "dispatcher",
                Maker::Task => "task",
                Maker::Resolver { .. } => return None,
            };
            let [key, value, note] = [pair.key, &pair.value, Self::note(pair, true)].map(str::to_owned);
            Some(vec![key, value, by.to_owned(), String::new(), String::new(), String::new(), note])
        });
        let steps = self.steps.iter().enumerate().flat_map(|(at, step)| self.rows_of(at, step));
        own.chain(steps).collect()
    }

    fn rows_of(&self, at: usize, step: &ExplainedResolver) -> Vec<Vec<String>> {
        let is_built = self.outcome == Outcome::Built;
        let row = |pair: Option<&SetPair>, note: &str| {
            let (key, value) = pair.map_or(("", ""), |pair| (pair.key, &pair.value));
            let [key, value, note] = [key, value, note].map(str::to_owned);
            let took = format!("{:.1?}", step.took);
            vec![key, value, step.resolver.clone(), step.order.to_string(), joined(&step.covers), took, note]
        };
        let made =
            self.pairs.iter().filter(|pair| matches!(pair.by, Maker::Resolver { step, .. } if step == at));
        let mut rows: Vec<_> = made.map(|pair| row(Some(pair), Self::note(pair, is_built))).collect();
        let is_last = at + 1 == self.steps.len();
        match &self.outcome {
            Outcome::Refused { .. } if is_last => rows.push(row(None, "refused")),
            Outcome::Panicked { .. } if is_last => rows.push(row(None, "panicked")),
            _ if rows.is_empty() => rows.push(row(None, "no pair")),
            _ => {}
        }
        rows
    }

    /// What became of a pair, if it is not on the frame.
    fn note(pair: &SetPair, is_kept: bool) -> &'static str {
        match (is_kept, pair.outdone) {
            (false, _) => "dropped",
            (true, true) => "outdone",
            (true, false) => "",
        }
    }
}

fn joined(options: &[SetOption]) -> String {
    options.iter().map(SetOption::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(id) => id.fmt(f),
            Self::Process(id) => write!(f, "process {id}"),
        }
    }
}

impl fmt::Display for SetOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.from {
            Source::Call => "call",
            Source::Preset => "preset",
            Source::Default => "default",
            Source::Start => "start",
            Source::Several => "several, narrowed",
        };
        let trust = if self.trusted { "" } else { ", untrusted" };
        write!(f, "{} ({from}{trust})", self.name)
    }
}
