//! A Rust `dylib` that contains the registry: what is outside of it is not in its table, so it does not link.

use std::process::Command;

use frame_tests::{BuildOptions, Built, Project};

use crate::order::{GNU_LD, MOLD, is_mold_installed};

const READER: &str = "frame_registry_is_in_another_library";

/// A framework as a shared library, with the registry, a resolver, an option and a key inside, and programs on it.
fn project() -> Project {
    let project = Project::new("dylib");
    let framework = "pub use frame_registry;\n\
        use frame_registry::*;\n\
        #[frame_option(name = \"region\")]\npub static REGION: FrameOption<u32>;\n\
        #[frame_key(name = \"net.region\", stays)]\npub static REGION_OF: Key<u32>;\n\
        #[frame_resolver(order = 1, covers(REGION))]\n\
        fn inside(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {\n\
            Ok(options.pair(&REGION, &REGION_OF))\n\
        }\n\
        pub fn names() -> Vec<String> { FrameResolvers::linked().iter().map(|r| r.name().to_owned()).collect() }\n";
    let kind = "[lib]\ncrate-type = [\"dylib\"]";
    project.package("framework", kind, &[Project::registry()], "src/lib.rs", framework);

    let program = |name: &str, item: &str| {
        let source = format!("{item}\nfn main() {{ println!(\"{{:?}}\", framework::names()); }}");
        project.package(name, "", &[Project::sibling("framework")], "src/main.rs", &source);
    };
    program("bare", "");
    let source = "use framework::frame_registry::*;\n\
        fn main() {\n\
            let app = App::builder().build();\n\
            let options = Options::new().with(&framework::REGION, 7);\n\
            let mut frame = FrameBuilder::new();\n\
            FrameResolvers::linked().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut()).unwrap();\n\
            println!(\"{:?} {}\", frame.seal().get(&framework::REGION_OF), declared_keys().len());\n\
        }";
    project.package("uses", "", &[Project::sibling("framework")], "src/main.rs", source);
    program(
        "with-resolver",
        "use framework::frame_registry::{ResolveContext, Options, Pair, frame_resolver};\n\
         #[frame_resolver(order = 2, crate = framework::frame_registry)]\n\
         fn own(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, String> { Ok(None) }",
    );
    for (name, kind) in [("with-dispatcher-option", "dispatcher"), ("with-runtime-option", "runtime")] {
        let option = format!(
            "use framework::frame_registry::{{FrameOption, frame_option}};\n\
             #[frame_option(name = \"tenant\", {kind}, crate = framework::frame_registry)]\n\
             pub static TENANT: FrameOption<u32>;"
        );
        program(name, &option);
    }
    program(
        "with-key",
        "use framework::frame_registry::{Key, frame_key};\n\
         #[frame_key(name = \"tenant\", stays, crate = framework::frame_registry)]\n\
         pub static TENANT: Key<u32>;",
    );
    project
}

/// Flags for each linker, all of which prefer a `dylib`.
fn linkers() -> Vec<Vec<&'static str>> {
    let mold = is_mold_installed().then_some(MOLD);
    let linkers = [&[], GNU_LD].into_iter().chain(mold);
    linkers.map(|flags| [&["-Cprefer-dynamic"], flags].concat()).collect()
}

#[track_caller]
fn assert_not_linked(built: &Built, what: &str) {
    assert!(!built.is_ok, "{what} linked");
    assert!(built.stderr.contains(READER), "{what}: `{READER}` is not in:\n{}", built.stderr);
}

#[test]
fn a_resolver_outside_of_the_library_that_has_the_registry_does_not_link() {
    let project = project();
    for rustflags in linkers() {
        for profile in ["dev", "release"] {
            let options = BuildOptions { profile, rustflags: &rustflags, ..BuildOptions::default() };
            let built = project.build("with-resolver", options);
            assert_not_linked(&built, &format!("{profile}, {rustflags:?}"));
        }
    }
}

#[test]
fn an_option_or_a_key_outside_of_the_library_that_has_the_registry_does_not_link() {
    let project = project();
    for rustflags in linkers() {
        for name in ["with-dispatcher-option", "with-runtime-option", "with-key"] {
            let options = BuildOptions { rustflags: &rustflags, ..BuildOptions::default() };
            assert_not_linked(&project.build(name, options), &format!("{name}, {rustflags:?}"));
        }
    }
}

/// What a program on the library prints.
#[track_caller]
fn run(built: &Built, name: &str) -> String {
    let sysroot = Command::new("rustc").args(["--print", "target-libdir"]).output().expect("rustc runs");
    let sysroot = String::from_utf8(sysroot.stdout).expect("it is a path");
    let libraries = format!("{}:{}", sysroot.trim(), built.artifacts.join("deps").display());
    let output = Command::new(built.artifact(name))
        .env("LD_LIBRARY_PATH", libraries)
        .output()
        .expect("it is a program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn resolvers_inside_of_the_library_run() {
    let project = project();
    for rustflags in linkers() {
        let options = BuildOptions { rustflags: &rustflags, ..BuildOptions::default() };
        let built = project.build("bare", options);
        assert_eq!(run(&built, "bare"), "[\"inside\"]\n", "{rustflags:?}");
    }
}

#[test]
fn programs_use_the_options_and_keys_inside_of_the_library() {
    let project = project();
    for rustflags in linkers() {
        for profile in ["dev", "release"] {
            let options = BuildOptions { profile, rustflags: &rustflags, ..BuildOptions::default() };
            let built = project.build("uses", options);
            assert!(built.is_ok, "{profile}, {rustflags:?}: {}", built.stderr);
            assert_eq!(run(&built, "uses"), "Some(7) 1\n", "{profile}, {rustflags:?}");
        }
    }
}
