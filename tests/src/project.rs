//! Little Cargo projects, written to a temporary directory and built offline against this workspace.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The root of this workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of the workspace").to_owned()
}

/// A Cargo workspace of small packages. All projects share one target directory, so that what they depend on is
/// built once for each set of flags.
///
/// There is one at a time: the artifacts of all are in one place, and packages of different projects have the same names.
#[derive(Debug)]
pub struct Project {
    root: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

/// How a project is built.
#[derive(Debug, Clone, Copy)]
pub struct BuildOptions<'a> {
    /// `dev`, `release`, or one of the profiles `thin` and `fat`: release with that kind of link-time optimisation.
    pub profile: &'a str,
    /// Compiler flags, for the target only.
    pub rustflags: &'a [&'a str],
    /// Environment variables beside those of the test.
    pub env: &'a [(&'a str, &'a str)],
}

impl Default for BuildOptions<'_> {
    fn default() -> Self {
        Self { profile: "dev", rustflags: &[], env: &[] }
    }
}

/// What a build printed, and where its artifacts are.
#[derive(Debug)]
pub struct Built {
    /// Whether it succeeded.
    pub is_ok: bool,
    /// Standard error, whole.
    pub stderr: String,
    /// The directory of the final artifacts.
    pub artifacts: PathBuf,
}

impl Project {
    /// Makes an empty project called `name`; what was there of an earlier run is replaced.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let root = shared_directory().join("projects").join(name);
        if root.exists() {
            fs::remove_dir_all(&root).expect("nobody else uses it");
        }
        let project = Self { root, _turn: turn };
        project.write(
            "Cargo.toml",
            r#"
            [workspace]
            resolver = "3"
            members = ["*"]
            [profile.thin]
            inherits = "release"
            lto = "thin"
            [profile.fat]
            inherits = "release"
            lto = "fat"
            "#,
        );
        // The versions that this workspace has are the ones that are there offline.
        fs::copy(workspace().join("Cargo.lock"), project.path("Cargo.lock"))
            .expect("the workspace is locked");
        project
    }

    /// Adds the package `name`, with a `src/lib.rs` or `src/main.rs` of its own. `dependencies` are lines of its
    /// manifest; `frame-registry` and packages of this project are named by [`registry`](Self::registry) and
    /// [`sibling`](Self::sibling).
    pub fn package(&self, name: &str, manifest: &str, dependencies: &[String], file: &str, source: &str) {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{manifest}\n[dependencies]\n{}\n",
            dependencies.join("\n")
        );
        self.write(&format!("{name}/Cargo.toml"), &manifest);
        self.write(&format!("{name}/{file}"), source);
    }

    /// A dependency on the registry of this workspace.
    #[must_use]
    pub fn registry() -> String {
        format!(
            "frame-registry = {{ path = \"{}/registry\", default-features = false }}",
            workspace().display()
        )
    }

    /// A dependency on another package of the project.
    #[must_use]
    pub fn sibling(name: &str) -> String {
        format!("{name} = {{ path = \"../{name}\" }}")
    }

    /// Writes a file, making its directory.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file has a directory"))
            .expect("the directory is writable");
        fs::write(path, text).expect("the directory is writable");
    }

    /// The place of a file of the project.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The target directory of all projects.
    #[must_use]
    pub fn target(&self) -> PathBuf {
        shared_directory().join("target")
    }

    /// Builds one package.
    #[must_use]
    pub fn build(&self, package: &str, options: BuildOptions<'_>) -> Built {
        let output = self.compile("build", package, options).output().expect("Cargo runs");
        let directory = if options.profile == "dev" { "debug" } else { options.profile };
        Built {
            is_ok: output.status.success(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            artifacts: self.target().join(host()).join(directory),
        }
    }

    /// Builds and runs the tests of one package; `arguments` choose which.
    #[must_use]
    pub fn test(&self, package: &str, options: BuildOptions<'_>, arguments: &[&str]) -> Output {
        let mut cargo = self.compile("test", package, options);
        cargo.args(arguments).output().expect("Cargo runs")
    }

    fn compile(&self, command: &str, package: &str, options: BuildOptions<'_>) -> Command {
        // With a target given, the flags are not those of macros and build scripts, which are then built once.
        let mut cargo = self.cargo(&[command, "--offline", "--package", package, "--target", &host()]);
        cargo
            .args(["--profile", options.profile])
            .env("CARGO_ENCODED_RUSTFLAGS", options.rustflags.join("\u{1f}"))
            .env("CARGO_TARGET_DIR", self.target())
            .envs(options.env.iter().copied());
        cargo
    }

    /// A Cargo command in the project's directory, with nothing of the test's own build in its environment.
    #[must_use]
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(arguments).current_dir(&self.root);
        for variable in ["RUSTFLAGS", "RUSTC_WRAPPER", "FRAME_REGISTRY_LINK_SORT", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(variable);
        }
        cargo
    }
}

impl Built {
    /// The build's artifact `file`.
    ///
    /// # Panics
    ///
    /// If the build failed, with what it printed.
    #[must_use]
    #[track_caller]
    pub fn artifact(&self, file: &str) -> PathBuf {
        assert!(self.is_ok, "the build failed:\n{}", self.stderr);
        self.artifacts.join(file)
    }

    /// Runs the program `file` and gives what it printed.
    ///
    /// # Panics
    ///
    /// If the build or the program failed, with what it printed.
    #[must_use]
    #[track_caller]
    pub fn run(&self, file: &str, arguments: &[&OsStr]) -> String {
        run(&self.artifact(file), arguments)
    }
}

/// Runs a program and gives what it printed.
///
/// # Panics
///
/// If it failed, with what it printed.
#[must_use]
#[track_caller]
pub fn run(program: &Path, arguments: &[&OsStr]) -> String {
    let output = Command::new(program).args(arguments).output().expect("it is a program");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}\n{stdout}{stderr}", program.display(), output.status);
    stdout
}

/// A directory beside the artifacts of this workspace, so that it is cleaned with them.
fn shared_directory() -> PathBuf {
    let test = env::current_exe().expect("the test is a file");
    let profile = test.ancestors().nth(2).expect("tests are in `target/<profile>/deps`");
    profile.with_file_name("tmp").join("little-projects")
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}
