//! Small components that would take the compiler gigabytes or minutes. Each is refused before it is compiled: otherwise these
//! tests end by their timeout, or by the signal that ends a program without memory or stack.

use std::fmt::Write as _;

use frame_dispatch::wasm::{ComponentLimits, WasmConfig, WasmEngine, WasmError};

use crate::common::{engine, run};

/// The setting whose limit a component exceeds.
fn limit(component: &[u8]) -> &'static str {
    match engine().function(component, WasmConfig::default()).unwrap_err() {
        WasmError::TooComplex { setting, .. } => setting,
        other => panic!("{other}"),
    }
}

/// As [`limit`], of a component in text.
fn limit_of(text: &str) -> &'static str {
    limit(&frame_guests::text(text))
}

/// Why a component is refused that no limit of the engine allows.
fn reason(component: &[u8]) -> String {
    match engine().function(component, WasmConfig::default()).unwrap_err() {
        WasmError::Compile { reason } => reason,
        other => panic!("{other}"),
    }
}

/// The text of a component with `level` for each number up to `levels`, and `last` with the last number.
fn levels(first: &str, levels: usize, level: impl Fn(usize, usize) -> String, last: &str) -> String {
    let mut text = format!("(component $root {first}\n");
    for number in 1..=levels {
        let _ = writeln!(text, "{}", level(number, number - 1));
    }
    let _ = write!(text, "{})", last.replace("LAST", &levels.to_string()));
    text
}

/// A number as the binary format has it.
fn number(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &number(content.len()), content].concat()
}

#[test]
fn components_that_each_instantiate_the_one_before_twice_are_refused() {
    let twice = levels(
        "(component $c0)",
        30,
        |this, before| {
            format!(
                "(component $c{this} (alias outer $root $c{before} (component $c))
                   (instance (instantiate $c)) (instance (instantiate $c)))"
            )
        },
        "(instance (instantiate $cLAST))",
    );
    assert!(frame_guests::text(&twice).len() < 2_000);
    assert_eq!(limit_of(&twice), "instances");
}

#[test]
fn components_that_instantiate_what_they_are_given_twice_are_refused() {
    let given = levels(
        r#"(component $leaf) (component $c0 (import "c" (component $c)) (instance (instantiate $c)))"#,
        20,
        |this, before| {
            format!(
                r#"(component $c{this} (import "c" (component $c)) (alias outer $root $c{before} (component $d))
                     (instance (instantiate $d (with "c" (component $c))))
                     (instance (instantiate $d (with "c" (component $c)))))"#
            )
        },
        r#"(instance (instantiate $cLAST (with "c" (component $leaf))))"#,
    );
    assert_eq!(limit_of(&given), "instances");
}

#[test]
fn core_modules_that_are_instantiated_in_components_count_too() {
    let modules = levels(
        "(core module $m)",
        3,
        |this, before| {
            let inner = if before == 0 {
                "(alias outer $root $m (core module $x)) ".to_owned()
                    + &"(core instance (instantiate $x))".repeat(10)
            } else {
                format!("(alias outer $root $c{before} (component $x)) ")
                    + &"(instance (instantiate $x))".repeat(10)
            };
            format!("(component $c{this} {inner})")
        },
        "(instance (instantiate $cLAST))",
    );
    assert_eq!(limit_of(&modules), "instances");
}

#[test]
fn instances_that_each_have_the_one_before_twice_are_refused() {
    let bundles = levels(
        r"(instance $i0)",
        30,
        |this, before| {
            format!(
                r#"(instance $i{this} (export "a" (instance $i{before})) (export "b" (instance $i{before})))"#
            )
        },
        "",
    );
    assert_eq!(limit_of(&bundles), "definitions");
    // Each copy of one that is just small enough for the parser counts.
    let copies = levels(
        r"(instance $i0)",
        12,
        |this, before| {
            format!(
                r#"(instance $i{this} (export "a" (instance $i{before})) (export "b" (instance $i{before})))"#
            )
        },
        &(0..500).fold(String::new(), |mut all, copy| {
            let _ = write!(all, r#"(export "x{copy}" (instance $i12))"#);
            all
        }),
    );
    assert_eq!(limit_of(&copies), "definitions");
}

/// A component sees less of what it is given than there is, and copies all of it.
#[test]
fn large_instances_that_components_are_given_are_counted_as_they_are() {
    let mut exports = String::new();
    for copy in 0..900 {
        let _ = write!(exports, r#"(export "x{copy}" (instance $i))"#);
    }
    let given = levels(
        &format!(r#"(instance $i0) (component $c (import "i" (instance $i)) {exports})"#),
        12,
        |this, before| {
            format!(
                r#"(instance $i{this} (export "a" (instance $i{before})) (export "b" (instance $i{before})))"#
            )
        },
        r#"(instance (instantiate $c (with "i" (instance $iLAST))))"#,
    );
    assert_eq!(limit_of(&given), "definitions");
}

#[test]
fn components_that_each_capture_the_one_before_twice_are_refused() {
    let captured = levels(
        "(component $c0)",
        30,
        |this, before| {
            format!(
                r#"(export $e{before} "e{before}" (component $c{before}))
                   (component $c{this} (alias outer $root $c{before} (component))
                     (alias outer $root $e{before} (component)))"#
            )
        },
        "",
    );
    assert_eq!(limit_of(&captured), "definitions");
}

#[test]
fn types_that_each_have_the_one_before_twice_are_refused() {
    let tuples = |count| {
        levels(
            "(type $t0 (tuple u8 u8))",
            count,
            |this, before| format!("(type $t{this} (tuple $t{before} $t{before}))"),
            "",
        )
    };
    assert_eq!(limit_of(&tuples(30)), "definitions");
    let functions = tuples(12).trim_end_matches(')').to_owned() + ")";
    let functions = functions.trim_end_matches("\n)").to_owned()
        + &"(type (func (param \"a\" $t12) (result $t12)))".repeat(100)
        + ")";
    assert_eq!(limit_of(&functions), "definitions");

    let instances = levels(
        "(type $t0 (instance))",
        30,
        |this, before| {
            format!(
                r#"(type $t{this} (instance (alias outer $root $t{before} (type $t))
                     (export "a" (instance (type $t))) (export "b" (instance (type $t)))))"#
            )
        },
        "",
    );
    assert_eq!(limit_of(&instances), "definitions");
    let components = levels(
        "(type $t0 (component))",
        30,
        |this, before| {
            format!(
                r#"(type $t{this} (component (alias outer $root $t{before} (type $t))
                     (import "a" (component (type $t))) (export "b" (component (type $t)))))"#
            )
        },
        "",
    );
    assert_eq!(limit_of(&components), "definitions");
    let lists =
        levels("(type $t0 u8)", 10, |this, before| format!("(type $t{this} (list $t{before} 1000))"), "");
    assert_eq!(limit_of(&lists), "definitions");
}

/// The parser reads types in types by recursion, and the compiler follows them so.
#[test]
fn types_that_are_nested_deep_are_refused() {
    const LEVELS: usize = 200_000;
    for kind in [0x41, 0x42] {
        // One type, which is a component or an instance with one declaration, a type, which is one with one declaration, …
        let mut types = number(1);
        for _ in 0..LEVELS {
            types.extend([kind, 1, 1]);
        }
        types.extend([kind, 0]);
        let deep = [COMPONENT, &section(7, &types)].concat();
        assert_eq!(reason(&deep), "its types are nested more than 100 levels deep");
    }
    // Each has the one before by its index.
    let mut types = number(LEVELS);
    types.extend([0x42, 0]);
    for before in 0..LEVELS - 1 {
        types.extend([0x42, 2]);
        types.extend([2, 3, 2, 1]);
        types.extend(number(before));
        types.extend([4, 0, 1, b'a', 5, 0]);
    }
    let chain = [COMPONENT, &section(7, &types)].concat();
    assert_eq!(reason(&chain), "its types are nested more than 100 levels deep");
}

#[test]
fn components_in_components_are_refused_if_they_are_nested_deep() {
    let mut deep = COMPONENT.to_vec();
    for _ in 0..2_000 {
        deep = [COMPONENT, &section(4, &deep)].concat();
    }
    assert_eq!(limit(&deep), "depth");

    // None is in another, and each instantiates the one before.
    let chain = levels(
        "(component $c0)",
        200,
        |this, before| {
            format!(
                "(component $c{this} (alias outer $root $c{before} (component $c)) (instance (instantiate $c)))"
            )
        },
        "(instance (instantiate $cLAST))",
    );
    assert_eq!(limit_of(&chain), "depth");
}

#[test]
fn functions_are_counted_in_modules_and_between_components() {
    let bodies = frame_guests::component(&format!("{} {}", "(func)".repeat(60_000), run("unreachable")));
    assert_eq!(limit(&bodies), "functions");
    let lowered = format!(
        r#"(component (import "f" (func $f)) {})"#,
        "(core func (canon lower (func $f)))".repeat(60_000)
    );
    assert_eq!(limit_of(&lowered), "functions");
    // In instances of a component as often as it has any.
    let instances = format!(
        r#"(component $root (import "f" (func $f)) (component $c (import "f" (func $f)) {}) {})"#,
        "(core func (canon lower (func $f)))".repeat(1_000),
        r#"(instance (instantiate $c (with "f" (func $f))))"#.repeat(60)
    );
    assert_eq!(limit_of(&instances), "functions");
}

#[test]
fn loops_with_thousands_of_locals_are_refused() {
    let locals = "i32 ".repeat(4_000);
    let uses = (0..4_000).fold(String::new(), |mut all, local| {
        let _ = write!(all, "(local.set {local} (i32.add (local.get {local}) (i32.const 1)))");
        all
    });
    let loops = format!("{uses} {} {uses} {}", "(loop ".repeat(2_000), "(br 0))".repeat(2_000));
    let bomb = frame_guests::component(&format!("(func (local {locals}) {loops}) {}", run("unreachable")));
    assert_eq!(limit(&bomb), "function_work");
}

/// The compiler takes minutes to place values that are all there at once.
#[test]
fn thousands_of_values_at_once_are_refused() {
    const COUNT: usize = 40_000;
    let computed = |set: &str| {
        (0..COUNT).fold(String::new(), |mut all, value| {
            let _ = write!(all, "{}", set.replace('N', &value.to_string()));
            all
        })
    };
    let stack = format!(
        "(func (param i32) (result i32) {} {})",
        computed("(i32.const N) (local.get 0) (i32.mul)"),
        "i32.xor ".repeat(COUNT - 1)
    );
    let locals = format!(
        "(func (param i32) (result i32) (local {}) {} (local.get 0) {})",
        "i32 ".repeat(COUNT + 1),
        computed("(local.set N (i32.mul (local.get 0) (i32.const N)))"),
        computed("(i32.xor (local.get N))")
    );
    for function in [stack, locals] {
        let bomb = frame_guests::component(&format!("{function} {}", run("unreachable")));
        assert_eq!(limit(&bomb), "function_work");
    }
}

#[test]
fn tens_of_thousands_of_blocks_in_a_function_are_refused() {
    let nested = |blocks: usize| "block ".repeat(blocks) + &"end ".repeat(blocks);
    let in_sequence = |blocks: usize| "block end ".repeat(blocks);
    let component = |code: String| frame_guests::component(&format!("(func {code}) {}", run("unreachable")));
    assert_eq!(limit(&component(nested(40_000))), "function_work");
    assert_eq!(limit(&component(in_sequence(40_000))), "function_work");
    // As many as a `switch` of any program has.
    engine().function(&component(nested(2_000)), WasmConfig::default()).unwrap();
    engine().function(&component(in_sequence(2_000)), WasmConfig::default()).unwrap();
}

#[test]
fn blocks_and_calls_that_pass_hundreds_of_values_are_refused() {
    let many = |count: usize| "i32 ".repeat(count);
    let around = |count: usize, code: String| {
        format!("(func $f {} {code} {})", "i32.const 0 ".repeat(count), "drop ".repeat(count))
    };
    let component = |code: String| frame_guests::component(&format!("{code} {}", run("unreachable")));
    let block = format!("loop (param {0}) (result {0}) end ", many(500));
    assert_eq!(limit(&component(around(500, block.repeat(900)))), "function_work");
    let callee = format!("(func $g (param {0}) (result {0}) unreachable)", many(500));
    let calls = around(500, "call $g ".repeat(400));
    assert_eq!(limit(&component(format!("{callee} {calls}"))), "function_work");
    engine().function(&component(around(500, block.repeat(10))), WasmConfig::default()).unwrap();
}

#[test]
fn values_that_operators_pass_without_naming_them_are_counted() {
    let many = "i32 ".repeat(1_000);
    let calls = format!(
        "(type $many (func (param {many}) (result {many})))
         (func $f (type $many) {} {})",
        (0..1_000).fold(String::new(), |mut all, local| {
            let _ = write!(all, "(local.get {local})");
            all
        }),
        "(call $f)".repeat(3_000)
    );
    let bomb = frame_guests::component(&format!("{calls} {}", run("unreachable")));
    assert_eq!(limit(&bomb), "function_work");
    let branches = format!(
        "(type $many (func (result {many})))
         (func (type $many) (block (type $many) unreachable (br_table {})))",
        "0 ".repeat(5_000)
    );
    let bomb = frame_guests::component(&format!("{branches} {}", run("unreachable")));
    assert_eq!(limit(&bomb), "function_work");
    let signatures = format!("(type $many (func (param {many}) (result {many}))) {}", {
        "(func (type $many) unreachable)".repeat(30_000)
    });
    let bomb = frame_guests::component(&format!("{signatures} {}", run("unreachable")));
    assert_eq!(limit(&bomb), "work");
}

#[test]
fn data_far_apart_is_counted_as_the_image_that_is_made_of_it() {
    let module = r#"(core module (memory 256) (data (i32.const 0) "a") (data (i32.const 16777214) "a"))"#;
    let bomb = format!("(component {})", module.repeat(100));
    assert!(frame_guests::text(&bomb).len() < 10_000);
    assert_eq!(limit_of(&bomb), "size");
}

#[test]
fn tables_and_memories_that_begin_large_are_refused() {
    let tables = "(core module (table 1000000 funcref) (func $f) (elem (i32.const 999999) $f))".repeat(100);
    let bomb = frame_guests::text(&format!("(component {tables})"));
    assert_eq!(reason(&bomb), "its tables have more than 4194304 elements to begin with");
    for module in ["(memory 65536)", "(memory i64 0x1000000000000)", "(table 30000 funcref)"] {
        let bomb = frame_guests::text(&format!("(component (core module {module}))"));
        assert!(engine().function(&bomb, WasmConfig::default()).is_err(), "{module}");
    }
}

#[test]
fn a_binary_is_refused_by_its_size() {
    let engine =
        WasmEngine::builder().component_limits(ComponentLimits::default().with_size(100)).build().unwrap();
    let refused = engine.function(&frame_guests::guest("echo"), WasmConfig::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the component is not compiled: it has more than 100 bytes, which is the limit `size`"
    );
}

/// None of these numbers leads to anything.
#[test]
fn a_component_that_names_what_is_not_there_is_refused() {
    let absent = number(1_000_000);
    let sections = [
        section(5, &[&[1, 0][..], &absent, &[0]].concat()),
        section(6, &[&[1, 5, 0][..], &absent, &[1, b'a']].concat()),
        section(6, &[&[1, 4, 2][..], &absent, &absent].concat()),
        section(8, &[&[1, 1, 0][..], &absent, &[0]].concat()),
        section(10, &[&[1, 0, 1, b'a', 5][..], &absent].concat()),
        section(11, &[&[1, 0, 1, b'a', 5][..], &absent, &[0]].concat()),
    ];
    for section in sections {
        let component = [COMPONENT, &section].concat();
        let refused = engine().function(&component, WasmConfig::default()).unwrap_err();
        assert!(matches!(refused, WasmError::Compile { .. }), "{refused}");
    }
}
