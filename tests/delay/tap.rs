//! TAP devices: network interfaces whose other end is a file of ours (tuntap.rst of Linux).
#![allow(unsafe_code)] // one ioctl, below

use std::ffi::c_int;
use std::fs::File;
use std::io;

use rustix::ioctl::{Setter, ioctl, opcode};

/// `TUNSETIFF`: names the device that the file stands for.
const SET_INTERFACE: rustix::ioctl::Opcode = opcode::write::<c_int>(b'T', 202);

/// `IFF_TAP | IFF_NO_PI`: Ethernet frames, with nothing before them.
const FLAGS: u16 = 0x0002 | 0x1000;

const NAME_BYTES: usize = 16;

/// `struct ifreq` as this request reads it: a name, flags, and what makes up its size.
#[repr(C)]
struct Request {
    name: [u8; NAME_BYTES],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<Request>() == 40);

/// Makes a device of that name, which lasts as long as the file is open.
pub(crate) fn open(name: &str) -> io::Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = Request { name: [0; NAME_BYTES], flags: FLAGS, rest: [0; 22] };
    if name.len() >= NAME_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the request takes a `struct ifreq`, whose size and layout `Request` has, and the kernel
    // copies it (and writes the name back, into this copy) during the call only.
    unsafe { ioctl(&file, Setter::<SET_INTERFACE, Request>::new(request)) }?;
    Ok(file)
}
