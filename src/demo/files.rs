//! The example `hello`, as files.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../examples/hello/", $name)))),*]
    };
}

/// What is beside the manifest.
const FILES: &[(&str, &[u8])] = files![
    "ask.lua",
    "fetch.lua",
    "greet.lua",
    "read.lua",
    "report.lua",
    "shout.wasm",
    "stray.lua",
    "ticker.lua",
    "whoami.lua",
];

const MANIFEST: &str = include_str!("../../examples/hello/app.toml");

/// Where the manifest says that its relay is.
const RELAY: &str = "127.0.0.1:1080";

/// A copy of the example that is gone when this is dropped.
pub(super) struct Files {
    directory: TempDir,
}

impl Files {
    /// A copy of the example, with the relay that there is.
    pub(super) fn with_relay(relay: SocketAddr) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        for (name, bytes) in FILES {
            fs::write(directory.path().join(name), bytes)?;
        }
        fs::create_dir_all(directory.path().join("data/reports"))?;
        fs::write(directory.path().join("app.toml"), MANIFEST.replace(RELAY, &relay.to_string()))?;
        Ok(Self { directory })
    }

    pub(super) fn manifest(&self) -> PathBuf {
        self.directory.path().join("app.toml")
    }
}
