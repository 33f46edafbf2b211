//! Components for the tests, the benchmarks and the examples of the WebAssembly engine, each built from a core module in
//! text and the world in `dispatch/wit`, without any tool beside Cargo.
//!
//! `cargo run -p frame-guests -- <directory>` writes those of [`GUESTS`] to files.

use std::path::Path;
use std::sync::LazyLock;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

/// The components, by name, as core modules in text.
pub const GUESTS: &[(&str, &str)] = &[
    ("call", include_str!("../wat/call.wat")),
    ("echo", include_str!("../wat/echo.wat")),
    ("frame", include_str!("../wat/frame.wat")),
    ("log", include_str!("../wat/log.wat")),
    ("network", include_str!("../wat/network.wat")),
    ("remember", include_str!("../wat/remember.wat")),
    ("second", include_str!("../wat/second.wat")),
    ("steps", include_str!("../wat/steps.wat")),
    ("stdout", include_str!("../wat/stdout.wat")),
];

/// What every one of them ends with: a memory, and `cabi_realloc`, which takes from the end of what is used and grows the
/// memory as needed. The first 1024 bytes it leaves alone.
const ALLOCATOR: &str = include_str!("../wat/allocator.wat");

/// The world of `wit`, which has the one of `dispatch/wit` in it.
static WORLD: LazyLock<(Resolve, WorldId)> =
    LazyLock::new(|| world(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/wit"))));

/// The one world of a directory, which can name those of `dispatch/wit`.
fn world(wit: &Path) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let mut push = |path: &Path| resolve.push_path(path).unwrap_or_else(|error| panic!("{error:?}")).0;
    push(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit")));
    let package = push(wit);
    let world = resolve.select_world(&[package], None).expect("there is one world");
    (resolve, world)
}

/// The component of this name.
///
/// # Panics
///
/// If there is none.
pub fn guest(name: &str) -> Vec<u8> {
    let guest = GUESTS.iter().find(|guest| guest.0 == name);
    let (_, fields) = guest.unwrap_or_else(|| panic!("no guest is called `{name}`"));
    component(fields)
}

/// A component of the fields of a core module, in text. What it can import and export is in `wit`; its memory, called
/// `memory`, and `cabi_realloc` are added.
///
/// # Panics
///
/// If the module is not valid, or not one of the world.
pub fn component(fields: &str) -> Vec<u8> {
    of_module(&format!("(module {fields}\n{ALLOCATOR})"))
}

/// The same, of the one world in the directory `wit`, whose other packages are in its `deps`. It can include that of
/// `dispatch/wit`.
///
/// # Panics
///
/// As [`component`], and if the directory has not one world.
pub fn component_of(fields: &str, wit: &Path) -> Vec<u8> {
    encoded(&format!("(module {fields}\n{ALLOCATOR})"), &world(wit))
}

/// A component of a core module, in text, with everything in it.
///
/// # Panics
///
/// As [`component`].
pub fn of_module(module: &str) -> Vec<u8> {
    encoded(module, &WORLD)
}

fn encoded(module: &str, (resolve, world): &(Resolve, WorldId)) -> Vec<u8> {
    let mut module = text(module);
    embed_component_metadata(&mut module, resolve, *world, StringEncoding::UTF8).expect("the world is valid");
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    encoder.and_then(|mut encoder| encoder.encode()).unwrap_or_else(|error| panic!("{error:?}"))
}

/// The binary form of a module or a component.
///
/// # Panics
///
/// If it is not valid.
pub fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}
