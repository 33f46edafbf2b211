//! Two keys of one wire name.

use frame_tests::{BuildOptions, Project};

use crate::order::{GNU_LD, MOLD, is_mold_installed};

const REGISTRY: &str = "use frame_registry::*;\n";

/// A program with two crates that declare a key of one name.
fn twins() -> Project {
    let project = Project::new("key-twins");
    let registry = Project::registry().replace("default-features = false", "features = [\"json\"]");
    for name in ["left", "right"] {
        let source = format!(
            "{REGISTRY}#[frame_key(name = \"net.overlay\", propagates, inherit)]\npub static NETWORK_KEY: Key<u32>;"
        );
        project.package(name, "", std::slice::from_ref(&registry), "src/lib.rs", &source);
    }
    let source = format!(
        "{REGISTRY}fn main() {{\n\
             println!(\"{{}}{{}}\", left::NETWORK_KEY.name(), right::NETWORK_KEY.name());\n\
             println!(\"{{}}\", declared_key(\"net.overlay\").unwrap_err());\n\
             println!(\"{{}}\", FrameResolvers::linked().check().unwrap_err());\n\
             let empty = FrameResolvers::empty();\n\
             println!(\"{{}}\", empty.check().unwrap_err());\n\
             let new = Resolver::new(\"new\", 1, |_: &ResolveContext<'_>, _: &Options| Ok::<[_; 0], String>([]));\n\
             println!(\"{{}}\", std::error::Error::source(&empty.register(new).unwrap_err()).unwrap());\n\
             let frame: Frame = [left::NETWORK_KEY.pair(1)].into_iter().collect();\n\
             println!(\"{{:?}}\", frame.get(&right::NETWORK_KEY));\n\
         }}"
    );
    let dependencies = [registry, Project::sibling("left"), Project::sibling("right")];
    project.package("both", "", &dependencies, "src/main.rs", &source);
    project
}

#[test]
fn two_keys_of_one_name_do_not_link() {
    let project = twins();
    let mut builds = vec![("dev", &[][..]), ("release", &[]), ("fat", &[]), ("dev", GNU_LD)];
    if is_mold_installed() {
        builds.extend([("dev", MOLD), ("release", MOLD)]);
    }
    for (profile, rustflags) in builds {
        let built = project.build("both", BuildOptions { profile, rustflags, ..BuildOptions::default() });
        assert!(!built.is_ok, "it linked");
        let symbol = "frame_key_net.overlay_is_declared_more_than_once";
        assert!(built.stderr.contains(symbol), "`{symbol}` is not in:\n{}", built.stderr);
    }
}

#[test]
fn where_the_linker_misses_two_keys_of_one_name_every_use_by_name_is_an_error() {
    let project = twins();
    let builds = [("thin", &[][..]), ("dev", &["--cfg=miri", "-Clink-arg=-Wl,--allow-multiple-definition"])];
    for (profile, rustflags) in builds {
        let built = project.build("both", BuildOptions { profile, rustflags, ..BuildOptions::default() });
        let refused = "frame key `net.overlay` is declared twice, at left/src/lib.rs:2 and at right/src/lib.rs:2; \
                       give one of them another `name`";
        let printed = built.run("both", &[]);
        let expected = [refused, refused, refused, refused, "None"];
        assert_eq!(printed.lines().skip(1).collect::<Vec<_>>(), expected, "{profile}");
    }
}
