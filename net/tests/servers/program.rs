//! Finding the program of a server.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::thread;

/// The program of a server, with the libraries that were fetched with it.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    libraries: Option<OsString>,
}

impl Program {
    /// The first of `names` that is there. Where none is, the test that asks is to return: it was said why.
    ///
    /// With `FRAME_TEST_SERVERS` set to a folder, as `fetch.sh` makes them, only that is looked at.
    ///
    /// # Panics
    ///
    /// If none is there and this is CI, where a skipped test would pass for one that succeeded.
    pub fn find(names: &[&str]) -> Option<Self> {
        let found = match std::env::var_os("FRAME_TEST_SERVERS") {
            Some(folder) => Self::in_folder(Path::new(&folder), names),
            None => default_folders()
                .iter()
                .find_map(|folder| Self::in_folder(folder, names))
                .or_else(|| Self::in_path(names)),
        };
        if found.is_none() {
            skipped(&format!("there is no `{}`; run net/tests/servers/fetch.sh", names.join("` or `")));
        }
        found
    }

    fn in_folder(folder: &Path, names: &[&str]) -> Option<Self> {
        let path = first_file(&[folder.join("usr/bin"), folder.join("usr/sbin")], names)?;
        // Debian's folder of libraries is named for the machine, such as `x86_64-linux-gnu`.
        let libraries = ["usr/lib", "lib"].iter().flat_map(|lib| {
            let entries = std::fs::read_dir(folder.join(lib)).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("-linux-gnu"))
        });
        Some(Self { path, libraries: std::env::join_paths(libraries).ok() })
    }

    fn in_path(names: &[&str]) -> Option<Self> {
        Some(Self { path: first_file(&path_folders(), names)?, libraries: None })
    }

    /// A command that runs it, and that is ended by the kernel should this process be killed.
    pub fn command(&self) -> Command {
        static SETPRIV: LazyLock<Option<PathBuf>> =
            LazyLock::new(|| first_file(&path_folders(), &["setpriv"]));
        let mut command = match &*SETPRIV {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(&self.path);
                command
            }
            None => Command::new(&self.path),
        };
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// Says that the test of this thread does not test anything, and why.
///
/// # Panics
///
/// If this is CI, where a skipped test would pass for one that succeeded.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "this test must not be skipped in CI: {why}");
    let test = thread::current().name().unwrap_or("a test").to_owned();
    // Not `eprintln!`, which a test that passes does not show.
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: {why}");
}

/// Where `fetch.sh` puts them unless it is told otherwise.
fn default_folders() -> Vec<PathBuf> {
    let own_target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().map(|target| target.join("servers"));
    let workspace_target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/servers");
    own_target.into_iter().chain([workspace_target]).collect()
}

/// The folders of `PATH`, and those of servers, which are not in everyone's `PATH`.
fn path_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from)).collect()
}

fn first_file(folders: &[PathBuf], names: &[&str]) -> Option<PathBuf> {
    let mut paths = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    paths.find(|path| path.is_file())
}

/// Runs `command` to its end and gives back what it printed.
///
/// # Panics
///
/// If it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", printed(&output.stdout), printed(&output.stderr));
    printed(&output.stdout)
}
