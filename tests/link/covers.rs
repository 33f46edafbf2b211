//! Two resolvers that cover one option: one error, with both of them and their places.

use frame_tests::{BuildOptions, Built, Project};

use crate::order::{GNU_LD, MOLD, is_mold_installed};

const HEAD: &str = "use frame_registry::{ResolveContext, FrameOption, Options, Pair, frame_option, frame_resolver};\n\
    pub fn used() {}\n";

fn resolver(name: &str, covers: &str) -> String {
    format!(
        "#[frame_resolver(order = 200, covers({covers}))]\n\
         fn {name}(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, String> {{ Ok(None) }}\n"
    )
}

/// A program with the crates `left` and `right`, each with a resolver that covers an option of the crate `declares`.
fn in_two_crates() -> Project {
    let project = Project::new("covered-in-two-crates");
    let option = "#[frame_option(name = \"network\")]\npub static NETWORK: FrameOption<u32>;";
    project.package("declares", "", &[Project::registry()], "src/lib.rs", &format!("{HEAD}{option}"));
    for name in ["left", "right"] {
        let source = format!("#![allow(unused)]\n{HEAD}{}", resolver(name, "declares::NETWORK"));
        let dependencies = [Project::registry(), Project::sibling("declares")];
        project.package(name, "", &dependencies, "src/lib.rs", &source);
    }
    let dependencies = [Project::sibling("left"), Project::sibling("right")];
    project.package(
        "both",
        "",
        &dependencies,
        "src/main.rs",
        "fn main() {\n    left::used();\n    right::used();\n}",
    );
    project
}

const PLACES: [&str; 2] = ["left (left/src/lib.rs:4)", "right (right/src/lib.rs:4)"];

#[track_caller]
fn assert_refused(built: &Built, words: &[&str], error: &str) {
    assert!(!built.is_ok, "it was built");
    for word in words {
        assert!(built.stderr.contains(word), "`{word}` is not in:\n{}", built.stderr);
    }
    assert_eq!(built.stderr.matches(error).count(), 1, "one error:\n{}", built.stderr);
}

#[test]
fn in_two_crates_the_linker_names_both_resolvers_and_their_places() {
    let project = in_two_crates();
    let symbol = "duplicate symbol: frame_option_network_is_covered_more_than_once";
    for profile in ["dev", "release", "thin"] {
        let built = project.build("both", BuildOptions { profile, ..BuildOptions::default() });
        assert_refused(
            &built,
            &PLACES.map(|place| format!("frame resolver {place}")).each_ref().map(String::as_str),
            symbol,
        );
        assert!(!built.stderr.contains("has_no_linked_resolver"), "{}", built.stderr);
    }
}

#[test]
fn in_two_crates_gnu_ld_names_both_resolvers_and_their_places_and_mold_the_crates() {
    let project = in_two_crates();
    let built = project.build("both", BuildOptions { rustflags: GNU_LD, ..BuildOptions::default() });
    let symbol = "multiple definition of `frame_option_network_is_covered_more_than_once'";
    assert_refused(
        &built,
        &PLACES.map(|place| format!("frame resolver {place}")).each_ref().map(String::as_str),
        symbol,
    );
    if is_mold_installed() {
        let built = project.build("both", BuildOptions { rustflags: MOLD, ..BuildOptions::default() });
        assert_refused(&built, &["libleft", "libright"], ": frame_option_network_is_covered_more_than_once");
    }
}

/// The assembly of all crates is then in one object file.
#[test]
fn in_two_crates_under_fat_lto_the_assembler_names_both_resolvers_and_their_places() {
    let built = in_two_crates().build("both", BuildOptions { profile: "fat", ..BuildOptions::default() });
    assert_refused(
        &built,
        &PLACES.map(|place| place.split_once(' ').unwrap().1),
        "error: frame_option_network is covered by two resolvers",
    );
}

#[test]
fn in_two_modules_of_one_crate_both_resolvers_and_their_places_are_named() {
    let project = Project::new("covered-in-two-modules");
    let module = |name: &str| format!("mod {name} {{ use super::*;\n{}}}\n", resolver(name, "NETWORK"));
    let source = format!(
        "{HEAD}#[frame_option(name = \"network\")]\npub static NETWORK: FrameOption<u32>;\n{}{}fn main() {{}}",
        module("first"),
        module("second")
    );
    project.package("one", "", &[Project::registry()], "src/main.rs", &source);
    let places = ["one/src/main.rs:6", "one/src/main.rs:10"];
    for codegen_units in ["-Ccodegen-units=1", "-Ccodegen-units=16"] {
        let built =
            project.build("one", BuildOptions { rustflags: &[codegen_units], ..BuildOptions::default() });
        assert!(!built.is_ok, "it was built");
        let (error, first, second) = if built.stderr.contains("duplicate symbol") {
            ("duplicate symbol", "frame resolver first (", "frame resolver second (")
        } else {
            ("error: frame_option_network is covered by two", "`first` (", "`second` (")
        };
        assert_refused(&built, &[first, second, places[0], places[1]], error);
    }
}

#[test]
fn an_option_that_is_covered_twice_by_one_resolver_is_named_with_the_resolver() {
    let project = Project::new("covered-by-another-path");
    let source = format!(
        "{HEAD}#[frame_option(name = \"network\")]\npub static NETWORK: FrameOption<u32>;\n{}fn main() {{}}",
        resolver("tenant", "NETWORK, crate::NETWORK")
    );
    project.package("one", "", &[Project::registry()], "src/main.rs", &source);
    let error =
        "error: frame_option_network is named twice in the `covers(…)` of `tenant` (one/src/main.rs:5)";
    assert_refused(&project.build("one", BuildOptions::default()), &[], error);
}
