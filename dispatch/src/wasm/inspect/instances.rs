//! Instances, as the compiler makes them.
//!
//! The compiler writes out each instance of each component, with a copy of what is passed to it. This follows it without
//! copying anything, and counts what it would copy.

use std::collections::HashMap;
use std::rc::Rc;

use super::structure::{InstanceStep, ItemKind, Named, Shape};
use super::{Counts, InspectError, fits_depth};

/// An instance or a component, as one of the instances around it has it.
#[derive(Clone)]
enum Value<'a> {
    /// The program has it: a name.
    Import,
    Instance(Rc<Bundle<'a>>),
    /// A component, with the instance that has defined it, and how large what it has captured is.
    Component {
        shape: usize,
        definer: usize,
        size: u64,
    },
}

/// The items of an instance. Those that are neither instances nor components are in its size alone.
#[derive(Default)]
struct Bundle<'a> {
    items: HashMap<&'a str, Value<'a>>,
    size: u64,
    depth: u32,
}

/// An instance of a component that is being made.
struct Frame<'a> {
    /// The instance in which the component was defined.
    definer: Option<usize>,
    instances: Vec<Value<'a>>,
    components: Vec<Value<'a>>,
}

/// All instances, those that are made already included: components in them have to be found.
struct Instances<'s, 'a> {
    shapes: &'s [Shape<'a>],
    frames: Vec<Frame<'a>>,
}

/// Counts the instances that a component makes of those that are in it, `shapes`, of which it is the first.
pub(super) fn follow(shapes: &[Shape<'_>], counts: &mut Counts<'_>) -> Result<(), InspectError> {
    if shapes.is_empty() {
        return Ok(());
    }
    Instances { shapes, frames: Vec::new() }.instantiate(0, None, &HashMap::new(), 0, counts).map(drop)
}

impl<'a> Instances<'_, 'a> {
    fn instantiate(
        &mut self,
        shape: usize,
        definer: Option<usize>,
        arguments: &HashMap<&'a str, Value<'a>>,
        depth: usize,
        counts: &mut Counts<'_>,
    ) -> Result<Bundle<'a>, InspectError> {
        let shapes = self.shapes;
        let this = &shapes[shape];
        counts.depth(depth)?;
        counts.instances(1 + this.core_instances)?;
        counts.functions(this.functions)?;
        // What was written was counted as it was read, for one instance.
        counts.definitions(this.definitions.saturating_add(this.resources))?;
        let frame = self.frames.len();
        self.frames.push(Frame { definer, instances: Vec::new(), components: Vec::new() });
        let mut exports = Bundle::default();
        for step in &this.steps {
            match step {
                InstanceStep::Import { name, kind } => {
                    let value = arguments.get(name).cloned().unwrap_or(Value::Import);
                    self.push(frame, *kind, value, counts)?;
                }
                InstanceStep::Alias { instance, name, kind } => {
                    let value = match self.item(frame, ItemKind::Instance, *instance) {
                        Value::Instance(bundle) => bundle.items.get(name).cloned().unwrap_or(Value::Import),
                        _ => Value::Import,
                    };
                    self.push(frame, *kind, value, counts)?;
                }
                InstanceStep::Outer { levels, index } => {
                    let value = self.outer(Some(frame), *levels, *index);
                    self.push(frame, ItemKind::Component, value, counts)?;
                }
                InstanceStep::Define { shape } => {
                    let component = &shapes[*shape];
                    let captured = component
                        .captures
                        .iter()
                        .map(|(levels, index)| self.outer(Some(frame), *levels, *index).size());
                    let size = captured.fold(1 + component.captured_modules, u64::saturating_add);
                    let value = Value::Component { shape: *shape, definer: frame, size };
                    self.push(frame, ItemKind::Component, value, counts)?;
                }
                InstanceStep::Instantiate { component, arguments } => {
                    let passed = self.bundle(frame, arguments, counts)?;
                    let component = self.item(frame, ItemKind::Component, *component);
                    counts.definitions(component.size())?;
                    let instance = match component {
                        Value::Component { shape, definer, .. } => {
                            let made =
                                self.instantiate(shape, Some(definer), &passed.items, depth + 1, counts)?;
                            Value::Instance(Rc::new(made))
                        }
                        _ => Value::Import,
                    };
                    self.push(frame, ItemKind::Instance, instance, counts)?;
                }
                InstanceStep::Bundle { items } => {
                    let bundle = self.bundle(frame, items, counts)?;
                    self.push(frame, ItemKind::Instance, Value::Instance(Rc::new(bundle)), counts)?;
                }
                // It has an index of its own.
                InstanceStep::Export { item } => {
                    let value = self.item(frame, item.kind, item.index);
                    exports.insert(item, value.clone(), counts)?;
                    self.push(frame, item.kind, value, counts)?;
                }
            }
        }
        Ok(exports)
    }

    /// The items, under their names.
    fn bundle(
        &self,
        frame: usize,
        items: &[Named<'a>],
        counts: &mut Counts<'_>,
    ) -> Result<Bundle<'a>, InspectError> {
        let mut bundle = Bundle::default();
        for item in items {
            bundle.insert(item, self.item(frame, item.kind, item.index), counts)?;
        }
        Ok(bundle)
    }

    /// Adds an item to an instance, which has a copy of it.
    fn push(
        &mut self,
        frame: usize,
        kind: ItemKind,
        value: Value<'a>,
        counts: &mut Counts<'_>,
    ) -> Result<(), InspectError> {
        counts.definitions(value.size())?;
        match kind {
            ItemKind::Instance => self.frames[frame].instances.push(value),
            ItemKind::Component => self.frames[frame].components.push(value),
            ItemKind::Other => (),
        }
        Ok(())
    }

    fn item(&self, frame: usize, kind: ItemKind, index: u32) -> Value<'a> {
        let items = match kind {
            ItemKind::Instance => &self.frames[frame].instances,
            ItemKind::Component => &self.frames[frame].components,
            ItemKind::Other => return Value::Import,
        };
        items.get(index as usize).cloned().unwrap_or(Value::Import)
    }

    /// A component of an instance further out.
    fn outer(&self, mut frame: Option<usize>, levels: u32, index: u32) -> Value<'a> {
        for _ in 0..levels {
            frame = frame.and_then(|frame| self.frames[frame].definer);
        }
        frame.map_or(Value::Import, |frame| self.item(frame, ItemKind::Component, index))
    }
}

impl Value<'_> {
    fn size(&self) -> u64 {
        match self {
            Self::Import => 1,
            Self::Instance(bundle) => bundle.size.saturating_add(1),
            Self::Component { size, .. } => *size,
        }
    }

    fn depth(&self) -> u32 {
        match self {
            Self::Instance(bundle) => bundle.depth,
            Self::Import | Self::Component { .. } => 0,
        }
    }
}

impl<'a> Bundle<'a> {
    fn insert(
        &mut self,
        item: &Named<'a>,
        value: Value<'a>,
        counts: &mut Counts<'_>,
    ) -> Result<(), InspectError> {
        counts.definitions(value.size())?;
        self.size = self.size.saturating_add(value.size());
        self.depth = self.depth.max(value.depth() + 1);
        // They are dropped by recursion, here and in the compiler.
        fits_depth(self.depth)?;
        if item.kind != ItemKind::Other {
            self.items.insert(item.name, value);
        }
        Ok(())
    }
}
