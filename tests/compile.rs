//! What compiles, and in which words the compiler refuses the rest. A case is one program under `ui/`, named for
//! what it shows; those in `ui/fail/` stand beside the compiler's output (`TRYBUILD=overwrite` writes it anew). The words that
//! are not the macros' own are those of rustc 1.95.

use std::fs;

use frame_tests::{BuildOptions, Project, workspace};

/// All in one set: a program that must build makes trybuild build the others too, not only check them, and two
/// resolvers of one name are refused only then.
#[test]
fn what_compiles_and_what_the_compiler_says_of_the_rest() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/pass/*.rs");
    cases.compile_fail("ui/fail/*.rs");
}

/// Mistakes in closures and `async fn`s that are registered as functions and processes.
#[test]
fn a_function_that_does_not_fit_is_refused_with_what_to_write() {
    trybuild::TestCases::new().compile_fail("ui/functions/*.rs");
}

/// The program of the README.
fn three_steps() -> String {
    let readme = fs::read_to_string(workspace().join("README.md")).expect("it is there");
    let steps = readme.split("## In three steps").nth(1).expect("the README has three steps");
    let code = steps.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    code.expect("they are code").to_owned()
}

#[test]
fn the_three_steps_of_the_readme_are_a_program_that_prints_what_they_say() {
    let project = Project::new("steps");
    project.package("steps", "", &[Project::registry()], "src/main.rs", &three_steps());
    let printed = project.build("steps", BuildOptions::default()).run("steps", &[]);
    assert_eq!(printed, "Frame {\"tenant\": \"acme\"}\n");
    assert!(three_steps().contains(&format!("// {printed}")));
}

fn registry_with_json() -> String {
    Project::registry().replace("default-features = false", "features = [\"json\"]")
}

/// Clippy with all of its lints that a crate may reasonably deny, over the program of the case `lint_deny_warnings` and
/// the one that the README shows.
#[test]
fn clippy_has_nothing_to_say_of_what_is_emitted() {
    let project = Project::new("clippy");
    let case =
        fs::read_to_string(workspace().join("tests/ui/pass/lint_deny_warnings.rs")).expect("it is there");
    project.package("case", "", &[registry_with_json()], "src/main.rs", &case);
    project.package("steps", "", &[registry_with_json()], "src/main.rs", &three_steps());
    for package in ["case", "steps"] {
        let output = project
            .cargo(&["clippy", "--offline", "--quiet", "--package", package])
            .args(["--", "-Dwarnings", "-Wclippy::pedantic", "-Wclippy::nursery"])
            .env("CARGO_TARGET_DIR", project.target())
            .output()
            .expect("Cargo runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{package}:\n{stderr}");
    }
}

#[test]
fn documentation_of_private_items_shows_nothing_that_is_emitted() {
    let project = Project::new("documented");
    let source =
        fs::read_to_string(workspace().join("tests/ui/pass/lint_deny_warnings.rs")).expect("it is there");
    project.package("case", "", &[registry_with_json()], "src/main.rs", &source);
    let output = project
        .cargo(&["doc", "--offline", "--quiet", "--no-deps", "--document-private-items", "--package", "case"])
        .env("CARGO_TARGET_DIR", project.target())
        .output()
        .expect("Cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = fs::read_dir(project.target().join("doc/case")).expect("it is documented");
    let shown =
        shown.map(|entry| entry.expect("it is there").file_name().into_string().expect("it is UTF-8"));
    let mut items: Vec<_> = shown.filter(|name| name.contains('.')).collect();
    items.sort();
    let expected = [
        "all.html",
        "fn.main.html",
        "fn.tenant.html",
        "index.html",
        "sidebar-items.js",
        "static.RETRIES.html",
        "static.TENANT.html",
        "static.TENANT_KEY.html",
    ];
    assert_eq!(items, expected);
}

/// A framework that exports the registry, and a program that knows nothing but the framework.
#[test]
fn each_attribute_that_is_reached_by_reexport_without_its_path_is_one_error() {
    let project = Project::new("reexported");
    project.package(
        "framework",
        "",
        &[Project::registry()],
        "src/lib.rs",
        "pub use frame_registry as wiring;",
    );
    let source = "use framework::wiring::*;\n\
        #[frame_option(name = \"tenant\")]\n\
        pub static TENANT: FrameOption<String>;\n\
        #[frame_key(name = \"tenant\", stays)]\n\
        pub static TENANT_KEY: Key<String>;\n\
        #[frame_resolver(order = 1, covers(TENANT))]\n\
        fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {\n\
            Ok(options.pair(&TENANT, &TENANT_KEY))\n\
        }\n\
        require_resolvers!(\"tenant\");\n\
        fn main() {}";
    project.package("app", "", &[Project::sibling("framework")], "src/main.rs", source);
    let built = project.build("app", BuildOptions::default());
    assert!(!built.is_ok);
    let lines: Vec<_> = built
        .stderr
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("error[") || line.starts_with("-->"))
        .collect();
    let error = "error[E0433]: cannot find `frame_registry` in the crate root";
    let places = [2, 4, 6, 10].map(|line| format!("--> app/src/main.rs:{line}:1"));
    let expected: Vec<_> = places.iter().flat_map(|place| [error, place.as_str()]).collect();
    assert_eq!(lines, expected, "{}", built.stderr);
}

#[test]
fn a_key_that_needs_serde_without_the_feature_is_one_error_that_names_the_feature() {
    let project = Project::new("keys-without-json");
    for (package, argument) in [("wire", "propagates, inherit"), ("scripts", "stays, public")] {
        let source = format!(
            "use frame_registry::{{Key, frame_key}};\n\
             #[frame_key(name = \"stays\", stays, inherit)]\n\
             pub static STAYS: Key<String>;\n\
             #[frame_key(name = \"tenant\", {argument})]\n\
             pub static TENANT: Key<String>;\n\
             fn main() {{}}"
        );
        project.package(package, "", &[Project::registry()], "src/main.rs", &source);
        let built = project.build(package, BuildOptions::default());
        let errors: Vec<_> = built.stderr.lines().filter(|line| line.starts_with("error")).collect();
        let word = if package == "wire" { "propagates" } else { "public" };
        let expected = [
            format!("error: `{word}` needs the feature `json` of `frame-registry`"),
            format!("error: could not compile `{package}` (bin \"{package}\") due to 1 previous error"),
        ];
        assert_eq!(errors, expected, "{}", built.stderr);
    }
}
