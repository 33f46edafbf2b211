//! What the documents of this repository refer to is there.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use frame_tests::workspace;

/// The documents that people read: those of the root, and the guide.
fn documents() -> Vec<PathBuf> {
    let in_directory = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).expect("it is there");
        let paths = entries.map(|entry| entry.expect("it can be read").path());
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
    };
    let root = workspace();
    let directories =
        ["", "docs/src", "benches", "examples", "registry", "registry-macros", "net", "dispatch"];
    let directories = directories.map(|directory| root.join(directory));
    directories.iter().flat_map(|directory| in_directory(directory)).collect()
}

/// What stands between `open` and `close`, each time, outside of blocks of code.
fn between<'a>(text: &'a str, open: &'a str, close: char) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split(close).next())
}

fn without_code(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The anchor that a heading has, as on GitHub and in mdBook.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    let mut followed = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("it is text");
        for link in between(&without_code(&text), "](", ')') {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, heading) =
                link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
            let directory = document.parent().expect("a file has a directory");
            let target = if path.is_empty() { document.clone() } else { directory.join(path) };
            assert!(target.exists(), "{}: `{link}` leads nowhere", document.display());
            if let Some(heading) = heading {
                let text = fs::read_to_string(&target).expect("it is text");
                let headings = text
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(|line| anchor(line.trim_start_matches('#')));
                assert!(
                    headings.into_iter().any(|it| it == heading),
                    "{}: no heading `{link}`",
                    document.display()
                );
            }
            followed += 1;
        }
    }
    assert!(followed >= 20, "{followed}");
}

#[test]
fn what_the_guide_includes_is_there() {
    let guide = workspace().join("docs/src");
    let mut included = 0;
    for document in documents().iter().filter(|document| document.starts_with(&guide)) {
        let text = fs::read_to_string(document).expect("it is text");
        for include in between(&text, "{{#include ", '}') {
            let mut parts = include.split(':');
            let path = parts.next().expect("there is one");
            let file =
                fs::read_to_string(guide.join(path)).unwrap_or_else(|error| panic!("{include}: {error}"));
            let part = parts.next().unwrap_or_default();
            let first = match part.parse::<usize>() {
                Ok(line) => line,
                Err(_) if part.is_empty() => 1,
                Err(_) => {
                    let named =
                        |mark: &str| file.lines().any(|line| line.trim() == format!("// {mark}: {part}"));
                    assert!(named("ANCHOR") && named("ANCHOR_END"), "{include} names no anchor");
                    included += 1;
                    continue;
                }
            };
            assert!(
                file.lines().nth(first - 1).is_some_and(|line| !line.is_empty()),
                "{include} begins with nothing"
            );
            included += 1;
        }
    }
    assert!(included >= 4, "{included}");
}

/// The page names the tests that show a claim in the last column of its table.
#[test]
fn tests_that_the_security_model_names_are_there() {
    let page = fs::read_to_string(workspace().join("docs/src/security-model.md")).expect("it is text");
    let claims = page.split("## What is promised").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows =
        claims.expect("the page has the section").lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut named = 0;
    for row in rows {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().expect("a row has cells");
        let tests = cell.split('`').skip(1).step_by(2).collect::<Vec<_>>();
        assert!(!tests.is_empty(), "no test shows a claim: {row}");
        for test in tests {
            assert!(workspace().join(test).exists(), "`{test}` is not there");
            named += 1;
        }
    }
    assert!(named >= 10, "{named}");
}

#[test]
fn the_guide_has_all_of_its_chapters() {
    let guide = workspace().join("docs/src");
    let summary = fs::read_to_string(guide.join("SUMMARY.md")).expect("it is there");
    for chapter in fs::read_dir(&guide).expect("it is there") {
        let name = chapter.expect("it can be read").file_name().into_string().expect("it is UTF-8");
        assert!(name == "SUMMARY.md" || summary.contains(&format!("({name})")), "`{name}` is in no summary");
    }
}

#[test]
fn packages_have_a_readme_and_both_licences() {
    for name in ["frame-registry-macros", "frame-registry", "frame-net", "frame-dispatch"] {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace()).args([
            "package",
            "--list",
            "--offline",
            "--allow-dirty",
            "--package",
            name,
        ]);
        let listed = cargo.output().expect("Cargo runs");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for file in ["README.md", "LICENSE-APACHE", "LICENSE-MIT"] {
            assert!(listed.lines().any(|line| line == file), "{name}: no `{file}` in\n{listed}");
        }
    }
}
