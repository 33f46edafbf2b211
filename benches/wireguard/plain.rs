//! Plain TCP of the kernel over the relay, in a user and network namespace with a TUN device.
//!
//! The namespace has both ends, at 10.0.0.1 and 10.0.0.2. Each reaches the other at 10.1.0.1 or 10.1.0.2, which lead to the
//! device, and the relay exchanges the second bytes of both addresses. That makes the other end's packet of it, and leaves
//! all checksums as they are.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use tokio::net::{TcpListener, TcpSocket};

use crate::relay::{Arrival, Direction, Faults};
use crate::{CONTROL, Lossy, measure};

/// The argument that has this program measure, inside of the namespace.
pub(crate) const MODE: &str = "plain-inside";

/// Makes the device with the addresses of both ends, and the MTU of a tunnel.
const CONFIGURE: &str = "ip link set lo up && ip link set plain0 mtu 1420 up \
     && ip address add 10.0.0.1/8 dev plain0 && ip address add 10.0.0.2/8 dev plain0";

/// The buffers that the kernel's stack of a tunnel has.
const BUFFERS: [(&str, &str); 2] = [("tcp_rmem", "4096 131072 1048576"), ("tcp_wmem", "4096 16384 1048576")];

/// Measures in a namespace of its own, if there can be one.
pub(crate) fn run(control: &str, way: usize) -> Option<Lossy> {
    let mut command = Command::new("unshare");
    command.arg("-Urn").arg(std::env::current_exe().ok()?).args([MODE, control, &way.to_string()]);
    let output = command.stderr(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rate, silence) = text.trim().split_once(' ')?;
    Some(Lossy { rate: rate.parse().ok()?, silence: silence.parse().ok()? })
}

/// Measures, inside of the namespace.
pub(crate) async fn over(control: &str, faults: Faults) -> Lossy {
    // Without one of that name it is the host's.
    let _ = std::fs::write(CONTROL, control);
    for (name, value) in BUFFERS {
        std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
    }
    let device = device();
    assert!(Command::new("sh").args(["-c", CONFIGURE]).status().unwrap().success());
    relay(device, faults);
    let listener = TcpListener::bind("10.0.0.2:80").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("10.0.0.1:0".parse().unwrap()).unwrap();
    let to: SocketAddr = "10.1.0.2:80".parse().unwrap();
    let (connected, accepted) = tokio::join!(socket.connect(to), listener.accept());
    measure(&mut [Box::new(connected.unwrap()), Box::new(accepted.unwrap().0)]).await
}

fn device() -> File {
    const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
    const IFF_TUN: u16 = 1;
    const IFF_NO_PI: u16 = 0x1000;
    /// `struct ifreq`.
    #[repr(C)]
    struct InterfaceRequest {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    let device = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
    let name = *b"plain0\0\0\0\0\0\0\0\0\0\0";
    let request = InterfaceRequest { name, flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
    // SAFETY: `TUNSETIFF` reads and writes a `struct ifreq`, which `InterfaceRequest` is as long as.
    unsafe { ioctl(&device, Setter::<TUNSETIFF, InterfaceRequest>::new(request)) }.unwrap();
    device
}

/// Carries packets from the device back to it, until the process ends.
fn relay(device: File, faults: Faults) {
    let device = Arc::new(device);
    let directions: [mpsc::Sender<Arrival>; 2] = [0x5eed, !0x5eed].map(|seed| {
        let (sender, arrivals) = mpsc::channel();
        let device = Arc::clone(&device);
        thread::spawn(move || {
            Direction::new(faults, seed).carry(&arrivals, |packet| {
                let _ = (&*device).write(packet);
            });
        });
        sender
    });
    thread::spawn(move || {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        while let Ok(len) = (&*device).read(&mut buffer) {
            // The kernel also says things of its own, over IPv6.
            if len >= 20 && buffer[0] >> 4 == 4 {
                let from = usize::from(buffer[15] == 2);
                buffer.swap(13, 17);
                let _ = directions[from].send((Instant::now(), buffer[..len].to_vec()));
            }
        }
    });
}
