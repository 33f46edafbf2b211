//! curl, the program.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::server::{Protocol, Server};

/// Whether there is one.
pub(crate) fn is_there() -> bool {
    Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Seconds that one process takes that makes `count` requests, `together` at a time.
pub(crate) fn seconds(
    server: &Server,
    is_proxied: bool,
    protocol: Protocol,
    path: &str,
    count: u32,
    together: u32,
) -> f64 {
    let mut command = Command::new("curl");
    command.args(["--disable", "--silent", "--show-error", "--fail", "--noproxy", "", "--max-time", "60"]);
    command.arg("--cacert").arg(server.certificate_file());
    command.arg(if protocol == Protocol::Http2 { "--http2" } else { "--http1.1" });
    if is_proxied {
        command.arg("--socks5-hostname").arg(server.socks5.to_string());
    }
    if together > 1 {
        command.args(["--parallel", "--parallel-max"]).arg(together.to_string());
    }
    // The server does not look at the query.
    command.args(["--output", "/dev/null"]).arg(server.url(protocol, &format!("{path}?[1-{count}]")));
    let begun = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("curl is there");
    assert!(status.success(), "{status}");
    begun.elapsed().as_secs_f64()
}
