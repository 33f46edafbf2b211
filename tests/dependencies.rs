//! Dependencies point one way.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// The packages of this workspace that `package` depends on, tests aside.
fn dependencies(metadata: &Value, package: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().expect("a list");
    let names: BTreeSet<_> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let package = packages.iter().find(|other| other["name"] == package).expect("a package of the workspace");
    let normal = package["dependencies"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|dependency| dependency["kind"] != "dev");
    let of_workspace =
        normal.filter_map(|dependency| dependency["name"].as_str()).filter(|name| names.contains(name));
    of_workspace.map(str::to_owned).collect()
}

#[test]
fn dependencies_point_from_the_program_to_the_registry() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(frame_tests::workspace())
        .output()
        .expect("Cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected: [(&str, &[&str]); 5] = [
        ("frame-registry-macros", &[]),
        ("frame-registry", &["frame-registry-macros"]),
        ("frame-net", &["frame-registry"]),
        ("frame-dispatch", &["frame-registry"]),
        ("frame-runtime", &["frame-dispatch", "frame-net", "frame-registry"]),
    ];
    for (package, allowed) in expected {
        let found = dependencies(&metadata, package);
        assert!(
            found.iter().map(String::as_str).eq(allowed.iter().copied()),
            "{package} depends on {found:?}"
        );
    }
}
