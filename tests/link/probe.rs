//! The build script of the registry tries the linker with the user's flags, and leaves nothing where it should not.

use frame_tests::{BuildOptions, Project, workspace};

/// A program that prints how its table was sorted.
fn project(name: &str) -> Project {
    let project = Project::new(name);
    let source = "fn main() { print!(\"{}\", frame_registry::FrameResolvers::linked().layout().as_str()); }";
    project.package("app", "", &[Project::registry()], "src/main.rs", source);
    project
}

#[test]
fn a_file_that_the_flags_have_the_linker_write_is_not_in_the_sources_of_the_registry() {
    let project = project("probe-map");
    let options = BuildOptions { rustflags: &["-Clink-arg=-Wl,-Map=prog.map"], ..BuildOptions::default() };
    assert_eq!(project.build("app", options).run("app", &[]), "link-time");
    assert!(project.path("prog.map").exists(), "the program has its map");
    assert!(!workspace().join("registry/prog.map").exists());
}

#[test]
fn flags_with_which_nothing_links_from_elsewhere_are_reported() {
    let project = project("probe-object");
    project.write("extra.c", "int extra;\n");
    let compiled = std::process::Command::new("cc")
        .args(["-c", "extra.c", "-o", "extra.o"])
        .current_dir(project.path(""))
        .status();
    assert!(compiled.expect("a C compiler is installed").success());
    let options = BuildOptions { rustflags: &["-Clink-arg=extra.o"], ..BuildOptions::default() };
    let built = project.build("app", options);
    assert_eq!(built.run("app", &[]), "first-use");
    for words in [
        "cannot tell whether this linker sorts the table of resolvers",
        "FRAME_REGISTRY_LINK_SORT=off",
        "extra.o",
        "No such file or directory",
    ] {
        assert!(built.stderr.contains(words), "`{words}` is not in:\n{}", built.stderr);
    }
}

#[test]
fn a_linker_that_takes_no_script_is_nothing_to_report() {
    let project = project("probe-gnu-ld");
    let options = BuildOptions { rustflags: crate::order::GNU_LD, ..BuildOptions::default() };
    let built = project.build("app", options);
    assert_eq!(built.run("app", &[]), "first-use");
    assert!(!built.stderr.contains("warning"), "{}", built.stderr);
}
