//! The public API of the crates that are published is the one that is committed in `tests/api`, an item a line.
//!
//! After a change that is wanted, `FRAME_API=overwrite cargo test -p frame-tests --test api` writes it anew.

#![cfg(unix)]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use frame_tests::workspace;

const CRATES: [&str; 4] = ["frame-registry-macros", "frame-registry", "frame-net", "frame-dispatch"];

/// The compiler whose rustdoc wrote what is committed. Another may write the same API in other words.
const COMPILER: &str = "rustc 1.95.";

fn is_that_compiler() -> bool {
    let output = Command::new("rustc").arg("--version").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_that = version.starts_with(COMPILER);
    assert!(
        is_that || env::var_os("CI").is_none(),
        "the API is committed as {COMPILER} writes it, not {version}"
    );
    is_that
}

/// Has rustdoc describe the crates as data, and gives the directory of that.
fn describe() -> PathBuf {
    let root = workspace();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&root).args(["doc", "--quiet", "--locked", "--offline", "--no-deps", "--all-features"]);
    cargo.args(CRATES.iter().flat_map(|name| ["--package", name]));
    // The description is an unstable feature of rustdoc.
    cargo.env("RUSTDOC", root.join("ci/rustdoc"));
    cargo.env("RUSTDOCFLAGS", "-Zunstable-options --output-format=json --cfg docsrs");
    let output = cargo.output().expect("Cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target_directory().join("doc")
}

fn target_directory() -> PathBuf {
    let test = env::current_exe().expect("the test is a file");
    test.ancestors().nth(3).expect("tests are in `target/<profile>/deps`").to_owned()
}

fn public_api(described: &Path, name: &str) -> String {
    let description = described.join(format!("{}.json", name.replace('-', "_")));
    let api = public_api::Builder::from_rustdoc_json(description)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    api.to_string()
}

#[test]
fn the_public_api_is_the_one_that_is_committed() {
    if !is_that_compiler() {
        eprintln!("SKIPPED: the API is committed as {COMPILER} writes it");
        return;
    }
    let described = describe();
    let is_overwriting = env::var_os("FRAME_API").is_some_and(|value| value == "overwrite");
    let mut changes = String::new();
    for name in CRATES {
        let committed = workspace().join(format!("tests/api/{name}.txt"));
        let now = public_api(&described, name);
        if is_overwriting {
            fs::write(&committed, &now).expect("the directory is writable");
            continue;
        }
        let before = fs::read_to_string(&committed).unwrap_or_default();
        let (before, now): (BTreeSet<_>, BTreeSet<_>) = (before.lines().collect(), now.lines().collect());
        changes.extend(before.difference(&now).map(|line| format!("-{line}\n")));
        changes.extend(now.difference(&before).map(|line| format!("+{line}\n")));
    }
    assert!(
        changes.is_empty(),
        "the public API has changed; if it is meant to, run this test with FRAME_API=overwrite:\n{changes}"
    );
}
