//! What a component would take to be compiled, found out before it is compiled.
//!
//! A component of a few kilobytes can describe any amount of work for the compiler, which cannot be interrupted: components
//! that instantiate each other twice, types that are made of themselves, a loop around thousands of variables. So the
//! binary is read once here, without recursion by its nesting, and what is in it is counted against [`ComponentLimits`].
//!
//! | file | what is in it |
//! |---|---|
//! | `structure.rs` | components as they are written: their types, and what they do when they are instantiated |
//! | `instances.rs` | instances, as the compiler makes them: each instantiation of a component is followed |
//! | `code.rs` | core modules: functions, tables and data |
//!
//! All counts are of what the compiler does, and not what it finds invalid: that it says itself.

mod code;
mod instances;
mod structure;

use wasmtime::wasmparser::{Encoding, Parser, Payload};

use super::config::ComponentLimits;
use super::error::WasmError;

use self::code::Module;
use self::structure::Structure;

/// How deep types are nested at most. Wasmtime follows those of instances by recursion, and has no limit of its own for it.
const TYPE_DEPTH: u32 = 100;

/// How many elements all tables of all modules begin with at most. What a call may have is up to its limits.
const TABLE_ELEMENTS: u64 = 4 << 20;

/// How many of the definitions of a function's types its adapter counts as: it is code for each of them.
const ADAPTER: u64 = 8;

/// Why a component is not compiled.
enum InspectError {
    Limit { what: &'static str, setting: &'static str, limit: u64 },
    Invalid(String),
}

impl From<InspectError> for WasmError {
    fn from(stop: InspectError) -> Self {
        match stop {
            InspectError::Limit { what, setting, limit } => Self::TooComplex { what, setting, limit },
            InspectError::Invalid(reason) => Self::Compile { reason },
        }
    }
}

/// What was counted of a component.
struct Counts<'l> {
    limits: &'l ComponentLimits,
    instances: u64,
    definitions: u64,
    functions: u64,
    work: u64,
    images: u64,
    table_elements: u64,
}

/// Refuses a component that would take more to compile than `limits` allow.
///
/// # Errors
///
/// [`WasmError::TooComplex`], and [`WasmError::Compile`] if the binary is not valid as far as it is read.
pub(super) fn inspect(bytes: &[u8], limits: &ComponentLimits) -> Result<(), WasmError> {
    let mut counts =
        Counts { limits, instances: 0, definitions: 0, functions: 0, work: 0, images: 0, table_elements: 0 };
    Ok(read(bytes, &mut counts)?)
}

fn read(bytes: &[u8], counts: &mut Counts<'_>) -> Result<(), InspectError> {
    at_most("bytes", "size", bytes.len() as u64, counts.limits.size as u64)?;
    let mut structure = Structure::default();
    // The parser goes through nested modules and components by itself. Modules have no others in them.
    let mut module = None;
    for payload in Parser::new(0).parse_all(bytes) {
        match (payload?, &mut module) {
            (Payload::Version { encoding: Encoding::Module, .. }, _) => module = Some(Module::default()),
            (Payload::Version { encoding: Encoding::Component, .. }, _) => structure.begin(counts)?,
            (end @ Payload::End(_), Some(ended)) => {
                ended.section(end, counts)?;
                module = None;
            }
            (Payload::End(_), None) => structure.end(),
            (payload, Some(module)) => module.section(payload, counts)?,
            (payload, None) => structure.section(bytes, payload, counts)?,
        }
    }
    instances::follow(&structure.into_shapes(), counts)
}

impl Counts<'_> {
    fn depth(&self, depth: usize) -> Result<(), InspectError> {
        let limit = u64::from(self.limits.depth);
        at_most("levels of components", "depth", depth as u64 + 1, limit)
    }

    fn instances(&mut self, more: u64) -> Result<(), InspectError> {
        self.instances = self.instances.saturating_add(more);
        at_most("instances", "instances", self.instances, self.limits.instances)
    }

    fn definitions(&mut self, more: u64) -> Result<(), InspectError> {
        self.definitions = self.definitions.saturating_add(more);
        at_most("definitions of types and items", "definitions", self.definitions, self.limits.definitions)
    }

    fn functions(&mut self, more: u64) -> Result<(), InspectError> {
        self.functions = self.functions.saturating_add(more);
        at_most("functions", "functions", self.functions, self.limits.functions)
    }

    /// The work of a function up to where it was read.
    fn fits_function(&self, work: u64) -> Result<(), InspectError> {
        let what = "operators and values in one function";
        at_most(what, "function_work", work, self.limits.function_work)
    }

    fn function(&mut self, work: u64) -> Result<(), InspectError> {
        self.fits_function(work)?;
        self.functions(1)?;
        self.work = self.work.saturating_add(work);
        at_most("operators and values in all functions", "work", self.work, self.limits.work)
    }

    fn image(&mut self, bytes: u64) -> Result<(), InspectError> {
        self.images = self.images.saturating_add(bytes);
        at_most("bytes of memory that data is placed in", "size", self.images, self.limits.size as u64)
    }

    fn table(&mut self, elements: u64) -> Result<(), InspectError> {
        self.table_elements = self.table_elements.saturating_add(elements);
        if self.table_elements > TABLE_ELEMENTS {
            let reason = format!("its tables have more than {TABLE_ELEMENTS} elements to begin with");
            return Err(InspectError::Invalid(reason));
        }
        Ok(())
    }
}

/// Refuses types that are nested too deep.
fn fits_depth(depth: u32) -> Result<(), InspectError> {
    if depth > TYPE_DEPTH {
        return Err(InspectError::Invalid(format!(
            "its types are nested more than {TYPE_DEPTH} levels deep"
        )));
    }
    Ok(())
}

fn at_most(what: &'static str, setting: &'static str, count: u64, limit: u64) -> Result<(), InspectError> {
    if count > limit { Err(InspectError::Limit { what, setting, limit }) } else { Ok(()) }
}
