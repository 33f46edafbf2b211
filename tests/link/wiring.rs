//! Wiring mistakes do not link, in plain words; what the linker misses is refused at every use.

use frame_tests::{BuildOptions, Built, Project};

use crate::order::{GNU_LD, MOLD, is_mold_installed};

const PROFILES_THAT_GUARD: [&str; 3] = ["dev", "release", "fat"];

const HEAD: &str = "#![forbid(unsafe_code)]\n\
    use frame_registry::{FrameOption, Key, Options, Pair, ResolveContext, frame_option, frame_resolver};\n\
    use std::convert::Infallible;\n\
    pub fn used() {}\n";

fn library(project: &Project, name: &str, dependencies: &[&str], source: &str) {
    let mut all = vec![Project::registry()];
    all.extend(dependencies.iter().map(|name| Project::sibling(name)));
    project.package(name, "", &all, "src/lib.rs", &format!("#![allow(unused)]\n{HEAD}{source}"));
}

/// A program that refers to its dependencies and then runs `body`.
fn program(project: &Project, name: &str, dependencies: &[&str], body: &str) {
    let mut all = vec![Project::registry()];
    all.extend(dependencies.iter().map(|name| Project::sibling(name)));
    let used = dependencies.iter().map(|name| format!("{name}::used();\n")).collect::<Vec<_>>().concat();
    let source = format!(
        "#![allow(unused)]\nuse frame_registry::*;\n\
         fn resolve(resolvers: &FrameResolvers, options: &Options) -> Result<usize, ResolveError> {{\n\
             let app = App::builder().build();\n\
             let mut pairs = Pairs::new();\n\
             resolvers.resolve(&ResolveContext::new(&app, None), options, &mut pairs).map(|()| pairs.len())\n\
         }}\n\
         fn main() {{\n{used}{body}\n}}"
    );
    project.package(name, "", &all, "src/main.rs", &source);
}

fn resolver(name: &str, arguments: &str) -> String {
    format!(
        "#[frame_resolver({arguments})]\n\
         fn {name}(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, Infallible> {{ Ok(None) }}\n"
    )
}

/// The flags for linkers other than the default one.
fn other_linkers() -> Vec<&'static [&'static str]> {
    let mold = is_mold_installed().then_some(MOLD);
    [GNU_LD].into_iter().chain(mold).collect()
}

#[track_caller]
fn assert_not_linked(built: &Built, words: &[&str]) {
    assert!(!built.is_ok, "it linked");
    for word in words {
        assert!(built.stderr.contains(word), "`{word}` is not in:\n{}", built.stderr);
    }
}

fn twins() -> Project {
    let project = Project::new("twins");
    library(&project, "left", &[], &resolver("overlay", "order = 200"));
    library(&project, "right", &[], &format!("\n\n{}", resolver("other", "order = 7, name = \"overlay\"")));
    let body = "let linked = FrameResolvers::linked();\n\
        for _ in 0..3 {\n\
            let error = resolve(&linked, &Options::new()).unwrap_err();\n\
            println!(\"{}\", std::error::Error::source(&error).map_or(error.to_string(), |e| e.to_string()));\n\
        }\n\
        println!(\"{:?}\", linked.register(Resolver::new(\"new\", 1, |_: &ResolveContext<'_>, _: &Options| Ok::<[_; 0], String>([]))).is_err());\n\
        println!(\"{:?}\", resolve(&FrameResolvers::empty(), &Options::new()));";
    program(&project, "both", &["left", "right"], body);
    project
}

#[test]
fn one_resolver_name_in_two_crates_does_not_link() {
    let project = twins();
    for profile in PROFILES_THAT_GUARD {
        let built = project.build("both", BuildOptions { profile, ..BuildOptions::default() });
        assert_not_linked(&built, &["frame_resolver_overlay_is_registered_more_than_once"]);
        if profile == "dev" {
            let places = ["duplicate symbol: ", "left/src/lib.rs:6", "right/src/lib.rs:8"];
            assert_not_linked(&built, &places);
        }
    }
}

#[test]
fn one_resolver_name_in_two_crates_does_not_link_with_another_linker() {
    let project = twins();
    for rustflags in other_linkers() {
        let built = project.build("both", BuildOptions { rustflags, ..BuildOptions::default() });
        assert_not_linked(&built, &["frame_resolver_overlay_is_registered_more_than_once"]);
    }
}

#[test]
fn one_resolver_name_in_two_crates_under_thin_lto_is_refused_at_every_resolve() {
    let built = twins().build("both", BuildOptions { profile: "thin", ..BuildOptions::default() });
    let printed = built.run("both", &[]);
    let refused = "frame resolver `overlay` is registered twice, at left/src/lib.rs:6 and at right/src/lib.rs:8; \
                   give one of them another `name`";
    assert_eq!(printed.lines().collect::<Vec<_>>(), [refused, refused, refused, "true", "Ok(0)"]);
}

#[test]
fn one_option_name_in_two_crates_does_not_link_and_under_thin_lto_is_refused() {
    let project = Project::new("option-twins");
    let option = "#[frame_option(name = \"network\", dispatcher)]\npub static NETWORK: FrameOption<u32>;";
    library(&project, "left", &[], option);
    library(&project, "right", &[], option);
    let body = "\
        let error = resolve(&FrameResolvers::linked(), &Options::new()).unwrap_err();\n\
        println!(\"{}\", std::error::Error::source(&error).unwrap());\n\
        let empty = FrameResolvers::empty();\n\
        let set = Options::new().with(&left::NETWORK, 1);\n\
        println!(\"{}\", resolve(&empty, &set).unwrap_err());\n\
        let new = Resolver::new(\"new\", 1, |_: &ResolveContext<'_>, _: &Options| Ok::<[_; 0], String>([]));\n\
        println!(\"{}\", empty.register(new.covers(&left::NETWORK)).unwrap_err());\n\
        println!(\"{:?}\", resolve(&empty, &Options::new()));";
    program(&project, "both", &["left", "right"], body);
    for profile in PROFILES_THAT_GUARD {
        let built = project.build("both", BuildOptions { profile, ..BuildOptions::default() });
        assert_not_linked(&built, &["frame_option_network"]);
    }
    for rustflags in other_linkers() {
        for profile in ["dev", "release"] {
            let built = project.build("both", BuildOptions { profile, rustflags, ..BuildOptions::default() });
            assert_not_linked(&built, &["frame_option_network"]);
        }
    }
    let built = project.build("both", BuildOptions { profile: "thin", ..BuildOptions::default() });
    let printed = built.run("both", &[]);
    let refused = "frame option `network` is declared twice, at left/src/lib.rs:6 and at right/src/lib.rs:6; \
                   give one of them another `name`";
    let wired_wrongly = "the program's resolvers are wired wrongly";
    assert_eq!(printed.lines().collect::<Vec<_>>(), [refused, wired_wrongly, wired_wrongly, "Ok(0)"]);
}

/// Where the linker misses that there are two, one may be taken for the other.
#[test]
fn the_value_of_an_option_is_hidden_if_any_option_of_its_name_is_secret() {
    let project = Project::new("secret-twins");
    for (name, kind) in [("left", "dispatcher, secret"), ("right", "dispatcher")] {
        let option =
            format!("#[frame_option(name = \"password\", {kind})]\npub static PASSWORD: FrameOption<&str>;");
        library(&project, name, &[], &option);
    }
    let body = "println!(\"{:?}\", Options::new().with(&left::PASSWORD, \"xyzzy\"));\n\
        println!(\"{:?}\", Options::new().with(&right::PASSWORD, \"xyzzy\"));";
    program(&project, "both", &["left", "right"], body);
    program(&project, "other-way", &["right", "left"], body);
    let allowed = ["-Clink-arg=-Wl,--allow-multiple-definition"];
    for name in ["both", "other-way"] {
        for (profile, rustflags) in [("thin", &[][..]), ("dev", &allowed)] {
            let options = BuildOptions { profile, rustflags, ..BuildOptions::default() };
            let printed = project.build(name, options).run(name, &[]);
            assert!(!printed.contains("xyzzy"), "{profile}: {printed}");
            assert_eq!(printed.lines().count(), 2);
        }
    }
}

#[test]
fn an_option_without_its_resolver_does_not_link() {
    let project = Project::new("uncovered");
    library(
        &project,
        "declares",
        &[],
        "#[frame_option(name = \"network\")]\npub static NETWORK: FrameOption<u32>;",
    );
    library(
        &project,
        "covers",
        &["declares"],
        &resolver("overlay", "order = 200, covers(declares::NETWORK)"),
    );
    program(&project, "without", &["declares"], "");
    let body = "println!(\"{:?}\", resolve(&FrameResolvers::linked(), &Options::new().with(&declares::NETWORK, 1)));";
    program(&project, "with", &["declares", "covers"], body);
    // Here the resolver's crate is a dependency, but nothing refers to it, so it is not linked.
    let dependencies = [Project::registry(), Project::sibling("declares"), Project::sibling("covers")];
    project.package("unused", "", &dependencies, "src/main.rs", "fn main() { declares::used(); }");

    let missing = "frame_option_network_has_no_linked_resolver";
    for profile in ["dev", "release", "thin", "fat"] {
        let options = BuildOptions { profile, ..BuildOptions::default() };
        assert_not_linked(&project.build("without", options), &[missing]);
        assert_eq!(project.build("with", options).run("with", &[]), "Ok(0)\n");
    }
    let built = project.build("without", BuildOptions::default());
    assert_not_linked(&built, &["undefined hidden symbol: ", "declares/src/lib.rs:7"]);
    assert_not_linked(&project.build("unused", BuildOptions::default()), &[missing]);
    for rustflags in other_linkers() {
        let options = BuildOptions { rustflags, ..BuildOptions::default() };
        assert_not_linked(&project.build("without", options), &[missing]);
    }
}

/// A shared library may have symbols that are undefined until it is loaded; these it may not.
#[test]
fn a_cdylib_without_what_it_needs_does_not_link() {
    let project = Project::new("uncovered-cdylib");
    library(
        &project,
        "declares",
        &[],
        "#[frame_option(name = \"network\")]\npub static NETWORK: FrameOption<u32>;",
    );
    let kind = "[lib]\ncrate-type = [\"cdylib\"]";
    let dependencies = [Project::registry(), Project::sibling("declares")];
    let entry = "#[unsafe(no_mangle)]\npub extern \"C\" fn entry() { declares::used(); }";
    project.package("option", kind, &dependencies, "src/lib.rs", entry);
    let required = "frame_registry::require_resolvers!(\"stamp\");\n#[unsafe(no_mangle)]\npub extern \"C\" fn entry() {}";
    project.package("resolver", kind, &[Project::registry()], "src/lib.rs", required);
    for profile in ["dev", "release", "thin", "fat"] {
        let options = BuildOptions { profile, ..BuildOptions::default() };
        assert_not_linked(
            &project.build("option", options),
            &["frame_option_network_has_no_linked_resolver"],
        );
        assert_not_linked(&project.build("resolver", options), &["frame_resolver_stamp_is_not_linked"]);
    }
    for rustflags in other_linkers() {
        let options = BuildOptions { rustflags, ..BuildOptions::default() };
        assert_not_linked(
            &project.build("option", options),
            &["frame_option_network_has_no_linked_resolver"],
        );
    }
}

#[test]
fn an_option_covered_in_two_crates_does_not_link() {
    let project = Project::new("covered-twice");
    library(
        &project,
        "declares",
        &[],
        "#[frame_option(name = \"network\")]\npub static NETWORK: FrameOption<u32>;",
    );
    for name in ["left", "right"] {
        library(&project, name, &["declares"], &resolver(name, "order = 200, covers(declares::NETWORK)"));
    }
    program(&project, "both", &["left", "right"], "");
    for profile in ["dev", "release", "thin", "fat"] {
        let built = project.build("both", BuildOptions { profile, ..BuildOptions::default() });
        assert_not_linked(&built, &["frame_option_network_is_covered_more_than_once"]);
    }
}

/// Where the linker does not look, or is told not to.
#[test]
fn two_resolvers_that_cover_one_option_are_refused_at_use_where_they_link() {
    let project = Project::new("twice-covered-linked");
    let options = "#[frame_option(name = \"network\")]\npub static NETWORK: FrameOption<u32>;\n\
        #[frame_option(name = \"tenant\")]\npub static TENANT: FrameOption<u32>;\n";
    let tenant = resolver("tenant", "order = 1, covers(TENANT)");
    library(&project, "declares", &[], &format!("{options}{tenant}"));
    for name in ["left", "right"] {
        library(&project, name, &["declares"], &resolver(name, "order = 200, covers(declares::NETWORK)"));
    }
    let body = "let linked = FrameResolvers::linked();\n\
        println!(\"{}\", linked.check().unwrap_err());\n\
        println!(\"{}\", resolve(&linked, &Options::new()).is_err());\n\
        println!(\"{}\", linked.register(Resolver::new(\"new\", 1, |_: &ResolveContext<'_>, _: &Options| Ok::<[_; 0], String>([]))).is_err());\n\
        println!(\"{:?}\", resolve(&FrameResolvers::empty(), &Options::new()));";
    program(&project, "both", &["declares", "left", "right"], body);
    program(&project, "one", &["declares", "left"], "println!(\"{:?}\", FrameResolvers::linked().check());");
    let allowed = ["-Clink-arg=-Wl,--allow-multiple-definition"];
    for rustflags in [&["--cfg=miri"], &allowed] {
        let options = BuildOptions { rustflags, ..BuildOptions::default() };
        let printed = project.build("both", options).run("both", &[]);
        let refused = "frame option `network` is covered by two resolvers, `left` at left/src/lib.rs:6 and \
                       `right` at right/src/lib.rs:6; remove it from the `covers(…)` of one of them";
        assert_eq!(printed.lines().collect::<Vec<_>>(), [refused, "true", "true", "Ok(0)"]);
        assert_eq!(project.build("one", options).run("one", &[]), "Ok(())\n");
    }
}

#[test]
fn a_runtime_option_links_and_is_refused_while_no_resolver_covers_it() {
    let project = Project::new("runtime-option");
    library(
        &project,
        "declares",
        &[],
        "#[frame_option(name = \"tenant\", runtime)]\npub static TENANT: FrameOption<u32>;",
    );
    let body = "let linked = FrameResolvers::linked();\n\
        let options = Options::new().with(&declares::TENANT, 1);\n\
        println!(\"{:?}\", resolve(&linked, &Options::new()));\n\
        println!(\"{}\", resolve(&linked, &options).unwrap_err());\n\
        static KEY: Key<u32> = Key::new(\"tenant\");\n\
        let tenant = Resolver::new(\"tenant\", 1, |_: &ResolveContext<'_>, options: &Options| {\n\
            Ok::<_, String>(options.pair(&declares::TENANT, &KEY))\n\
        });\n\
        let registration = linked.register(tenant.covers(&declares::TENANT)).unwrap();\n\
        println!(\"{:?}\", resolve(&linked, &options));\n\
        registration.unregister();\n\
        println!(\"{:?}\", resolve(&linked, &options).is_err());";
    program(&project, "app", &["declares"], body);
    let printed = project.build("app", BuildOptions::default()).run("app", &[]);
    let refused = "option `tenant` (declared at declares/src/lib.rs:6) is set, but no resolver of this registry covers it; \
                   register one with `.covers(…)`, or do not set the option";
    assert_eq!(printed.lines().collect::<Vec<_>>(), ["Ok(0)", refused, "Ok(1)", "true"]);
}

#[test]
fn a_required_resolver_that_is_missing_does_not_link() {
    let project = Project::new("required");
    library(&project, "has", &[], &resolver("stamp", "order = 1"));
    let body = "frame_registry::require_resolvers!(\"stamp\");\nprintln!(\"linked\");";
    program(&project, "with", &["has"], body);
    program(&project, "without", &[], body);
    for profile in ["dev", "release", "thin", "fat"] {
        let options = BuildOptions { profile, ..BuildOptions::default() };
        assert_eq!(project.build("with", options).run("with", &[]), "linked\n");
        assert_not_linked(&project.build("without", options), &["frame_resolver_stamp_is_not_linked"]);
    }
}

/// `cfg(miri)` stands for every platform that has no link-time guards.
#[test]
fn without_link_time_guards_the_same_is_refused_at_use() {
    let project = Project::new("unguarded");
    let options = "#[frame_option(name = \"network\")]\npub static NETWORK: FrameOption<u32>;\n\
        #[frame_option(name = \"covered\")]\npub static COVERED: FrameOption<u32>;\n";
    let resolvers = resolver("stamp", "order = 200, covers(COVERED)") + &resolver("early", "order = -1");
    library(&project, "declares", &[], &format!("{options}{resolvers}"));
    let body = "frame_registry::require_resolvers!(\"stamp\");\n\
        let linked = FrameResolvers::linked();\n\
        println!(\"{:?}\", resolve(&linked, &Options::new().with(&declares::COVERED, 1)));\n\
        println!(\"{:?}\", resolve(&linked, &Options::new().with(&declares::NETWORK, 1)).is_err());\n\
        println!(\"{:?}\", linked.iter().map(|r| r.name().to_owned()).collect::<Vec<_>>());\n\
        println!(\"{:?}\", linked.layout());";
    program(&project, "app", &["declares"], body);
    let unguarded = BuildOptions { rustflags: &["--cfg=miri"], ..BuildOptions::default() };
    let printed = project.build("app", unguarded).run("app", &[]);
    assert_eq!(printed.lines().collect::<Vec<_>>(), ["Ok(0)", "true", r#"["early", "stamp"]"#, "FirstUse"]);
}

#[test]
fn the_registry_can_be_renamed_and_reexported() {
    let project = Project::new("renamed");
    let renamed = Project::registry()
        .replace("frame-registry =", "wiring =")
        .replace('{', "{ package = \"frame-registry\",");
    let source = "pub use wiring;\n\
        #[wiring::frame_option(name = \"tenant\", crate = wiring)]\n\
        pub static TENANT: wiring::FrameOption<u32>;\n\
        #[wiring::frame_resolver(order = 1, covers(TENANT), crate = wiring)]\n\
        fn tenant(_: &wiring::ResolveContext<'_>, _: &wiring::Options) -> Result<Option<wiring::Pair>, String> { Ok(None) }\n\
        wiring::require_resolvers!(crate = wiring, \"tenant\");";
    project.package("framework", "", &[renamed], "src/lib.rs", source);
    let source = "use framework::wiring;\n\
        #[wiring::frame_resolver(order = 2, crate = framework::wiring)]\n\
        fn second(_: &wiring::ResolveContext<'_>, _: &wiring::Options) -> Result<Option<wiring::Pair>, String> { Ok(None) }\n\
        fn main() { wiring::FrameResolvers::linked().iter().for_each(|r| println!(\"{}\", r.name())); }";
    project.package("app", "", &[Project::sibling("framework")], "src/main.rs", source);
    assert_eq!(project.build("app", BuildOptions::default()).run("app", &[]), "tenant\nsecond\n");
}

#[test]
fn two_copies_of_the_registry_in_one_program_are_refused() {
    let project = Project::new("two-copies");
    // Cargo refuses it by the manifest alone, so this is all the other version needs to have of the crate.
    let manifest = std::fs::read_to_string(frame_tests::workspace().join("registry/Cargo.toml")).unwrap();
    let links = manifest.lines().find(|line| line.starts_with("links = ")).expect("it says what it links");
    let other =
        format!("[package]\nname = \"frame-registry\"\nversion = \"0.2.0\"\nedition = \"2024\"\n{links}\n");
    project.write("other/Cargo.toml", &other);
    project.write("other/build.rs", "fn main() {}");
    project.write("other/src/lib.rs", "");
    let other = "other = { package = \"frame-registry\", path = \"../other\" }".to_owned();
    project.package("app", "", &[Project::registry(), other], "src/main.rs", "fn main() {}");
    let built = project.build("app", BuildOptions::default());
    assert_not_linked(&built, &["package `frame-registry", "links to the native library `frame_registry`"]);
}
