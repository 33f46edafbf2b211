//! Components as they are written.

use std::collections::HashMap;
use std::mem;
use std::rc::Rc;

use wasmtime::wasmparser::{
    BinaryReader, CanonicalFunction, ComponentAlias, ComponentDefinedType, ComponentExternalKind,
    ComponentInstance, ComponentOuterAliasKind, ComponentType, ComponentTypeDeclaration, ComponentTypeRef,
    ComponentValType, CoreType, Instance, ModuleTypeDeclaration, Payload, PrimitiveValType, TypeBounds,
};

use super::{ADAPTER, Counts, InspectError, fits_depth};

/// A component as it is written: what it costs to make an instance of it, and the steps in which other components and their
/// instances come into it.
#[derive(Default)]
pub(super) struct Shape<'a> {
    pub(super) steps: Vec<InstanceStep<'a>>,
    /// How many definitions an instance has.
    pub(super) definitions: u64,
    /// How many functions an instance has that are not in core modules.
    pub(super) functions: u64,
    /// How many core instances an instance has.
    pub(super) core_instances: u64,
    pub(super) resources: u64,
    /// What it uses of the components around it: components by how many levels further out and under which index they are.
    pub(super) captures: Vec<(u32, u32)>,
    /// How many core modules it uses of the components around it.
    pub(super) captured_modules: u64,
}

/// A step of the instantiation of a component. Only instances and components can be large or make others, so other items are
/// without an index.
#[derive(Debug)]
pub(super) enum InstanceStep<'a> {
    Import { name: &'a str, kind: ItemKind },
    Alias { instance: u32, name: &'a str, kind: ItemKind },
    Outer { levels: u32, index: u32 },
    Define { shape: usize },
    Instantiate { component: u32, arguments: Vec<Named<'a>> },
    Bundle { items: Vec<Named<'a>> },
    Export { item: Named<'a> },
}

/// An item under a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) kind: ItemKind,
    pub(super) index: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemKind {
    Instance,
    Component,
    Other,
}

impl From<ComponentExternalKind> for ItemKind {
    fn from(kind: ComponentExternalKind) -> Self {
        match kind {
            ComponentExternalKind::Instance => Self::Instance,
            ComponentExternalKind::Component => Self::Component,
            _ => Self::Other,
        }
    }
}

/// A type, or an item of such a type.
#[derive(Clone, Default)]
struct Type<'a> {
    /// How many types it consists of, those counted again that it has more than once.
    size: u64,
    depth: u32,
    /// Of instances and components.
    exports: Option<Rc<HashMap<&'a str, Self>>>,
}

/// The items of a component, or of the type of one, by index.
#[derive(Default)]
struct Space<'a> {
    types: Vec<Type<'a>>,
    functions: Vec<Type<'a>>,
    instances: Vec<Type<'a>>,
    components: Vec<Type<'a>>,
    exports: HashMap<&'a str, Type<'a>>,
    /// What all that is imported and exported consists of.
    size: u64,
    depth: u32,
}

/// A component that is being read.
struct OpenComponent<'a> {
    shape: usize,
    space: Space<'a>,
}

/// The type of a component or an instance that is being read.
struct OpenType<'a> {
    space: Space<'a>,
    remaining: u32,
}

/// All components of a binary, as far as it was read.
#[derive(Default)]
pub(super) struct Structure<'a> {
    shapes: Vec<Shape<'a>>,
    open: Vec<OpenComponent<'a>>,
}

impl<'a> Structure<'a> {
    /// What was read. The first is the whole.
    pub(super) fn into_shapes(self) -> Vec<Shape<'a>> {
        self.shapes
    }

    pub(super) fn begin(&mut self, counts: &Counts<'_>) -> Result<(), InspectError> {
        counts.depth(self.open.len())?;
        let shape = self.shapes.len();
        self.shapes.push(Shape::default());
        self.step(InstanceStep::Define { shape });
        self.open.push(OpenComponent { shape, space: Space::default() });
        Ok(())
    }

    pub(super) fn end(&mut self) {
        let Some(OpenComponent { space, .. }) = self.open.pop() else { return };
        if let Some(around) = self.open.last_mut() {
            around.space.components.push(space.into_type());
        }
    }

    /// Counts a section of the component that is being read. `bytes` is the binary.
    pub(super) fn section(
        &mut self,
        bytes: &'a [u8],
        payload: Payload<'a>,
        counts: &mut Counts<'_>,
    ) -> Result<(), InspectError> {
        match payload {
            Payload::ComponentTypeSection(section) => {
                let range = section.range();
                let data = bytes.get(range.clone()).unwrap_or_default();
                self.types(data, range.start, counts)
            }
            Payload::CoreTypeSection(section) => {
                for ty in section {
                    self.count(core_size(&ty?), counts)?;
                }
                Ok(())
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import?;
                    let ty = self.reference(&[], &import.ty);
                    self.count(ty.size, counts)?;
                    let kind = ItemKind::from(import.ty.kind());
                    self.step(InstanceStep::Import { name: import.name.name, kind });
                    self.space().import(import.ty.kind(), ty);
                }
                Ok(())
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    let own = self.space().item(export.kind, export.index);
                    let ty = export.ty.map_or(own, |ty| self.reference(&[], &ty));
                    self.count(ty.size, counts)?;
                    let item =
                        Named { name: export.name.name, kind: export.kind.into(), index: export.index };
                    self.step(InstanceStep::Export { item });
                    self.space().export(export.name.name, export.kind, ty);
                }
                Ok(())
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(&alias?, counts)?;
                }
                Ok(())
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    self.instance(instance?, counts)?;
                }
                Ok(())
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    let size = match instance? {
                        Instance::Instantiate { args, .. } => {
                            self.shape().core_instances += 1;
                            args.len()
                        }
                        Instance::FromExports(exports) => exports.len(),
                    };
                    self.count(1 + size as u64, counts)?;
                }
                Ok(())
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.canonical(&function?, counts)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn shape(&mut self) -> &mut Shape<'a> {
        let index = self.open.last().map_or(0, |open| open.shape);
        &mut self.shapes[index]
    }

    fn space(&mut self) -> &mut Space<'a> {
        &mut self.open.last_mut().expect("a section is in a component").space
    }

    fn step(&mut self, step: InstanceStep<'a>) {
        if !self.open.is_empty() {
            self.shape().steps.push(step);
        }
    }

    /// Counts what is written once, and again for each instance.
    fn count(&mut self, definitions: u64, counts: &mut Counts<'_>) -> Result<(), InspectError> {
        counts.definitions(definitions)?;
        let shape = self.shape();
        shape.definitions = shape.definitions.saturating_add(definitions);
        Ok(())
    }

    /// The space that is `levels` further out than the innermost type that is being read.
    fn outer<'s>(&'s self, types: &'s [OpenType<'a>], levels: u32) -> Option<&'s Space<'a>> {
        let levels = levels as usize;
        match types.len().checked_sub(levels + 1) {
            Some(index) => Some(&types[index].space),
            None => self.open.iter().rev().nth(levels - types.len()).map(|open| &open.space),
        }
    }

    fn ty(&self, types: &[OpenType<'a>], index: u32) -> Type<'a> {
        let space = self.outer(types, 0);
        space.and_then(|space| space.types.get(index as usize)).cloned().unwrap_or_default()
    }

    fn value(&self, types: &[OpenType<'a>], ty: ComponentValType) -> Type<'a> {
        match ty {
            ComponentValType::Primitive(_) => Type::ONE,
            ComponentValType::Type(index) => self.ty(types, index),
        }
    }

    /// The type of what is imported, or exported by a type.
    fn reference(&self, types: &[OpenType<'a>], ty: &ComponentTypeRef) -> Type<'a> {
        match *ty {
            ComponentTypeRef::Module(_) | ComponentTypeRef::Type(TypeBounds::SubResource) => Type::ONE,
            ComponentTypeRef::Value(ty) => self.value(types, ty),
            ComponentTypeRef::Func(index)
            | ComponentTypeRef::Type(TypeBounds::Eq(index))
            | ComponentTypeRef::Instance(index)
            | ComponentTypeRef::Component(index) => self.ty(types, index),
        }
    }

    /// Reads types one by one. Those in types of instances and components are not left to the parser, which reads them by
    /// recursion.
    fn types(&mut self, data: &'a [u8], offset: usize, counts: &mut Counts<'_>) -> Result<(), InspectError> {
        const COMPONENT: u8 = 0x41;
        const INSTANCE: u8 = 0x42;
        const TYPE_DECLARATION: u8 = 0x01;

        let mut reader = BinaryReader::new(data, offset);
        let mut top = reader.read_var_u32()?;
        let mut open = Vec::<OpenType<'a>>::new();
        loop {
            // What was opened is closed when all that is declared in it was read.
            while let Some(innermost) = open.pop_if(|innermost| innermost.remaining == 0) {
                let ty = innermost.space.into_type();
                self.declare(&mut open, ty, counts)?;
            }
            match open.last_mut() {
                Some(innermost) => {
                    innermost.remaining -= 1;
                    if data.get(reader.current_position()) != Some(&TYPE_DECLARATION) {
                        self.declaration(&mut open, reader.read()?, counts)?;
                        continue;
                    }
                    reader.read_u8()?;
                }
                None if top == 0 => return Ok(()),
                None => top -= 1,
            }
            if let Some(&(COMPONENT | INSTANCE)) = data.get(reader.current_position()) {
                reader.read_u8()?;
                let remaining = reader.read_var_u32()?;
                fits_depth(u32::try_from(open.len()).unwrap_or(u32::MAX))?;
                open.push(OpenType { space: Space::default(), remaining });
                continue;
            }
            let ty = self.simple(&open, &reader.read()?);
            self.declare(&mut open, ty, counts)?;
        }
    }

    /// Adds a type that was read to where it was.
    fn declare(
        &mut self,
        open: &mut [OpenType<'a>],
        ty: Type<'a>,
        counts: &mut Counts<'_>,
    ) -> Result<(), InspectError> {
        fits_depth(ty.depth)?;
        self.count(ty.size, counts)?;
        match open.last_mut() {
            Some(innermost) => innermost.space.types.push(ty),
            None => self.space().types.push(ty),
        }
        Ok(())
    }

    /// A type that has no declarations in it.
    fn simple(&mut self, open: &[OpenType<'a>], ty: &ComponentType<'a>) -> Type<'a> {
        let mut made = Type::ONE;
        let mut add = |ty: ComponentValType| made.add(&self.value(open, ty));
        match ty {
            ComponentType::Defined(ty) => match ty {
                ComponentDefinedType::Record(fields) => fields.iter().for_each(|field| add(field.1)),
                ComponentDefinedType::Variant(cases) => {
                    cases.iter().for_each(|case| add(case.ty.unwrap_or(ComponentValType::Primitive(UNIT))));
                }
                ComponentDefinedType::Tuple(types) => types.iter().copied().for_each(add),
                ComponentDefinedType::Flags(names) | ComponentDefinedType::Enum(names) => {
                    made.size += names.len() as u64;
                }
                ComponentDefinedType::Map(key, value) => [*key, *value].into_iter().for_each(add),
                ComponentDefinedType::Result { ok, err } => [*ok, *err].into_iter().flatten().for_each(add),
                ComponentDefinedType::Future(ty) | ComponentDefinedType::Stream(ty) => {
                    ty.iter().copied().for_each(add);
                }
                ComponentDefinedType::List(ty) | ComponentDefinedType::Option(ty) => add(*ty),
                // Each element of these is a value of its own where it is passed.
                ComponentDefinedType::FixedLengthList(ty, length) => {
                    add(*ty);
                    made.size = made.size.saturating_mul((*length).into());
                }
                ComponentDefinedType::Primitive(_)
                | ComponentDefinedType::Own(_)
                | ComponentDefinedType::Borrow(_) => (),
            },
            ComponentType::Func(function) => {
                function.params.iter().map(|parameter| parameter.1).chain(function.result).for_each(add);
            }
            ComponentType::Resource { .. } if open.is_empty() => self.shape().resources += 1,
            // Those with declarations are read above.
            ComponentType::Resource { .. } | ComponentType::Component(_) | ComponentType::Instance(_) => (),
        }
        made
    }

    /// What the type of an instance or a component declares.
    fn declaration(
        &mut self,
        open: &mut [OpenType<'a>],
        declaration: ComponentTypeDeclaration<'a>,
        counts: &mut Counts<'_>,
    ) -> Result<(), InspectError> {
        let (size, change): (u64, Change<'a>) = match declaration {
            ComponentTypeDeclaration::CoreType(ty) => (core_size(&ty), Change::None),
            // Types are read above.
            ComponentTypeDeclaration::Type(_) => return Ok(()),
            ComponentTypeDeclaration::Alias(alias) => {
                let (kind, ty) = self.aliased(open, &alias);
                (ty.size, kind.map_or(Change::None, |kind| Change::Alias(kind, ty)))
            }
            ComponentTypeDeclaration::Export { name, ty: reference } => {
                let ty = self.reference(open, &reference);
                (ty.size, Change::Export(name.name, reference.kind(), ty))
            }
            ComponentTypeDeclaration::Import(import) => {
                let ty = self.reference(open, &import.ty);
                (ty.size, Change::Import(import.ty.kind(), ty))
            }
        };
        self.count(size, counts)?;
        let Some(OpenType { space, .. }) = open.last_mut() else { return Ok(()) };
        match change {
            Change::None => (),
            Change::Alias(kind, ty) => space.push(kind, ty),
            Change::Export(name, kind, ty) => space.export(name, kind, ty),
            Change::Import(kind, ty) => space.import(kind, ty),
        }
        Ok(())
    }

    /// What an alias stands for, unless that is an item of a core module.
    fn aliased(
        &self,
        open: &[OpenType<'a>],
        alias: &ComponentAlias<'a>,
    ) -> (Option<ComponentExternalKind>, Type<'a>) {
        match *alias {
            ComponentAlias::InstanceExport { kind, instance_index, name } => {
                let space = self.outer(open, 0);
                let instance = space.and_then(|space| space.instances.get(instance_index as usize));
                let exports = instance.and_then(|instance| instance.exports.as_ref());
                let ty = exports.and_then(|exports| exports.get(name));
                (Some(kind), ty.cloned().unwrap_or(Type::ONE))
            }
            ComponentAlias::CoreInstanceExport { .. } => (None, Type::ONE),
            ComponentAlias::Outer { kind, count, index } => {
                let space = self.outer(open, count);
                let (kind, items) = match kind {
                    ComponentOuterAliasKind::Type => {
                        (ComponentExternalKind::Type, space.map(|space| &space.types))
                    }
                    ComponentOuterAliasKind::Component => {
                        (ComponentExternalKind::Component, space.map(|space| &space.components))
                    }
                    ComponentOuterAliasKind::CoreModule | ComponentOuterAliasKind::CoreType => {
                        return (None, Type::ONE);
                    }
                };
                let ty = items.and_then(|items| items.get(index as usize));
                (Some(kind), ty.cloned().unwrap_or(Type::ONE))
            }
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'a>, counts: &mut Counts<'_>) -> Result<(), InspectError> {
        let (kind, ty) = self.aliased(&[], alias);
        self.count(ty.size, counts)?;
        match *alias {
            ComponentAlias::InstanceExport { kind, instance_index, name } => {
                self.step(InstanceStep::Alias { instance: instance_index, name, kind: kind.into() });
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                self.step(InstanceStep::Outer { levels: count, index });
                // Each component between the two has it as well.
                let around = self.open.iter().rev().zip((1..=count).rev());
                for (open, levels) in around {
                    self.shapes[open.shape].captures.push((levels - 1, index));
                }
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, count, .. } => {
                for open in self.open.iter().rev().take(count as usize) {
                    self.shapes[open.shape].captured_modules += 1;
                }
            }
            ComponentAlias::CoreInstanceExport { .. } | ComponentAlias::Outer { .. } => (),
        }
        if let Some(kind) = kind {
            self.space().push(kind, ty);
        }
        Ok(())
    }

    fn instance(
        &mut self,
        instance: ComponentInstance<'a>,
        counts: &mut Counts<'_>,
    ) -> Result<(), InspectError> {
        match instance {
            ComponentInstance::Instantiate { component_index, args } => {
                let mut ty = self.space().item(ComponentExternalKind::Component, component_index);
                // What is passed is compared with what is imported.
                let mut size = ty.size;
                for argument in &args {
                    size = size.saturating_add(self.space().item(argument.kind, argument.index).size);
                }
                self.count(1 + size, counts)?;
                ty.size = ty.size.max(1);
                let arguments = args
                    .iter()
                    .map(|argument| Named {
                        name: argument.name,
                        kind: argument.kind.into(),
                        index: argument.index,
                    })
                    .collect();
                self.step(InstanceStep::Instantiate { component: component_index, arguments });
                self.space().push(ComponentExternalKind::Instance, ty);
            }
            ComponentInstance::FromExports(exports) => {
                let mut bundle = Space::default();
                let mut items = Vec::with_capacity(exports.len());
                for export in &exports {
                    let ty = self.space().item(export.kind, export.index);
                    bundle.export(export.name.name, export.kind, ty);
                    items.push(Named {
                        name: export.name.name,
                        kind: export.kind.into(),
                        index: export.index,
                    });
                }
                let ty = bundle.into_type();
                self.count(ty.size, counts)?;
                fits_depth(ty.depth)?;
                self.step(InstanceStep::Bundle { items });
                self.space().push(ComponentExternalKind::Instance, ty);
            }
        }
        Ok(())
    }

    fn canonical(
        &mut self,
        function: &CanonicalFunction,
        counts: &mut Counts<'_>,
    ) -> Result<(), InspectError> {
        let size = match *function {
            CanonicalFunction::Lift { type_index, .. } => {
                let ty = self.ty(&[], type_index);
                let size = ty.size;
                self.space().functions.push(ty);
                size
            }
            CanonicalFunction::Lower { func_index, .. } => {
                self.space().item(ComponentExternalKind::Func, func_index).size.saturating_mul(ADAPTER)
            }
            CanonicalFunction::TaskReturn { result: Some(ty), .. } => self.value(&[], ty).size,
            CanonicalFunction::StreamNew { ty }
            | CanonicalFunction::StreamRead { ty, .. }
            | CanonicalFunction::StreamWrite { ty, .. }
            | CanonicalFunction::StreamCancelRead { ty, .. }
            | CanonicalFunction::StreamCancelWrite { ty, .. }
            | CanonicalFunction::StreamDropReadable { ty }
            | CanonicalFunction::StreamDropWritable { ty }
            | CanonicalFunction::FutureNew { ty }
            | CanonicalFunction::FutureRead { ty, .. }
            | CanonicalFunction::FutureWrite { ty, .. }
            | CanonicalFunction::FutureCancelRead { ty, .. }
            | CanonicalFunction::FutureCancelWrite { ty, .. }
            | CanonicalFunction::FutureDropReadable { ty }
            | CanonicalFunction::FutureDropWritable { ty } => self.ty(&[], ty).size,
            _ => 0,
        };
        self.shape().functions += 1;
        self.count(1 + size, counts)
    }
}

/// What a case without a value has.
const UNIT: PrimitiveValType = PrimitiveValType::Bool;

/// What a declaration adds to the type that it is in.
enum Change<'a> {
    None,
    Alias(ComponentExternalKind, Type<'a>),
    Export(&'a str, ComponentExternalKind, Type<'a>),
    Import(ComponentExternalKind, Type<'a>),
}

/// How many types a core type consists of.
fn core_size(ty: &CoreType<'_>) -> u64 {
    match ty {
        CoreType::Rec(group) => group.types().len() as u64,
        CoreType::Module(declarations) => {
            let sizes = declarations.iter().map(|declaration| match declaration {
                ModuleTypeDeclaration::Type(group) => group.types().len() as u64,
                _ => 1,
            });
            1 + sizes.sum::<u64>()
        }
    }
}

impl Type<'_> {
    const ONE: Self = Self { size: 1, depth: 1, exports: None };

    /// This has the other in it.
    fn add(&mut self, other: &Self) {
        self.size = self.size.saturating_add(other.size);
        self.depth = self.depth.max(other.depth + 1);
    }
}

impl<'a> Space<'a> {
    fn into_type(mut self) -> Type<'a> {
        let exports = (!self.exports.is_empty()).then(|| Rc::new(mem::take(&mut self.exports)));
        Type { size: self.size.saturating_add(1), depth: self.depth + 1, exports }
    }

    fn item(&self, kind: ComponentExternalKind, index: u32) -> Type<'a> {
        let items = match kind {
            ComponentExternalKind::Type => &self.types,
            ComponentExternalKind::Func => &self.functions,
            ComponentExternalKind::Instance => &self.instances,
            ComponentExternalKind::Component => &self.components,
            ComponentExternalKind::Module | ComponentExternalKind::Value => return Type::ONE,
        };
        items.get(index as usize).cloned().unwrap_or(Type::ONE)
    }

    fn push(&mut self, kind: ComponentExternalKind, ty: Type<'a>) {
        match kind {
            ComponentExternalKind::Type => self.types.push(ty),
            ComponentExternalKind::Func => self.functions.push(ty),
            ComponentExternalKind::Instance => self.instances.push(ty),
            ComponentExternalKind::Component => self.components.push(ty),
            ComponentExternalKind::Module | ComponentExternalKind::Value => (),
        }
    }

    fn import(&mut self, kind: ComponentExternalKind, ty: Type<'a>) {
        self.size = self.size.saturating_add(ty.size.max(1));
        self.depth = self.depth.max(ty.depth);
        self.push(kind, ty);
    }

    fn export(&mut self, name: &'a str, kind: ComponentExternalKind, ty: Type<'a>) {
        self.exports.insert(name, ty.clone());
        self.import(kind, ty);
    }
}
