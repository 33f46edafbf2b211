//! The control port of tor: which streams it has, on which circuits.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::support::soon;

/// A connection to the control port of a tor that trusts whoever can reach it.
pub struct Control(BufReader<TcpStream>);

/// A stream, as `GETINFO stream-status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub id: String,
    /// Such as `SUCCEEDED`, once it is connected.
    pub status: String,
    /// The circuit it is on.
    pub circuit: String,
    /// What it connects to. Once it is connected, a name has become an address.
    pub target: String,
}

/// A circuit, as `GETINFO circuit-status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    pub id: String,
    /// Such as `BUILT`.
    pub status: String,
    /// Its relays and what it is for.
    pub details: String,
}

impl Control {
    pub async fn connect(address: SocketAddr) -> Self {
        let mut control = Self(BufReader::new(soon(TcpStream::connect(address)).await.unwrap()));
        control.command("AUTHENTICATE").await;
        control
    }

    /// The streams there are, of whichever client.
    pub async fn streams(&mut self) -> Vec<Stream> {
        let lines = self.info("stream-status").await;
        lines.iter().map(|line| Stream::parse(line).unwrap_or_else(|| panic!("{line}"))).collect()
    }

    /// The circuits there are.
    pub async fn circuits(&mut self) -> Vec<Circuit> {
        let lines = self.info("circuit-status").await;
        lines.iter().map(|line| Circuit::parse(line).unwrap_or_else(|| panic!("{line}"))).collect()
    }

    /// The circuit of the one stream to `port` that is connected: give every stream a target of its own.
    ///
    /// # Panics
    ///
    /// If there is none, or several.
    pub async fn circuit_to(&mut self, port: u16) -> String {
        let streams = self.streams().await;
        let mut found =
            streams.iter().filter(|stream| stream.status == "SUCCEEDED" && stream.port() == Some(port));
        match (found.next(), found.next()) {
            (Some(stream), None) => stream.circuit.clone(),
            _ => panic!("not one stream to port {port} in {streams:?}"),
        }
    }

    /// The lines of what `GETINFO` says about `key`.
    pub async fn info(&mut self, key: &str) -> Vec<String> {
        let reply = self.command(&format!("GETINFO {key}")).await;
        let lines = reply.into_iter().map(|line| match line.strip_prefix(&format!("{key}=")) {
            Some(value) => value.to_owned(),
            None => line,
        });
        lines.filter(|line| !line.is_empty()).collect()
    }

    /// Sends a command, and gives back the lines of the reply but for the last, which says that it was understood.
    async fn command(&mut self, command: &str) -> Vec<String> {
        soon(self.0.write_all(format!("{command}\r\n").as_bytes())).await.unwrap();
        let mut reply = Vec::new();
        loop {
            let line = self.line().await;
            match line.split_at_checked(4) {
                Some(("250 ", _)) => return reply,
                Some(("250-", value)) => reply.push(value.to_owned()),
                Some(("250+", first)) => {
                    reply.push(first.to_owned());
                    reply.extend(self.until_dot().await);
                }
                _ => panic!("{command}: {line}"),
            }
        }
    }

    async fn until_dot(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            if line == "." {
                return lines;
            }
            lines.push(line);
        }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.0.read_line(&mut line)).await.unwrap();
        assert!(line.ends_with("\r\n"), "tor closed the control connection");
        line.trim_end().to_owned()
    }
}

impl Stream {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ').map(ToOwned::to_owned);
        Some(Self { id: words.next()?, status: words.next()?, circuit: words.next()?, target: words.next()? })
    }

    fn port(&self) -> Option<u16> {
        self.target.rsplit_once(':')?.1.parse().ok()
    }
}

impl Circuit {
    fn parse(line: &str) -> Option<Self> {
        let (id, rest) = line.split_once(' ')?;
        let (status, details) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Self { id: id.to_owned(), status: status.to_owned(), details: details.to_owned() })
    }
}
