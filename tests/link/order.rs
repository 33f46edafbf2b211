//! The table is sorted in the file, with every linker either by the linker or at first use, and always the same.

use std::process::Command;

use frame_tests::{BuildOptions, Built, Program, Project};

/// Three crates whose resolvers interleave, with orders and names that sort differently as text and as numbers.
const RESOLVERS: [(&str, &[(i32, &str)]); 3] = [
    ("alpha", &[(200, "overlay"), (-5, "early"), (2_000, "late"), (i32::MAX, "last")]),
    ("beta", &[(200, "network"), (9, "nine"), (10, "ten"), (-50, "earlier")]),
    ("gamma", &[(200, "overlay2"), (i32::MIN, "first"), (0, "zero"), (200, "Overlay")]),
];

/// What makes rustc link with GNU ld.
pub(crate) const GNU_LD: &[&str] = &["-Clinker-features=-lld"];
/// What makes rustc link with mold.
pub(crate) const MOLD: &[&str] = &["-Clinker-features=-lld", "-Clink-arg=-fuse-ld=mold"];

fn expected() -> Vec<(i32, &'static str)> {
    let mut all: Vec<_> = RESOLVERS.iter().flat_map(|(_, resolvers)| *resolvers).copied().collect();
    all.sort_unstable();
    all
}

/// The program prints its layout, then the names in the order in which the resolvers really run.
const MAIN: &str = r#"
use frame_registry::{App, FrameResolvers, Options, Pairs, ResolveContext};

fn main() {
    USED;
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    let app = app.build();
    let mut pairs = Pairs::new();
    app.resolvers().resolve(&ResolveContext::new(&app, None), &Options::new(), &mut pairs).unwrap();
    println!("{}", app.resolvers().layout().as_str());
    pairs.iter().for_each(|pair| println!("{}", pair.name()));
    assert!(pairs.iter().map(|pair| pair.name()).eq(app.resolvers().iter().map(|r| r.name().to_owned())));
}
"#;

/// A resolver whose pair has its name. The name may differ from another in case only, so the function is numbered.
fn resolver(order: i32, name: &str) -> String {
    let function = name.bytes().fold(0_u64, |number, byte| number.wrapping_mul(31).wrapping_add(byte.into()));
    format!(
        "#[frame_resolver(order = {order}, name = \"{name}\")]\n\
         fn resolver_{function}(_: &ResolveContext<'_>, _: &Options) -> Result<[Pair; 1], Infallible> {{\n\
             static KEY: Key<()> = Key::new(\"{name}\");\n\
             Ok([KEY.pair(())])\n\
         }}\n"
    )
}

fn project(name: &str) -> Project {
    let project = Project::new(name);
    for (krate, resolvers) in RESOLVERS {
        let functions: Vec<_> = resolvers.iter().map(|(order, name)| resolver(*order, name)).collect();
        let functions = functions.concat();
        let source = format!(
            "#![forbid(unsafe_code)]\n\
             use frame_registry::{{ResolveContext, Key, Options, Pair, frame_resolver}};\n\
             use std::convert::Infallible;\n\
             pub fn used() {{}}\n{functions}"
        );
        project.package(krate, "", &[Project::registry()], "src/lib.rs", &source);
    }
    for (name, crates) in [("sorted", ["alpha", "beta", "gamma"]), ("permuted", ["gamma", "alpha", "beta"])] {
        let mut dependencies = vec![Project::registry()];
        dependencies.extend(crates.map(Project::sibling));
        let used: String = crates.map(|krate| format!("{krate}::used();")).concat();
        project.package(name, "", &dependencies, "src/main.rs", &MAIN.replace("USED;", &used));
    }
    project.package("bare", "", &[], "src/main.rs", "fn main() { println!(\"bare\"); }");
    project
}

#[track_caller]
fn assert_runs_in_order(built: &Built, program: &str, layout: &str) {
    let printed = built.run(program, &[]);
    let mut lines = printed.lines();
    assert_eq!(lines.next(), Some(layout), "{program}");
    assert_eq!(
        lines.collect::<Vec<_>>(),
        expected().iter().map(|(_, name)| *name).collect::<Vec<_>>(),
        "{program}"
    );
}

/// Reads the table out of the file: an address a resolver, of a struct that begins with its name and its order.
fn table(program: &Program) -> Vec<(i32, String)> {
    let start = program.symbol("__frame_registry_sorted_start").expect("the linker took the script");
    let stop = program.symbol("__frame_registry_sorted_stop").expect("the linker took the script");
    assert!(
        program.relro().contains(&start) && program.relro().contains(&(stop - 1)),
        "the table is in RELRO"
    );
    (start..stop)
        .step_by(8)
        .map(|entry| {
            let resolver = program.pointer(entry);
            let order = u32::try_from(program.word(resolver + 16) & 0xffff_ffff).expect("four bytes");
            (order.cast_signed(), program.text(resolver))
        })
        .collect()
}

#[test]
fn table_stands_sorted_in_the_file_and_no_code_runs_before_main() {
    let project = project("order-by-linker");
    for profile in ["dev", "release", "thin", "fat"] {
        let bare = project.build("bare", BuildOptions { profile, ..BuildOptions::default() });
        let bare = Program::read(&bare.artifact("bare"));
        for name in ["sorted", "permuted"] {
            let built = project.build(name, BuildOptions { profile, ..BuildOptions::default() });
            let program = Program::read(&built.artifact(name));
            let expected: Vec<_> =
                expected().into_iter().map(|(order, name)| (order, name.to_owned())).collect();
            assert_eq!(table(&program), expected, "{name}, {profile}");
            for section in [".init_array", ".preinit_array", ".ctors"] {
                assert_eq!(
                    program.section_size(section),
                    bare.section_size(section),
                    "{section}, {name}, {profile}"
                );
            }
            assert_runs_in_order(&built, name, "link-time");
        }
    }
}

#[test]
fn flags_that_forbid_warnings_do_not_keep_the_linker_from_sorting() {
    let project = project("order-strict");
    let options = BuildOptions { rustflags: &["-Dwarnings", "-Dunused"], ..BuildOptions::default() };
    assert_runs_in_order(&project.build("sorted", options), "sorted", "link-time");
}

#[test]
fn order_is_the_same_with_gnu_ld() {
    assert_sorted_at_first_use(GNU_LD, &[]);
}

#[test]
fn order_is_the_same_with_mold() {
    if is_mold_installed() {
        assert_sorted_at_first_use(MOLD, &[]);
    }
}

#[test]
fn order_is_the_same_with_the_probe_turned_off() {
    assert_sorted_at_first_use(&[], &[("FRAME_REGISTRY_LINK_SORT", "off")]);
}

/// It reports every read of the padding.
#[test]
fn padding_that_a_sanitizer_puts_between_the_elements_is_not_read() {
    let project = project("order-sanitized");
    let env = [("RUSTC_BOOTSTRAP", "1")];
    let options = BuildOptions { rustflags: &["-Zsanitizer=address"], env: &env, ..BuildOptions::default() };
    assert_runs_in_order(&project.build("sorted", options), "sorted", "first-use");
}

#[test]
fn a_misspelt_switch_of_the_probe_is_refused() {
    let project = project("order-switch");
    let env = [("FRAME_REGISTRY_LINK_SORT", "no")];
    let built = project.build("sorted", BuildOptions { env: &env, ..BuildOptions::default() });
    assert!(!built.is_ok);
    assert!(built.stderr.contains("write `auto` (the default) or `off`"), "{}", built.stderr);
}

fn assert_sorted_at_first_use(rustflags: &[&str], env: &[(&str, &str)]) {
    let name = format!("order-at-first-use-{}", rustflags.len() * 2 + env.len());
    let project = project(&name);
    for profile in ["dev", "release"] {
        let options = BuildOptions { profile, rustflags, env };
        for name in ["sorted", "permuted"] {
            let built = project.build(name, options);
            assert_eq!(Program::read(&built.artifact(name)).symbol("__frame_registry_sorted_start"), None);
            assert_runs_in_order(&built, name, "first-use");
        }
    }
}

/// Whether to test with mold. In continuous integration it has to be there.
pub(crate) fn is_mold_installed() -> bool {
    let is_installed =
        Command::new("mold").arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(is_installed || std::env::var_os("CI").is_none(), "mold is not installed; `.ci/run` installs it");
    if !is_installed {
        eprintln!("SKIPPED: mold is not installed");
    }
    is_installed
}
