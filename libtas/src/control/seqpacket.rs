// SPDX-License-Identifier: MIT OR Apache-2.0
//! One message and its descriptors as one SOCK_SEQPACKET datagram.

use crate::sys;
use abi::{
    limits::CORES_MAX,
    message::{Message, MESSAGE_BYTES},
};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};
use zerocopy::{FromBytes, IntoBytes};

/// Most descriptors in one datagram: one per core at ATTACH_APPLICATION.
const DESCRIPTORS_MAX: usize = CORES_MAX as usize;
/// Room for a control message with that many; u64 words for cmsghdr's alignment.
const CONTROL_WORDS: usize = (DESCRIPTORS_MAX * size_of::<RawFd>()).div_ceil(8) + 4;

/// Sends `message`, with `pass` as SCM_RIGHTS.
///
/// # Errors
/// What `sendmsg(2)` reports.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &Message,
    pass: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut part =
        libc::iovec { iov_base: message.as_bytes().as_ptr().cast_mut().cast(), iov_len: MESSAGE_BYTES };
    let mut control = [0u64; CONTROL_WORDS];
    let mut header = header(&mut part, &mut control);
    match pass {
        // SAFETY: the control buffer is large enough for one descriptor and aligned for cmsghdr.
        Some(descriptor) => unsafe {
            let bytes = size_of::<RawFd>() as u32;
            header.msg_controllen = libc::CMSG_SPACE(bytes) as _;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(bytes) as _;
            libc::CMSG_DATA(first).cast::<RawFd>().write_unaligned(descriptor.as_raw_fd());
        },
        None => {
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
        }
    }
    // SAFETY: the header points to buffers that live through the call.
    let sent = unsafe { sys::sendmsg(socket.as_raw_fd(), &header) }?;
    if sent != MESSAGE_BYTES {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok(())
}

/// Receives a message and the descriptors with it, close-on-exec.
///
/// # Errors
/// ECONNRESET at end of file, EPROTO for a datagram that is no message, or what `recvmsg(2)`
/// reports.
pub(super) fn receive(socket: BorrowedFd<'_>, message: &mut Message) -> io::Result<Vec<OwnedFd>> {
    let mut bytes = [0u8; MESSAGE_BYTES];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: MESSAGE_BYTES };
    let mut control = [0u64; CONTROL_WORDS];
    let mut header = header(&mut part, &mut control);
    // SAFETY: the header points to buffers that live through the call.
    let received = unsafe { sys::recvmsg(socket.as_raw_fd(), &mut header) }?;
    // SAFETY: the kernel filled the control buffer.
    let descriptors = unsafe { descriptors(&header) };
    match received {
        0 => Err(io::Error::from_raw_os_error(libc::ECONNRESET)),
        MESSAGE_BYTES if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0 => {
            *message =
                Message::read_from_bytes(&bytes).map_err(|_| io::Error::from_raw_os_error(libc::EPROTO))?;
            Ok(descriptors)
        }
        _ => Err(io::Error::from_raw_os_error(libc::EPROTO)),
    }
}

fn header(part: &mut libc::iovec, control: &mut [u64; CONTROL_WORDS]) -> libc::msghdr {
    // SAFETY: all-zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(control) as _;
    header
}

/// # Safety
/// `header` must come from a successful recvmsg, its control buffer unchanged since.
unsafe fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut found = Vec::new();
    // SAFETY: the macros walk the control buffer within msg_controllen; each descriptor is new.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            if (*at).cmsg_level == libc::SOL_SOCKET && (*at).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*at).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(at).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    found.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
    found
}
