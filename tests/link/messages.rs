//! The guide quotes what linkers print. Here they print it.

use std::fs;
use std::process::Command;

use frame_tests::{BuildOptions, Project, workspace};

use crate::order::{GNU_LD, MOLD, is_mold_installed};

/// What makes rustc link with gold.
const GOLD: &[&str] = &["-Clinker-features=-lld", "-Clink-arg=-fuse-ld=gold"];

/// The linkers as the guide names them, those of them that are installed, with their flags.
fn linkers() -> Vec<(&'static str, &'static [&'static str])> {
    let mut linkers: Vec<(_, &'static [_])> = vec![("rust-lld", &[]), ("GNU ld", GNU_LD)];
    if Command::new("ld.gold").arg("--version").output().is_ok_and(|output| output.status.success()) {
        linkers.push(("gold", GOLD));
    } else {
        eprintln!("SKIPPED: gold is not installed");
    }
    if is_mold_installed() {
        linkers.push(("mold", MOLD));
    }
    linkers
}

/// The lines of code below a heading of the guide's chapter on errors.
fn quoted(heading: &str) -> Vec<String> {
    let chapter = fs::read_to_string(workspace().join("docs/src/errors.md")).expect("it is there");
    let section = chapter.split(&format!("\n### {heading}\n")).nth(1).expect("there is such a heading");
    let section = section.split("\n##").next().expect("it has an end");
    let blocks = section.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

/// What the guide says that `linker` prints for what is below the heading.
fn quoted_of(linker: &str, heading: &str) -> String {
    let lines = quoted(heading);
    let words = lines.iter().find_map(|line| line.strip_prefix(linker)?.strip_prefix("  "));
    words.unwrap_or_else(|| panic!("{heading}: nothing of {linker}")).trim().to_owned()
}

#[track_caller]
fn assert_printed(printed: &str, words: &str, what: &str) {
    assert!(printed.contains(words), "{what}: `{words}` is not in:\n{printed}");
}

const HEAD: &str =
    "use frame_registry::{FrameOption, Options, Pair, ResolveContext, frame_option, frame_resolver};\n";

fn resolver(name: &str, arguments: &str) -> String {
    format!(
        "#[frame_resolver({arguments})]\n\
         fn {name}(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, std::convert::Infallible> {{ Ok(None) }}\n"
    )
}

fn project() -> Project {
    let project = Project::new("messages");
    let package = |name: &str, manifest: &str, siblings: &[&str], file: &str, source: &str| {
        let mut dependencies = vec![Project::registry()];
        dependencies.extend(siblings.iter().map(|name| Project::sibling(name)));
        project.package(name, manifest, &dependencies, file, &format!("#![allow(unused)]\n{source}"));
    };
    let option =
        "\n/// Which way out.\n#[frame_option(name = \"network\")]\npub static NETWORK: FrameOption<u32>;\n";
    let tests = "#[cfg(test)]\nuse covers as _;\n";
    let dev_dependency = format!("[dev-dependencies]\n{}", Project::sibling("covers"));
    project.package(
        "declares",
        "",
        &[Project::registry(), dev_dependency],
        "src/lib.rs",
        &format!("#![allow(unused)]\n{HEAD}{option}{tests}"),
    );
    let covers = resolver("covers", "order = 1, covers(declares::NETWORK)");
    package("covers", "", &["declares"], "src/lib.rs", &format!("{HEAD}{covers}"));
    let overlay = resolver("overlay", "order = 200");
    for (name, twins) in [("option", ["option-one", "option-other"]), ("key", ["key-one", "key-other"])] {
        for twin in twins {
            let key = "use frame_registry::{Key, frame_key};\n\
                #[frame_key(name = \"net.overlay\", stays)]\npub static NETWORK_KEY: Key<u32>;\n";
            let option = "use frame_registry::{FrameOption, frame_option};\n\
                #[frame_option(name = \"network\", dispatcher)]\npub static NETWORK: FrameOption<u32>;\n";
            package(twin, "", &[], "src/lib.rs", if name == "key" { key } else { option });
        }
        let used = twins.map(|twin| format!("use {} as _;\n", twin.replace('-', "_"))).concat();
        package(&format!("{name}-twice"), "", &twins, "src/main.rs", &format!("{used}fn main() {{}}"));
    }
    package("left", "", &[], "src/lib.rs", &format!("{HEAD}{overlay}"));
    package("right", "", &[], "src/lib.rs", &format!("{HEAD}\n\n{overlay}"));
    let kind = "[lib]\ncrate-type = [\"dylib\"]";
    package("framework", kind, &[], "src/lib.rs", "pub use frame_registry;\n");

    package("without", "", &["declares"], "src/main.rs", "use declares as _;\nfn main() {}");
    package("both", "", &["left", "right"], "src/main.rs", "use left as _;\nuse right as _;\nfn main() {}");
    let requires = "frame_registry::require_resolvers!(\"stamp\");\nfn main() {}";
    package("requires", "", &[], "src/main.rs", requires);
    let outside = "use framework::frame_registry::{ResolveContext, Options, Pair, frame_resolver};\n"
        .to_owned()
        + &resolver("own", "order = 1, crate = framework::frame_registry")
        + "fn main() {}";
    project.package("outside", "", &[Project::sibling("framework")], "src/main.rs", &outside);
    for (name, linker) in [("other-gnu-ld", "bfd"), ("other-gold", "gold"), ("other-mold", "mold")] {
        package(name, "", &["left"], "src/main.rs", "use left as _;\nfn main() {}");
        let script = format!("fn main() {{ println!(\"cargo::rustc-link-arg=-fuse-ld={linker}\"); }}");
        project.write(&format!("{name}/build.rs"), &script);
    }
    project
}

const OPTION: &str = "An option without its resolver";
const TWICE: &str = "Two resolvers of one name";
const OPTION_TWICE: &str = "Two options of one name";
const KEY_TWICE: &str = "Two keys of one name";
const REQUIRED: &str = "A resolver that is required";
const AGAIN: &str = "A unit test that links its own crate again";
const ELSEWHERE: &str = "A registry in another library";

#[test]
fn the_guide_quotes_what_linkers_print_of_wrong_wiring() {
    let project = project();
    for (linker, rustflags) in linkers() {
        for (heading, package, more) in [
            (OPTION, "without", None),
            (TWICE, "both", None),
            (OPTION_TWICE, "option-twice", None),
            (KEY_TWICE, "key-twice", None),
            (REQUIRED, "requires", None),
            (ELSEWHERE, "outside", Some("-Cprefer-dynamic")),
        ] {
            let rustflags: Vec<_> = rustflags.iter().copied().chain(more).collect();
            let built =
                project.build(package, BuildOptions { rustflags: &rustflags, ..BuildOptions::default() });
            assert!(!built.is_ok, "{linker}: {heading}: it linked");
            assert_printed(&built.stderr, &quoted_of(linker, heading), linker);
            // Nor does it name what is not the cause.
            assert!(!built.stderr.contains("is_in_the_test_twice"), "{linker}: {heading}:\n{}", built.stderr);
        }
        let options = BuildOptions { rustflags, ..BuildOptions::default() };
        let tested = project.test("declares", options, &["--lib"]);
        assert!(!tested.status.success(), "{linker}: {AGAIN}: it linked");
        let printed = String::from_utf8_lossy(&tested.stderr);
        assert_printed(&printed, &quoted_of(linker, AGAIN), linker);
        // Both copies of the option are reported, too.
        assert_printed(&printed, &quoted_of(linker, OPTION_TWICE), linker);
    }
}

#[test]
fn the_guide_quotes_what_fat_lto_says_of_duplicates() {
    let built = project().build("option-twice", BuildOptions { profile: "fat", ..BuildOptions::default() });
    assert!(!built.is_ok, "it linked");
    for line in quoted("Duplicates under fat LTO") {
        assert_printed(&built.stderr, &line, "fat LTO");
    }
}

#[test]
fn the_words_of_linkers_are_the_same_when_they_link_statically() {
    let project = project();
    for (linker, more) in [("rust-lld", None), ("GNU ld", Some(GNU_LD[0]))] {
        let rustflags: Vec<_> = ["-Ctarget-feature=+crt-static"].into_iter().chain(more).collect();
        for (heading, package) in [(OPTION, "without"), (TWICE, "both"), (REQUIRED, "requires")] {
            let built =
                project.build(package, BuildOptions { rustflags: &rustflags, ..BuildOptions::default() });
            assert!(!built.is_ok, "{linker}: {heading}: it linked");
            assert_printed(&built.stderr, &quoted_of(linker, heading), linker);
        }
    }
}

#[test]
fn the_guide_quotes_the_places_that_a_linker_names() {
    let project = project();
    let lines = quoted("Where it is");
    let (lines, archives): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.starts_with(">>>"));
    assert!(!lines.is_empty() && !archives.is_empty());
    let printed = |profile| {
        let options = BuildOptions { profile, ..BuildOptions::default() };
        project.build("without", options).stderr + &project.build("both", options).stderr
    };
    let (with, without) = (printed("dev"), printed("release"));
    for line in lines {
        assert_printed(&with, line, "with debug information");
        assert!(!without.contains(line), "`{line}` needs no debug information:\n{without}");
    }
    for archive in archives {
        let krate = archive.trim_start_matches("in archive ").trim_end_matches('…');
        assert_printed(&without, krate, "without debug information");
    }
}

#[test]
fn the_guide_quotes_what_linkers_print_of_the_script_that_they_do_not_take() {
    let project = project();
    for (linker, _) in linkers() {
        let package = match linker {
            "GNU ld" => "other-gnu-ld",
            "gold" => "other-gold",
            "mold" => "other-mold",
            _ => continue,
        };
        let built = project.build(package, BuildOptions::default());
        assert!(!built.is_ok, "{linker}: it linked");
        assert_printed(&built.stderr, &quoted_of(linker, "A linker that does not sort"), linker);
    }
}
