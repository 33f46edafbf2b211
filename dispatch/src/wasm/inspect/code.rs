//! The core modules of a component: what the compiler has to do with their functions, tables and memories.

use std::collections::BTreeMap;

use wasmtime::wasmparser::{
    BinaryReaderError, BlockType, CompositeInnerType, ConstExpr, DataKind, FunctionBody, Operator, Payload,
    TypeRef,
};

use super::{Counts, Stop};

/// The image that the compiler makes of the data of a memory, even if most of it is zeros. This is how wasmtime's setting
/// `memory_guaranteed_dense_image_size` is by default.
const SPARSE_IMAGE: u64 = 16 << 20;

/// A core module, as far as it was read.
#[derive(Default)]
pub(super) struct Module {
    types: Vec<Arity>,
    /// The types of its functions, those that it imports first.
    functions: Vec<u32>,
    /// How many functions have had a body.
    bodies: usize,
    /// The data of each memory.
    data: BTreeMap<u32, Data>,
}

/// How many values something takes and returns.
#[derive(Clone, Copy, Default)]
struct Arity {
    parameters: u64,
    results: u64,
}

impl Arity {
    const fn sum(self) -> u64 {
        self.parameters + self.results
    }
}

/// Where the data of a memory is.
struct Data {
    bytes: u64,
    start: u64,
    end: u64,
}

impl Module {
    /// Counts a section.
    pub(super) fn section(&mut self, payload: Payload<'_>, counts: &mut Counts<'_>) -> Result<(), Stop> {
        match payload {
            Payload::TypeSection(types) => {
                for group in types {
                    for ty in group?.types() {
                        self.types.push(match &ty.composite_type.inner {
                            CompositeInnerType::Func(function) => Arity {
                                parameters: function.params().len() as u64,
                                results: function.results().len() as u64,
                            },
                            _ => Arity::default(),
                        });
                    }
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import?.ty {
                        self.functions.push(ty);
                    }
                }
                self.bodies = self.functions.len();
            }
            Payload::FunctionSection(functions) => {
                for ty in functions {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    counts.table(table?.ty.initial)?;
                }
            }
            Payload::DataSection(segments) => {
                for segment in segments {
                    let segment = segment?;
                    if let DataKind::Active { memory_index, offset_expr } = segment.kind
                        && let Some(start) = constant(&offset_expr)
                    {
                        self.data(memory_index, start, segment.data.len() as u64);
                    }
                }
            }
            Payload::CodeSectionEntry(body) => self.function(&body, counts)?,
            Payload::End(_) => {
                for data in self.data.values() {
                    let image = data.end.saturating_sub(data.start);
                    if image <= SPARSE_IMAGE.max(data.bytes.saturating_mul(2)) {
                        counts.image(image)?;
                    }
                }
            }
            _ => (),
        }
        Ok(())
    }

    fn data(&mut self, memory: u32, start: u64, bytes: u64) {
        let data = self.data.entry(memory).or_insert(Data { bytes: 0, start, end: start });
        data.bytes += bytes;
        data.start = data.start.min(start);
        data.end = data.end.max(start.saturating_add(bytes));
    }

    fn arity(&self, ty: u32) -> Arity {
        self.types.get(ty as usize).copied().unwrap_or_default()
    }

    fn arity_of(&self, function: u32) -> Arity {
        self.functions.get(function as usize).map(|ty| self.arity(*ty)).unwrap_or_default()
    }

    fn arity_of_block(&self, ty: BlockType) -> Arity {
        match ty {
            BlockType::Empty => Arity::default(),
            BlockType::Type(_) => Arity { parameters: 0, results: 1 },
            BlockType::FuncType(ty) => self.arity(ty),
        }
    }

    /// Counts the work of a function: its operators, each with the values that it takes and returns if these are any number,
    /// and for each of its blocks all of its locals, since each local can have another value in each.
    fn function(&mut self, body: &FunctionBody<'_>, counts: &mut Counts<'_>) -> Result<(), Stop> {
        let own = u32::try_from(self.bodies).map(|index| self.arity_of(index)).unwrap_or_default();
        self.bodies += 1;
        let mut locals = own.parameters;
        for declared in body.get_locals_reader()? {
            locals = locals.saturating_add(declared?.0.into());
        }
        // It is called from inside and from outside.
        let mut operators = own.sum() * 2;
        let mut blocks = 1_u64;
        // How many values a branch to each of the blocks takes, and how many the block leaves.
        let mut labels = vec![(own.results, own.results)];
        let branch = |labels: &[(u64, u64)], depth: u32| {
            labels.iter().rev().nth(depth as usize).map_or(0, |(taken, _)| *taken)
        };
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let values = match reader.read()? {
                Operator::Block { blockty } | Operator::If { blockty } => {
                    let arity = self.arity_of_block(blockty);
                    labels.push((arity.results, arity.results));
                    blocks += 1;
                    arity.sum()
                }
                Operator::Loop { blockty } => {
                    let arity = self.arity_of_block(blockty);
                    labels.push((arity.parameters, arity.results));
                    blocks += 1;
                    arity.sum()
                }
                Operator::TryTable { try_table } => {
                    let arity = self.arity_of_block(try_table.ty);
                    labels.push((arity.results, arity.results));
                    blocks += 1 + try_table.catches.len() as u64;
                    arity.sum()
                }
                Operator::Else => labels.last().map_or(0, |(_, left)| *left),
                Operator::End => labels.pop().map_or(0, |(_, left)| left),
                Operator::Br { relative_depth }
                | Operator::BrIf { relative_depth }
                | Operator::BrOnNull { relative_depth }
                | Operator::BrOnNonNull { relative_depth } => branch(&labels, relative_depth),
                Operator::BrTable { targets } => {
                    let mut values = u64::from(targets.len());
                    for target in targets.targets() {
                        values = values.saturating_add(branch(&labels, target?));
                    }
                    values
                }
                Operator::Return => own.results,
                Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                    self.arity_of(function_index).sum()
                }
                Operator::CallIndirect { type_index, .. }
                | Operator::ReturnCallIndirect { type_index, .. }
                | Operator::CallRef { type_index }
                | Operator::ReturnCallRef { type_index } => self.arity(type_index).sum(),
                _ => 0,
            };
            operators = operators.saturating_add(1 + values);
            counts.fits_function(operators.saturating_add(blocks.saturating_mul(locals)))?;
        }
        counts.function(operators.saturating_add(blocks.saturating_mul(locals)))
    }
}

/// The value of an expression that is a number.
fn constant(expression: &ConstExpr<'_>) -> Option<u64> {
    match expression.get_operators_reader().read() {
        Ok(Operator::I32Const { value }) => Some(value.cast_unsigned().into()),
        Ok(Operator::I64Const { value }) => Some(value.cast_unsigned()),
        _ => None,
    }
}

impl From<BinaryReaderError> for Stop {
    fn from(error: BinaryReaderError) -> Self {
        Self::Invalid(error.to_string())
    }
}
