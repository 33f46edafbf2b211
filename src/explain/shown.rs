//! Explanations as people read them.

use std::fmt;

use super::{
    ExplainedFrame, ExplainedResolver, ExplainedUnit, Explanation, FrameOutcome, OptionSource, PairMaker,
    SetOption, SetPair,
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
        let rows = rows(self);
        if !rows.is_empty() {
            let header = ["key", "value", "set by", "order", "option", "took", ""];
            write!(f, "\n{}", report::table(&header, rows))?;
        }
        if !self.options.is_empty() {
            write!(f, "\noptions: {}", joined(&self.options))?;
        }
        match &self.outcome {
            FrameOutcome::Built => write!(f, "\nbuilt in {:.1?}", self.took),
            FrameOutcome::Refused { error } => {
                write!(f, "\nrefused after {:.1?}: {}", self.took, report::one_line(error))
            }
            FrameOutcome::Panicked { error } => {
                let message = error.as_deref().unwrap_or("a panic of no text");
                let message = report::one_line(message);
                write!(f, "\nrefused after {:.1?}: a resolver panicked: {message}", self.took)
            }
        }
    }
}

/// A row a pair, and one for each resolver that made none.
fn rows(frame: &ExplainedFrame) -> Vec<Vec<String>> {
    let own = frame.pairs.iter().filter_map(|pair| {
        if matches!(pair.by, PairMaker::Resolver { .. }) {
            return None;
        }
        let [key, value, note] = [pair.key, &pair.value, note(pair, true)].map(str::to_owned);
        Some(vec![key, value, pair.by.to_string(), String::new(), String::new(), String::new(), note])
    });
    let steps = frame.steps.iter().enumerate().flat_map(|(at, step)| rows_of(frame, at, step));
    own.chain(steps).collect()
}

fn rows_of(frame: &ExplainedFrame, at: usize, step: &ExplainedResolver) -> Vec<Vec<String>> {
    let is_built = frame.outcome == FrameOutcome::Built;
    let row = |pair: Option<&SetPair>, note: &str| {
        let (key, value) = pair.map_or(("", ""), |pair| (pair.key, &pair.value));
        let [key, value, note] = [key, value, note].map(str::to_owned);
        let took = format!("{:.1?}", step.took);
        vec![key, value, step.resolver.clone(), step.order.to_string(), joined(&step.covers), took, note]
    };
    let made =
        frame.pairs.iter().filter(|pair| matches!(pair.by, PairMaker::Resolver { step, .. } if step == at));
    let mut rows: Vec<_> = made.map(|pair| row(Some(pair), note(pair, is_built))).collect();
    let is_last = at + 1 == frame.steps.len();
    match &frame.outcome {
        FrameOutcome::Refused { .. } if is_last => rows.push(row(None, "refused")),
        FrameOutcome::Panicked { .. } if is_last => rows.push(row(None, "panicked")),
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

fn joined(options: &[SetOption]) -> String {
    options.iter().map(SetOption::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for ExplainedUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(id) => id.fmt(f),
            Self::Process(id) => write!(f, "process {id}"),
        }
    }
}

impl fmt::Display for SetOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust = if self.trusted { "" } else { ", untrusted" };
        write!(f, "{} ({}{trust})", self.name, self.from)
    }
}

impl fmt::Display for OptionSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Call => "call",
            Self::Preset => "preset",
            Self::Default => "default",
            Self::Start => "start",
            Self::Several => "several, narrowed",
        })
    }
}

impl fmt::Display for PairMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Inherited => "inherited",
            Self::Dispatcher => "dispatcher",
            Self::Task => "task",
            Self::Resolver { resolver, .. } => resolver,
        })
    }
}

impl fmt::Display for FrameOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Built => f.write_str("built"),
            Self::Refused { error } => write!(f, "refused: {}", report::one_line(error)),
            Self::Panicked { error } => {
                let message = error.as_deref().unwrap_or("a panic of no text");
                write!(f, "refused: a resolver panicked: {}", report::one_line(message))
            }
        }
    }
}
