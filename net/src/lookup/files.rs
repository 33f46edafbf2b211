//! The files in which this host says how names are looked up.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use resolv_conf::ScopedIp;

/// The addresses of names, and the name servers to ask about others.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) hosts: Hosts,
    pub(super) servers: Servers,
    /// What the files were like when they were read.
    stamps: [Option<Stamp>; 2],
}

#[cfg(not(windows))]
const HOSTS: &str = "/etc/hosts";
#[cfg(windows)]
const HOSTS: &str = r"C:\Windows\System32\drivers\etc\hosts";
const SERVERS: &str = "/etc/resolv.conf";

static CURRENT: Mutex<Option<Arc<Files>>> = Mutex::new(None);

impl Files {
    /// Returns the files as they are now. They are read again if they have changed.
    pub(super) fn current() -> Arc<Self> {
        // Before they are read: if they change in between the next lookup sees it.
        let stamps = [HOSTS, SERVERS].map(Stamp::of);
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = current.as_ref().filter(|files| files.stamps == stamps) {
            return Arc::clone(files);
        }
        // A file that cannot be read is as one that is empty, as it is for the C library.
        let hosts = Hosts::parse(&fs::read(HOSTS).unwrap_or_default());
        let servers = Servers::parse(&fs::read(SERVERS).unwrap_or_default());
        let files = Arc::new(Self { hosts, servers, stamps });
        *current = Some(Arc::clone(&files));
        files
    }
}

/// Tells a version of a file from others.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &str) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self { modified: metadata.modified().ok(), len: metadata.len(), inode })
    }
}

/// `/etc/hosts`.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// By name in lower case, without a dot at the end.
    by_name: HashMap<Box<str>, Vec<IpAddr>>,
}

impl Hosts {
    fn parse(text: &[u8]) -> Self {
        let mut by_name: HashMap<Box<str>, Vec<IpAddr>> = HashMap::new();
        for line in String::from_utf8_lossy(text).trim_start_matches('\u{feff}').lines() {
            let line = line.split_once('#').map_or(line, |(before, _)| before);
            let mut words = line.split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
            for name in words {
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                let addresses = by_name.entry(name.into()).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Self { by_name }
    }

    /// Returns the addresses of a name in lower case, without a dot at the end.
    pub(super) fn get(&self, name: &str) -> Option<&[IpAddr]> {
        self.by_name.get(name).map(Vec::as_slice)
    }
}

/// `/etc/resolv.conf`.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "these are the options that the file has")]
pub(super) struct Servers {
    /// In the order in which they are asked. There is at least one.
    pub(super) addresses: Vec<SocketAddr>,
    /// What is appended to names.
    pub(super) search: Vec<String>,
    /// A name with so many dots is tried as it is first.
    pub(super) ndots: usize,
    /// How long a server has to answer.
    pub(super) timeout: Duration,
    /// How often each server is asked.
    pub(super) attempts: u32,
    /// Whether another server is asked first each time.
    pub(super) rotate: bool,
    /// Whether servers are told that longer answers can be received.
    pub(super) edns0: bool,
    /// Whether they are asked over TCP only.
    pub(super) use_tcp: bool,
    /// Whether they are asked for IPv6 addresses, too.
    pub(super) asks_for_v6: bool,
}

/// Where name servers listen.
const PORT: u16 = 53;

impl Servers {
    pub(super) fn parse(text: &[u8]) -> Self {
        // What is wrong in it is left out, as the C library does.
        let (config, _) = resolv_conf::Config::parse_with_errors(text);
        let mut search: Vec<_> = config.get_last_search_or_domain().cloned().collect();
        if search.is_empty() {
            search.extend(domain_of_this_host());
        }
        Self {
            addresses: config.get_nameservers_or_local().iter().map(address).collect(),
            search,
            ndots: usize::try_from(config.ndots).unwrap_or(usize::MAX),
            timeout: Duration::from_secs(config.timeout.max(1).into()),
            attempts: config.attempts.max(1),
            rotate: config.rotate,
            edns0: config.edns0,
            use_tcp: config.use_vc,
            asks_for_v6: !config.no_aaaa,
        }
    }
}

/// What follows the first dot of this host's name, where nothing else says what to append to names.
fn domain_of_this_host() -> Option<String> {
    #[cfg(unix)]
    {
        let uname = rustix::system::uname();
        let (_, domain) = uname.nodename().to_str().ok()?.split_once('.')?;
        (!domain.is_empty()).then(|| domain.to_owned())
    }
    #[cfg(not(unix))]
    None
}

fn address(server: &ScopedIp) -> SocketAddr {
    match server {
        ScopedIp::V4(address) => SocketAddr::new((*address).into(), PORT),
        ScopedIp::V6(address, scope) => {
            let scope = scope.as_deref().map_or(0, interface);
            SocketAddrV6::new(*address, PORT, 0, scope).into()
        }
    }
}

/// The number of an interface, which is given by its number or its name.
fn interface(scope: &str) -> u32 {
    let number = scope.parse().ok();
    let number = number.or_else(|| {
        let is_name = scope.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let path = is_name.then(|| format!("/sys/class/net/{scope}/ifindex"))?;
        fs::read_to_string(path).ok()?.trim().parse().ok()
    });
    number.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_by_each_of_their_names_in_any_case() {
        let hosts = Hosts::parse(
            b"\xef\xbb\xbf127.0.0.1 localhost\n::1 LocalHost # loopback\n\n10.0.0.1\tdb.corp.  Db\nnonsense db\n10.0.0.1 db\n",
        );
        let addresses = |name: &str| hosts.get(name).map(<[_]>::to_vec);
        assert_eq!(addresses("localhost"), Some(vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]));
        assert_eq!(addresses("db"), Some(vec!["10.0.0.1".parse().unwrap()]));
        assert_eq!(addresses("db.corp"), addresses("db"));
        assert_eq!(addresses("loopback"), None);
    }

    #[test]
    fn the_settings_of_name_servers_are_read() {
        let servers = Servers::parse(
            b"nameserver 192.0.2.1\nnameserver fe80::1%3\nsearch a.example b.example\n\
              options ndots:3 timeout:2 attempts:4 rotate edns0 use-vc no-aaaa\n",
        );
        let expected: [SocketAddr; 2] = ["192.0.2.1:53".parse().unwrap(), "[fe80::1%3]:53".parse().unwrap()];
        assert_eq!(servers.addresses, expected);
        assert_eq!(servers.search, ["a.example", "b.example"]);
        assert_eq!((servers.ndots, servers.timeout.as_secs(), servers.attempts), (3, 2, 4));
        assert!(servers.rotate && servers.edns0 && servers.use_tcp && !servers.asks_for_v6);
    }

    #[test]
    fn without_settings_the_name_server_of_this_host_is_asked() {
        for text in [&b""[..], b"nonsense\n", b"options timeout:0 attempts:0"] {
            let servers = Servers::parse(text);
            assert!(servers.addresses.contains(&"127.0.0.1:53".parse().unwrap()), "{servers:?}");
            assert!(!servers.timeout.is_zero() && servers.attempts > 0);
        }
    }
}
