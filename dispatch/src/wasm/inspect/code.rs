//! The core modules of a component: what the compiler has to do with their functions, tables and memories.

use std::collections::BTreeMap;

use wasmtime::wasmparser::{
    BinaryReaderError, BlockType, ConstExpr, ContType, DataKind, FrameKind, FuncType, FunctionBody,
    ModuleArity, Operator, Payload, RefType, SubType, TypeRef,
};

use super::{Counts, InspectError};

/// The image that the compiler makes of the data of a memory, even if most of it is zeros. This is how wasmtime's setting
/// `memory_guaranteed_dense_image_size` is by default.
const SPARSE_IMAGE: u64 = 16 << 20;

/// How many operators a call counts as, and an operation on a whole memory or table: the compiler makes so much more of it.
const CALL: u64 = 5;

/// How many locals of blocks count as an operator.
const LOCALS: u64 = 4;

/// How many values that an operator keeps alive, or passes, count as an operator. The compiler looks for a place for each value
/// among all that are alive at the time.
const ALIVE: u64 = 256;
const PASSED: u64 = 4;

/// How many values an operator passes as those of compiled languages do, and how many operators each further value counts as. The
/// compiler takes kilobytes for each value that a block takes.
const FEW: u64 = 64;
const FURTHER: u64 = 16;

/// How many blocks before a block count as an operator. The compiler walks the tree of dominators at each block, and blocks make
/// that deeper whether they follow each other or are nested.
const BEFORE: u64 = 128;

/// A core module, as far as it was read.
#[derive(Default)]
pub(super) struct Module {
    types: Vec<SubType>,
    /// The types of its functions, those that it imports first.
    functions: Vec<u32>,
    /// The types of its tags, those that it imports first.
    tags: Vec<u32>,
    /// How many functions have had a body.
    bodies: usize,
    /// The data of each memory.
    data: BTreeMap<u32, Data>,
}

/// Where the data of a memory is.
struct Data {
    bytes: u64,
    start: u64,
    end: u64,
}

impl Module {
    /// Counts a section.
    pub(super) fn section(
        &mut self,
        payload: Payload<'_>,
        counts: &mut Counts<'_>,
    ) -> Result<(), InspectError> {
        match payload {
            Payload::TypeSection(types) => {
                for group in types {
                    self.types.extend(group?.into_types());
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    match import?.ty {
                        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => self.functions.push(ty),
                        TypeRef::Tag(tag) => self.tags.push(tag.func_type_idx),
                        _ => (),
                    }
                }
                self.bodies = self.functions.len();
            }
            Payload::FunctionSection(functions) => {
                for ty in functions {
                    self.functions.push(ty?);
                }
            }
            Payload::TagSection(tags) => {
                for tag in tags {
                    self.tags.push(tag?.func_type_idx);
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

    /// Counts the work of a function: its operators, the values that they pass and keep alive, and for each of its blocks all of
    /// its locals, since each local can have another value in each, and the blocks before it.
    fn function(&mut self, body: &FunctionBody<'_>, counts: &mut Counts<'_>) -> Result<(), InspectError> {
        let ty = self.functions.get(self.bodies).copied().unwrap_or(u32::MAX);
        self.bodies += 1;
        let whole = Block { ty: BlockType::FuncType(ty), kind: FrameKind::Block, below: 0 };
        let mut code = Code { module: self, open: vec![whole], values: 0 };
        let (parameters, results) = code.arity_of(whole.ty);
        let mut locals = parameters;
        for declared in body.get_locals_reader()? {
            locals = locals.saturating_add(declared?.0.into());
        }
        // It is called from inside and from outside.
        let mut operators = (parameters + results) * 2;
        let (mut blocks, mut alive) = (1_u64, 0_u64);
        let work = |operators: u64, blocks: u64, alive: u64| {
            let locals = blocks.saturating_mul(locals) / LOCALS;
            let before = blocks.saturating_mul(blocks) / 2 / BEFORE;
            operators.saturating_add(locals).saturating_add(before).saturating_add(alive / ALIVE)
        };
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let operator = reader.read()?;
            operators = operators.saturating_add(code.count(&operator)?);
            blocks += u64::from(begins_block(&operator));
            alive = alive.saturating_add(code.values).saturating_add(locals);
            counts.fits_function(work(operators, blocks, alive))?;
        }
        counts.function(work(operators, blocks, alive))
    }
}

fn begins_block(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. }
    )
}

/// A function, as far as it was read.
struct Code<'m> {
    module: &'m Module,
    /// The blocks that are open, the outermost first.
    open: Vec<Block>,
    /// How many values are on the stack.
    values: u64,
}

#[derive(Clone, Copy)]
struct Block {
    ty: BlockType,
    kind: FrameKind,
    /// How many values are on the stack below it.
    below: u64,
}

impl Code<'_> {
    fn arity_of(&self, ty: BlockType) -> (u64, u64) {
        let (parameters, results) = self.block_type_arity(ty).unwrap_or_default();
        (parameters.into(), results.into())
    }

    /// Goes past an operator. Returns how many it counts as.
    fn count(&mut self, operator: &Operator<'_>) -> Result<u64, InspectError> {
        let (taken, left) = operator.operator_arity(self).unwrap_or_default();
        let (taken, left) = (u64::from(taken), u64::from(left));
        let passed = taken + left;
        let mut count = 1 + passed / PASSED + passed.saturating_sub(FEW) * FURTHER;
        let below = self.values.saturating_sub(taken);
        self.values = below + left;
        let block = |ty: BlockType, kind| Block { ty, kind, below };
        match operator {
            Operator::Block { blockty } => self.open.push(block(*blockty, FrameKind::Block)),
            Operator::Loop { blockty } => self.open.push(block(*blockty, FrameKind::Loop)),
            Operator::If { blockty } => self.open.push(block(*blockty, FrameKind::If)),
            Operator::TryTable { try_table } => {
                count += try_table.catches.len() as u64;
                self.open.push(block(try_table.ty, FrameKind::TryTable));
            }
            // Where a block ends early, its stack is as if it had not.
            Operator::Else => {
                if let Some(open) = self.open.last() {
                    self.values = open.below + self.arity_of(open.ty).0;
                }
            }
            Operator::End => {
                if let Some(open) = self.open.pop() {
                    self.values = open.below + self.arity_of(open.ty).1;
                }
            }
            Operator::BrTable { targets } => {
                for target in targets.targets() {
                    let (ty, kind) =
                        self.label_block(target?).unwrap_or((BlockType::Empty, FrameKind::Block));
                    let (parameters, results) = self.arity_of(ty);
                    count = count.saturating_add(1).saturating_add(if kind == FrameKind::Loop {
                        parameters
                    } else {
                        results
                    });
                }
            }
            Operator::Call { .. }
            | Operator::ReturnCall { .. }
            | Operator::CallIndirect { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::CallRef { .. }
            | Operator::ReturnCallRef { .. }
            | Operator::MemoryGrow { .. }
            | Operator::MemoryInit { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::DataDrop { .. }
            | Operator::TableGet { .. }
            | Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableInit { .. }
            | Operator::TableCopy { .. }
            | Operator::TableFill { .. }
            | Operator::ElemDrop { .. }
            | Operator::RefFunc { .. } => count += CALL - 1,
            _ => (),
        }
        Ok(count)
    }
}

impl ModuleArity for Code<'_> {
    fn sub_type_at(&self, ty: u32) -> Option<&SubType> {
        self.module.types.get(ty as usize)
    }

    fn tag_type_arity(&self, tag: u32) -> Option<(u32, u32)> {
        self.sub_type_arity(self.sub_type_at(*self.module.tags.get(tag as usize)?)?)
    }

    fn type_index_of_function(&self, function: u32) -> Option<u32> {
        self.module.functions.get(function as usize).copied()
    }

    // Continuations are not enabled.
    fn func_type_of_cont_type(&self, _: &ContType) -> Option<&FuncType> {
        None
    }

    fn sub_type_of_ref_type(&self, _: &RefType) -> Option<&SubType> {
        None
    }

    fn control_stack_height(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX)
    }

    fn label_block(&self, depth: u32) -> Option<(BlockType, FrameKind)> {
        self.open.iter().rev().nth(depth as usize).map(|block| (block.ty, block.kind))
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

impl From<BinaryReaderError> for InspectError {
    fn from(error: BinaryReaderError) -> Self {
        Self::Invalid(error.to_string())
    }
}
