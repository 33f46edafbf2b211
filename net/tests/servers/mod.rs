//! Real servers, started by a test on loopback and ended with it.
//!
//! `fetch.sh` beside this file gets them. Where there is none a test is skipped, and says so; with `CI` set it fails.
#![allow(dead_code, unused_imports, unused_macros, unreachable_pub, missing_docs)]

pub mod dante;
pub mod i2pd;
pub mod microsocks;
pub mod names;
pub mod namespace;
pub mod origin;
pub mod port;
pub mod process;
pub mod program;
pub mod tinyproxy;
pub mod tor;
pub mod tor_control;
pub mod tor_testnet;
pub mod web;
pub mod websocketd;

use std::path::{Path, PathBuf};

use frame_net::socks5::{HandshakeError, Refusal};
use frame_net::{Cause, NetworkError};

/// A folder that is gone with the value.
pub fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("frame-net-").tempdir().unwrap()
}

/// Writes a file into `folder`.
pub fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// What went wrong between the client and the proxy.
pub fn handshake_error(error: &NetworkError) -> HandshakeError {
    let NetworkError::Connect { source, .. } = error else { panic!("{error:?}") };
    let Cause::Handshake(error) = source.cause() else { panic!("{source:?}") };
    *error
}

/// With what the proxy refused to connect.
pub fn refusal(error: &NetworkError) -> Refusal {
    match handshake_error(error) {
        HandshakeError::Refused(refusal) => refusal,
        error => panic!("{error:?}"),
    }
}
