//! Servers of HTTP: nginx, nghttpd, `HAProxy` and Caddy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::servers::process::{PATIENCE, Process};
use crate::servers::program::Program;
use crate::servers::{file, folder, port};

/// The files of a certificate and its key, in PEM.
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A web server on 127.0.0.1. Dropping it ends it.
pub struct Web {
    pub address: SocketAddr,
    pub process: Process,
    folder: tempfile::TempDir,
    log: Log,
    admin: Option<SocketAddr>,
}

/// How a server logs a request, which it does after it was answered.
enum Log {
    /// In the file `access`, in lines in which this finds the path.
    File(fn(&str) -> Option<&str>),
    /// Among what it prints, in lines in which this finds the path.
    Printed(fn(&str) -> Option<&str>),
    /// Not at all.
    None,
}

impl Web {
    /// nginx, with TLS and HTTP/2 if it is given an identity. `settings` go into its server.
    pub async fn nginx(identity: Option<&Identity>, settings: &str) -> Option<Self> {
        let program = Program::find(&["nginx"])?;
        let (folder, address) = (folder(), port::free_v4());
        let root = folder.path().display().to_string();
        let (protocol, tls) = match identity {
            None => ("", String::new()),
            Some(Identity { certificate, key }) => (
                " ssl http2",
                format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display()),
            ),
        };
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {root}/{name};\n"))
            .concat();
        let text = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr notice;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n\
             log_format seen '$connection $request_method $request_uri $status';\n\
             access_log {root}/access seen;\n\
             {temporary}\
             server {{ listen {address}{protocol}; {tls}\n{settings}\n}}\n}}\n"
        );
        let configuration = file(folder.path(), "nginx.conf", &text);
        let mut command = program.command();
        command.arg("-p").arg(folder.path()).arg("-c").arg(configuration).args(["-e", "stderr"]);
        let process = Process::spawn("nginx", command);
        process.accepts(address).await;
        let log = Log::File(|line| line.split(' ').nth(2));
        Some(Self { address, process, folder, log, admin: None })
    }

    /// nghttpd, which speaks HTTP/2, and serves the files that it is given.
    pub async fn nghttpd(
        identity: &Identity,
        files: &[(&str, &str)],
        arguments: &[impl AsRef<std::ffi::OsStr>],
    ) -> Option<Self> {
        let program = Program::find(&["nghttpd"])?;
        let (folder, address) = (folder(), port::free_v4());
        for (name, text) in files {
            file(folder.path(), name, text);
        }
        let mut command = program.command();
        command.args(["--verbose", "--address", "127.0.0.1", "-d"]).arg(folder.path()).args(arguments);
        command.arg(address.port().to_string()).args([&identity.key, &identity.certificate]);
        let process = Process::spawn("nghttpd", command);
        process.accepts(address).await;
        let log = Log::Printed(|line| Some(line.split_once(") :path: ")?.1));
        Some(Self { address, process, folder, log, admin: None })
    }

    /// `HAProxy` before `backend`, with TLS and HTTP/2. `settings` go into its frontend.
    pub async fn haproxy(identity: &Identity, backend: SocketAddr, settings: &str) -> Option<Self> {
        let program = Program::find(&["haproxy"])?;
        let (folder, address) = (folder(), port::free_v4());
        let both = [&identity.certificate, &identity.key].map(|path| std::fs::read_to_string(path).unwrap());
        let pem = file(folder.path(), "both.pem", &both.concat());
        let stats = folder.path().join("stats");
        let text = format!(
            "global\n  stats socket {} level admin expose-fd listeners\n  log stderr local0\ndefaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout \
             connect 10s\nfrontend in\n  bind {address} ssl crt {} alpn h2,http/1.1\n  {settings}\n  default_backend \
             out\nbackend out\n  server one {backend}\n",
            stats.display(),
            pem.display()
        );
        let configuration = file(folder.path(), "haproxy.cfg", &text);
        let mut command = program.command();
        command.args(["-W", "-db", "-f"]).arg(configuration);
        let process = Process::spawn("haproxy", command);
        process.accepts(address).await;
        Some(Self { address, process, folder, log: Log::None, admin: None })
    }

    /// Caddy, with TLS and HTTP/2. `settings` go into its site.
    pub async fn caddy(identity: &Identity, settings: &str) -> Option<Self> {
        let program = Program::find(&["caddy"])?;
        let (folder, address, admin) = (folder(), port::free_v4(), port::free_v4());
        let text = format!(
            "{{\n  admin {admin}\n  auto_https off\n  storage file_system {}\n}}\nhttps://:{} {{\n  bind 127.0.0.1\n  log {{\n    output \
             file {}\n  }}\n  tls {} {}\n{settings}\n}}\n",
            folder.path().join("storage").display(),
            address.port(),
            folder.path().join("access").display(),
            identity.certificate.display(),
            identity.key.display()
        );
        let configuration = file(folder.path(), "Caddyfile", &text);
        let mut command = program.command();
        command
            .env("HOME", folder.path())
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(configuration);
        let process = Process::spawn("caddy", command);
        process.accepts(address).await;
        let log = Log::File(|line| line.split_once(r#""uri":""#)?.1.split('"').next());
        Some(Self { address, process, folder, log, admin: Some(admin) })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Has `HAProxy` take over its configuration again: new processes take new connections, and the old ones end when theirs
    /// do.
    pub async fn reload_haproxy(&self) {
        const LOADED: &str = "Loading success";
        let before = self.process.log().matches(LOADED).count();
        self.process.signal("USR2");
        self.process.logs(|log| log.matches(LOADED).count() > before, "that it is loaded again").await;
    }

    /// Has Caddy take over its configuration again: it closes its connections when their requests are answered.
    pub async fn reload_caddy(&self) {
        let text = std::fs::read_to_string(self.folder.path().join("Caddyfile")).unwrap();
        let request = format!(
            "POST /load HTTP/1.1\r\nHost: {0}\r\nContent-Type: text/caddyfile\r\nCache-Control: \
             must-revalidate\r\nConnection: close\r\nContent-Length: {1}\r\n\r\n{text}",
            self.admin.unwrap(),
            text.len(),
        );
        let mut stream = TcpStream::connect(self.admin.unwrap()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// What the server has logged of each path, once it has logged `count` requests: how often it was asked for.
    pub async fn paths(&self, count: usize) -> BTreeMap<String, usize> {
        let logged = async {
            while self.logged_paths().len() < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        // Fewer are for the test to report.
        let _ = timeout(PATIENCE, logged).await;
        let mut paths = BTreeMap::new();
        for path in self.logged_paths() {
            *paths.entry(path).or_insert(0) += 1;
        }
        paths
    }

    fn logged_paths(&self) -> Vec<String> {
        let (lines, path) = match self.log {
            Log::File(path) => (self.lines(), path),
            Log::Printed(path) => (self.process.log().lines().map(str::to_owned).collect(), path),
            Log::None => panic!("the server does not log requests"),
        };
        lines.iter().filter_map(|line| path(line)).map(str::to_owned).collect()
    }

    /// Over how many connections nginx has been asked.
    pub fn connections(&self) -> usize {
        let lines = self.lines();
        let connections = lines.iter().map(|line| line.split(' ').next().unwrap());
        connections.collect::<std::collections::BTreeSet<_>>().len()
    }

    fn lines(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("access")).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}
