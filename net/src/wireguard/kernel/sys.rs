//! The system calls that no safe interface has: what is `unsafe` in this crate is here.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Getter, IntegerSetter, Opcode, Setter, ioctl, opcode};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::helper::Channel;

/// `TUNSETIFF`, which names and makes the device of an open `/dev/net/tun`.
const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
/// `TUNSETOFFLOAD`, which says what the reader of a device does in the kernel's place.
const TUNSETOFFLOAD: Opcode = opcode::write::<c_int>(b'T', 208);
#[allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)] // Its type differs between C libraries.
const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;

const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

const TUN_F_CSUM: usize = 0x01;
const TUN_F_TSO4: usize = 0x02;
const TUN_F_TSO6: usize = 0x04;

/// `struct ifreq`, as `TUNSETIFF` reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// A descriptor that this thread's tokio runtime tells when it can be read.
pub(super) fn register<T: OwnsDescriptor>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the owner keeps its descriptor open, and always is the same one's.
    unsafe { AsyncFd::register_with_interest(owner, Interest::READABLE) }.map_err(io::Error::from)
}

/// A type that owns one descriptor as long as it exists.
pub(super) trait OwnsDescriptor: AsRawFd {}
impl OwnsDescriptor for OwnedFd {}
impl OwnsDescriptor for Channel {}

/// Moves this thread, which has to be the only one of its process, into a new user and network namespace.
pub(super) fn enter_namespaces() -> io::Result<()> {
    // SAFETY: what can be violated is that threads share descriptors, and `UnshareFlags::FILES` is not set.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Makes a TUN device whose packets follow a `virtio_net_hdr`. It is non-blocking.
pub(super) fn create_tun(name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let device = open("/dev/net/tun", flags, Mode::empty())?;
    let flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    let mut request = InterfaceRequest { name: [0; 16], flags, rest: [0; 22] };
    // The last byte stays zero.
    for (to, from) in request.name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: `TUNSETIFF` reads and writes a `struct ifreq`, which `InterfaceRequest` is as long as. The kernel's
    // copy of it is dropped with the setter.
    unsafe { ioctl(&device, Setter::<TUNSETIFF, InterfaceRequest>::new(request)) }?;
    let offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    // SAFETY: the argument of `TUNSETOFFLOAD` is a number.
    unsafe { ioctl(&device, IntegerSetter::<TUNSETOFFLOAD>::new_usize(offloads)) }?;
    Ok(device)
}

/// The number of bytes written to a TCP socket, and the end of them, that the far end has not acknowledged.
pub(super) fn unacknowledged(socket: impl AsFd) -> io::Result<usize> {
    // SAFETY: `SIOCOUTQ` writes a C `int`.
    let count = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Closes all descriptors from 3 on. They came with the program that started this one, which does not mark all of them
/// to be closed.
pub(super) fn close_inherited() -> io::Result<()> {
    let folder = Path::new("/proc/self/fd");
    let listed: Vec<_> = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    for name in listed {
        let descriptor =
            name.to_str().and_then(|name| name.parse::<c_int>().ok()).filter(|&number| number > 2);
        // The one that the folder was read with is closed by now.
        let is_open = fs::symlink_metadata(folder.join(&name)).is_ok();
        if let Some(descriptor) = descriptor.filter(|_| is_open) {
            // SAFETY: this runs first in `main`, when nothing in this process owns a descriptor but the standard streams.
            unsafe { rustix::io::close(descriptor) };
        }
    }
    Ok(())
}
