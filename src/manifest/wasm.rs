//! `[wasm]`.

use frame_dispatch::wasm::ComponentLimits;

use super::model::WasmSection;
use super::reader::{Read, Reported, Table, Value};

/// As many as address space can be reserved for on any machine.
const INSTANCES: std::ops::RangeInclusive<u64> = 1..=100_000;
const MEMORIES: std::ops::RangeInclusive<u64> = 1..=100;
/// A page of WebAssembly, and all that its addresses reach.
const RESERVATION: std::ops::RangeInclusive<u64> = 64 << 10..=4 << 30;
const COUNT: std::ops::RangeInclusive<u64> = 1..=1 << 40;

/// What all components share, and what each of them may be.
pub(super) fn section(document: &Table<'_>) -> WasmSection {
    let example = "{ instances = 64 }";
    let Ok(Some(table)) = document.optional("wasm", |value| value.table("`[wasm]`", example)) else {
        return WasmSection::default();
    };
    table.only(&["instances", "memories", "memory_reservation", "component"]);
    let default = WasmSection::default();
    let instances = table.or("instances", default.instances, |value| number(value, INSTANCES, "64"));
    let memories = table.or("memories", default.memories, |value| number(value, MEMORIES, "1"));
    let reservation = table
        .or("memory_reservation", default.memory_reservation, |value| value.size(RESERVATION, "\"64MiB\""));
    WasmSection {
        instances: instances.unwrap_or(default.instances),
        memories: memories.unwrap_or(default.memories),
        memory_reservation: reservation.unwrap_or(default.memory_reservation),
        component: component(&table),
    }
}

/// What a component may take to be compiled.
fn component(table: &Table<'_>) -> ComponentLimits {
    let default = ComponentLimits::default();
    let example = "{ functions = 100_000 }";
    let Ok(Some(table)) = table.optional("component", |value| value.table("`component`", example)) else {
        return default;
    };
    table.only(&["size", "depth", "instances", "definitions", "functions", "function_work", "work"]);
    let count = |name: &str, default: u64| {
        table.or(name, default, |value| value.integer(COUNT, "100_000")).unwrap_or(default)
    };
    let size = table.or("size", default.size, |value| value.size(COUNT, "\"256MiB\""));
    let depth = table.or("depth", default.depth, |value| number(value, 1..=100, "32"));
    ComponentLimits::default()
        .with_size(size.unwrap_or(default.size))
        .with_depth(depth.unwrap_or(default.depth))
        .with_instances(count("instances", default.instances))
        .with_definitions(count("definitions", default.definitions))
        .with_functions(count("functions", default.functions))
        .with_function_work(count("function_work", default.function_work))
        .with_work(count("work", default.work))
}

fn number(value: &Value<'_>, range: std::ops::RangeInclusive<u64>, example: &str) -> Read<u32> {
    u32::try_from(value.integer(range, example)?).map_err(|_| Reported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_engine() {
        let section = WasmSection::default();
        assert_eq!((section.instances, section.memories), (256, 4));
        assert_eq!(section.memory_reservation, 4 << 30);
    }
}
