//! The helper process: it owns the namespace, and makes sockets there.

use std::ffi::CStr;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily as RouteFamily, RouteNetlinkMessage};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, bind, netdevice, recv, recvmsg, send, sendmsg,
    socket_with, socketpair, sockopt,
};
use serde::{Deserialize, Serialize};

use super::sys;
use crate::wireguard::stack::Unusable;

/// The name that the helper is run by.
pub(in crate::wireguard) const NAME: &str = "frame-wireguard-helper";

/// The name of its process in `/proc`, which has room for 15 bytes.
const COMM: &CStr = c"frame-wireguard";

/// The name of the device in the namespace.
const DEVICE: &str = "tunnel";

/// The longest message of either side: an error in words.
const MESSAGE: usize = 4096;

/// The limits of a socket's buffers in the namespace: least, default and most, in bytes. A connection can hold no more
/// memory of the kernel than the last of both.
const RECEIVE_BUFFER: &str = "4096 131072 1048576";
const SEND_BUFFER: &str = "4096 16384 1048576";

/// The helper's work: the first message.
#[derive(Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) addresses: Vec<String>,
    pub(super) mtu: u32,
}

/// What the helper is asked for, in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Socket {
        is_v6: bool,
        is_stream: bool,
    },
    /// The number of TCP sockets that are not closed.
    Count,
}

impl Request {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Socket { is_v6, is_stream } => is_v6 as u8 | (is_stream as u8) << 1,
            Self::Count => 4,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0..4 => Some(Self::Socket { is_v6: byte & 1 != 0, is_stream: byte & 2 != 0 }),
            4 => Some(Self::Count),
            _ => None,
        }
    }
}

/// What the helper answers: to the settings with the device, to the others with what they ask for.
#[derive(Debug)]
pub(super) enum HelperReply {
    Descriptor(OwnedFd),
    Count(u32),
    Failed(io::Error),
    /// To the settings only.
    Unusable(Unusable),
}

/// The tags of messages of the helper.
const DESCRIPTOR: u8 = 0;
const COUNT: u8 = 1;
/// An error by its number.
const ERRNO: u8 = 2;
/// Why there is no namespace, in words.
const NOT_HERE: u8 = 3;
const NOT_NOW: u8 = 4;

/// A process that has the other end of a [`Channel`]. Dropping it ends it.
pub(super) struct Process(Child);

/// What a helper is asked through, and answers. The answers come in the order of the requests.
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Starts the program as a helper that makes a namespace of these settings. The first answer says whether it did.
    pub(super) fn open(program: &Path, settings: &Settings) -> Result<(Self, Process), Unusable> {
        let flags = SocketFlags::CLOEXEC;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (channel, inherited) = tried("cannot make a channel to the helper", pair)?;
        let mut command = Command::new(program);
        std::os::unix::process::CommandExt::arg0(&mut command, NAME);
        // A group of its own: ^C is for the program, which may need its networks to shut down.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.env_clear().current_dir("/");
        command.stdin(Stdio::from(inherited)).stdout(Stdio::null()).stderr(Stdio::null());
        let spawned =
            tried(format_args!("cannot start `{}` as the helper", program.display()), spawn(command));
        let process = Process(spawned?);
        let settings = serde_json::to_vec(settings).map_err(io::Error::other);
        let settings = tried("cannot write the helper's settings", settings)?;
        match send(&channel, &settings, SendFlags::NOSIGNAL) {
            // It has ended already, which is seen next.
            Ok(_) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => {}
            Err(error) => return Err(Unusable::from_io("cannot send settings to the helper", &error.into())),
        }
        Ok((Self(channel), process))
    }

    /// Asks for something.
    pub(super) fn ask(&self, request: Request) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        send(&self.0, &[request.to_byte()], flags)?;
        Ok(())
    }

    /// Returns the next answer, [`io::ErrorKind::WouldBlock`] if none has arrived, or `None` if the helper has ended.
    pub(super) fn answer(&self) -> io::Result<Option<HelperReply>> {
        let mut message = [0; MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut message)], &mut control, flags);
        let received = match received {
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            received => received?,
        };
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        if received.flags.contains(ReturnFlags::CTRUNC) {
            // This process has as many descriptors as it may have, so the socket was not received.
            return Ok(Some(HelperReply::Failed(io::Error::from(rustix::io::Errno::MFILE))));
        }
        let Some((tag, rest)) = message[..received.bytes].split_first() else { return Ok(None) };
        let number = || rest.try_into().ok().map(u32::from_ne_bytes);
        let answer = match (*tag, descriptor, number()) {
            (DESCRIPTOR, Some(descriptor), _) => HelperReply::Descriptor(descriptor),
            (COUNT, None, Some(count)) => HelperReply::Count(count),
            (ERRNO, None, Some(number)) => {
                HelperReply::Failed(io::Error::from_raw_os_error(number.cast_signed()))
            }
            (NOT_HERE, None, _) => {
                HelperReply::Unusable(Unusable::Here(String::from_utf8_lossy(rest).into_owned()))
            }
            (NOT_NOW, None, _) => {
                HelperReply::Unusable(Unusable::Now(String::from_utf8_lossy(rest).into_owned()))
            }
            _ => HelperReply::Failed(io::Error::other("the helper gave an answer that is not valid")),
        };
        Ok(Some(answer))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Process {
    /// Why a process that closed the channel has no namespace.
    pub(super) fn ended_early(mut self, program: &Path) -> Unusable {
        let _ = self.0.kill();
        let (program, status) = (program.display(), self.0.wait());
        match status {
            // A filter of system calls does not let it.
            Ok(status) if status.signal() == Some(libc::SIGSYS) => {
                Unusable::Here(format!("`{program}` was ended as it started: {status}"))
            }
            Ok(status) if status.signal().is_some() => {
                Unusable::Now(format!("`{program}` was ended as it started: {status}"))
            }
            Ok(status) => Unusable::Here(format!("`{program}` did not start as the helper: {status}")),
            Err(error) => Unusable::Now(format!("`{program}` ended as it started: {error}")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Waiting takes no longer than the kernel takes to end the process.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a command on a thread that lives as long as this process.
///
/// The kernel ends a helper with the thread that started it, see [`run`]. Threads of a runtime or of a caller may end
/// before the network does.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static JOBS: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);

    let (reply, spawned) = mpsc::channel();
    {
        let mut jobs = JOBS.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = if let Some(jobs) = &*jobs {
            jobs
        } else {
            let (sender, receiver) = mpsc::channel::<Job>();
            let thread = std::thread::Builder::new().name("wireguard-spawn".to_owned());
            thread.spawn(move || {
                for (mut command, reply) in receiver {
                    let _ = reply.send(command.spawn());
                }
            })?;
            jobs.insert(sender)
        };
        jobs.send((command, reply)).map_err(io::Error::other)?;
    }
    spawned.recv().map_err(io::Error::other)?
}

/// Has the kernel end this process when the one that started it ends, be it stopped then or not.
fn end_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

/// Makes the namespace, and serves until the channel, which is the standard input, is closed.
pub(in crate::wireguard) fn run() -> io::Result<()> {
    let stdin = io::stdin();
    let channel = stdin.as_fd();
    let is_channel = sockopt::socket_domain(channel)? == AddressFamily::UNIX
        && sockopt::socket_type(channel)? == SocketType::SEQPACKET;
    if !is_channel {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // If the program ended before this, the channel is closed.
    end_with_parent()?;
    // Otherwise it has the name of the file that was executed, which is `exe`. A name that is not set harms nothing.
    let _ = rustix::thread::set_name(COMM);
    let closed = tried("cannot close inherited descriptors", sys::close_inherited());
    let mut message = [0; MESSAGE];
    let (_, len) = recv(channel, &mut message, RecvFlags::empty())?;
    let settings = serde_json::from_slice(&message[..len]).map_err(io::Error::other)?;
    match closed.and_then(|()| prepare(&settings)) {
        // The device is the network's alone from here on.
        Ok(device) => send_descriptor(channel, device.as_fd())?,
        Err(error) => {
            let (tag, why) = match &error {
                Unusable::Here(why) => (NOT_HERE, why),
                Unusable::Now(why) => (NOT_NOW, why),
            };
            send(channel, &[&[tag], why.as_bytes()].concat(), SendFlags::NOSIGNAL)?;
            return Ok(());
        }
    }
    serve(channel)
}

fn serve(channel: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        let mut request = [0];
        let (_, len) = recv(channel, &mut request, RecvFlags::empty())?;
        if len == 0 {
            return Ok(());
        }
        let answered = match Request::from_byte(request[0]) {
            Some(Request::Socket { is_v6, is_stream }) => {
                let family = if is_v6 { AddressFamily::INET6 } else { AddressFamily::INET };
                let kind = if is_stream { SocketType::STREAM } else { SocketType::DGRAM };
                socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
                    .map_err(io::Error::from)
                    .and_then(|socket| send_descriptor(channel, socket.as_fd()))
            }
            Some(Request::Count) => {
                let count = number(COUNT, open_connections());
                send(channel, &count, SendFlags::NOSIGNAL).map(drop).map_err(io::Error::from)
            }
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        if let Err(error) = answered {
            let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
            let errno = errno.raw_os_error().cast_unsigned();
            send(channel, &number(ERRNO, errno), SendFlags::NOSIGNAL)?;
        }
    }
}

fn number(tag: u8, number: u32) -> [u8; 5] {
    let [a, b, c, d] = number.to_ne_bytes();
    [tag, a, b, c, d]
}

fn send_descriptor(channel: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(channel, &[IoSlice::new(&[DESCRIPTOR])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The TCP sockets of this namespace that are listening or connected, or that the far end has to hear the end of.
fn open_connections() -> u32 {
    let mut count = 0;
    for file in ["/proc/self/net/sockstat", "/proc/self/net/sockstat6"] {
        // A kernel without IPv6 has no such file.
        let text = fs::read_to_string(file).unwrap_or_default();
        let in_use = text.lines().filter(|line| line.starts_with("TCP")).find_map(|line| {
            let mut words = line.split(' ').skip_while(|&word| word != "inuse");
            words.nth(1)?.parse::<u32>().ok()
        });
        count += in_use.unwrap_or(0);
    }
    count
}

/// Adds what was tried to an error.
fn tried<T, E: Into<io::Error>>(what: impl std::fmt::Display, result: Result<T, E>) -> Result<T, Unusable> {
    result.map_err(|error| Unusable::from_io(what, &error.into()))
}

/// Makes the namespace, with a device that all packets go to.
fn prepare(settings: &Settings) -> Result<OwnedFd, Unusable> {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    tried("cannot create a user and network namespace", sys::enter_namespaces())?;
    // In this order: a user who is not root may map a group only after `setgroups` is denied.
    tried("cannot map the user into the namespace", map("setgroups", "deny"))?;
    tried("cannot map the user into the namespace", map("uid_map", &format!("{user} {user} 1")))?;
    tried("cannot map the group into the namespace", map("gid_map", &format!("{group} {group} 1")))?;
    tune();
    let device = tried("cannot create a TUN device", sys::create_tun(DEVICE))?;
    tried("cannot configure the TUN device", configure(settings))?;
    // From here on this process makes sockets, and nothing else.
    tried("cannot give up privileges", rustix::thread::set_no_new_privs(true))?;
    let none = rustix::thread::CapabilitySets {
        effective: rustix::thread::CapabilitySet::empty(),
        permitted: rustix::thread::CapabilitySet::empty(),
        inheritable: rustix::thread::CapabilitySet::empty(),
    };
    tried("cannot give up privileges", rustix::thread::set_capabilities(None, none))?;
    // A change of credentials may reset it.
    tried("cannot be ended with the program", end_with_parent())?;
    Ok(device)
}

fn map(file: &str, line: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/self").join(file), line)
}

/// Sets what differs from a host. Old kernels lack some of these, and the tunnel works without them.
fn tune() {
    for (setting, value) in [
        // Any port may be listened at: all of them are this network's.
        ("ipv4/ip_unprivileged_port_start", "0"),
        // The kernel says nothing of its own accord that a peer would hear.
        ("ipv6/conf/default/addr_gen_mode", "1"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/default/router_solicitations", "0"),
        ("ipv4/tcp_rmem", RECEIVE_BUFFER),
        ("ipv4/tcp_wmem", SEND_BUFFER),
    ] {
        let _ = fs::write(Path::new("/proc/sys/net").join(setting), value);
    }
}

/// Gives the device its addresses, its MTU and the routes, and brings it up.
fn configure(settings: &Settings) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    let index = netdevice::name_to_index(&socket, DEVICE)?;
    let netlink = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&netlink, &SocketAddrNetlink::new(0, 0))?;

    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes.push(LinkAttribute::Mtu(settings.mtu));
    change(&netlink, RouteNetlinkMessage::SetLink(link), 0)?;

    let mut addresses = Vec::new();
    for text in &settings.addresses {
        addresses.push(text.parse::<IpNet>().map_err(io::Error::other)?);
    }
    for own in &addresses {
        change(&netlink, RouteNetlinkMessage::NewAddress(address(index, own.addr())), NLM_F_CREATE)?;
    }
    for is_v4 in [true, false] {
        let family = || addresses.iter().filter(|own| own.addr().is_ipv4() == is_v4);
        // The same choice as `Addresses::source`: the metric decides between equal prefixes.
        for (metric, own) in (1..).zip(family()) {
            let message = route(index, own.trunc(), own.addr(), metric);
            change(&netlink, RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)?;
        }
        if let Some(own) = family().next() {
            let all = if is_v4 { "0.0.0.0/0" } else { "::/0" };
            let all = all.parse().map_err(io::Error::other)?;
            let message = route(index, all, own.addr(), MOST_METRIC);
            change(&netlink, RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE)?;
        }
    }
    Ok(())
}

/// A metric past those of prefixes, one of which may be as short as the default route's.
const MOST_METRIC: u32 = 1024;

/// An address of this end alone: which others are near is for routes to say.
fn address(index: u32, own: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    (message.header.family, message.header.prefix_len) = family(own);
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.push(AddressAttribute::Local(own));
    message.attributes.push(AddressAttribute::Address(own));
    message
}

fn route(index: u32, to: IpNet, from: IpAddr, metric: u32) -> RouteMessage {
    let address = |address| match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = family(from).0;
    message.header.destination_prefix_length = to.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = if from.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.header.kind = RouteType::Unicast;
    if to.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(address(to.network())));
    }
    message.attributes.push(RouteAttribute::Oif(index));
    message.attributes.push(RouteAttribute::PrefSource(address(from)));
    message.attributes.push(RouteAttribute::Priority(metric));
    message
}

/// The family of an address, and the length of all of it.
const fn family(address: IpAddr) -> (RouteFamily, u8) {
    match address {
        IpAddr::V4(_) => (RouteFamily::Inet, 32),
        IpAddr::V6(_) => (RouteFamily::Inet6, 128),
    }
}

/// Has the kernel change something, and waits until it has.
fn change(netlink: &OwnedFd, what: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut message = NetlinkMessage::from(what);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    send(netlink, &bytes, SendFlags::empty())?;
    let mut answer = vec![0; 8192];
    let (_, len) = recv(netlink, &mut answer[..], RecvFlags::empty())?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer[..len]);
    match answer.map_err(io::Error::other)?.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_same_on_both_sides() {
        for byte in 0..=u8::MAX {
            if let Some(request) = Request::from_byte(byte) {
                assert_eq!(request.to_byte(), byte);
            }
        }
    }
}
