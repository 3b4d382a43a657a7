// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fast open, active side (RFC 7413): data with the SYN, by MSG_FASTOPEN or TCP_FASTOPEN_CONNECT, with Linux's
//! answers.
//!
//! The slow path sends the data once and forgets it. What the peer does not acknowledge with its SYN-ACK is written to
//! the connection as soon as there is one, before anything else.

use super::{
    address::{self, Given},
    errno::{Errno, Result},
    open,
    process::{process, Process},
    real,
    report::Reason,
    send,
    stream::{Phase, Stream},
    table::Token,
};
use abi::message::Endpoint;
use libc::{c_int, iovec, msghdr, sockaddr, socklen_t};
use std::slice;

/// More than any SYN can hold: the largest MTU less the least headers.
const SYN_DATA_MAX: usize = 1460;

/// Data that goes with, or went with, the SYN.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// connect() has answered, and the SYN waits for data (TCP_FASTOPEN_CONNECT).
    pub(crate) deferred: bool,
    /// What went with the SYN; once connected, what is left of it to be sent.
    data: Vec<u8>,
}

/// Where the SYN goes.
enum Target {
    Ours(Endpoint),
    /// The socket is Linux's now.
    Linux,
}

impl Stream {
    /// connect() has answered and no SYN was sent yet.
    pub(crate) fn is_deferred(&self) -> bool {
        self.early.as_ref().is_some_and(|early| early.deferred)
    }

    /// Connected: forgets the first `taken` bytes of the SYN's data, which the peer has, and sends the rest.
    pub(crate) fn send_early(&mut self, taken: usize) {
        if let Some(early) = &mut self.early {
            early.data.drain(..taken.min(early.data.len()));
            self.flush_early();
        }
    }

    /// Sends what is left of the SYN's data. False: some is left for want of memory; a WRITABLE event follows.
    pub(crate) fn flush_early(&mut self) -> bool {
        let (Some(early), Phase::Connected { connection, .. }) = (&mut self.early, &self.phase) else {
            return self.early.is_none();
        };
        let written = connection.write(&early.data);
        early.data.drain(..written);
        if early.data.is_empty() {
            self.early = None;
        }
        self.early.is_none()
    }
}

/// connect() of a socket with TCP_FASTOPEN_CONNECT. True: it waits for the first data, as there is a cookie for the
/// peer. False: it has begun, and asks for a cookie.
///
/// # Errors
/// As connect(2).
pub(crate) fn defer(process: &Process, token: Token, remote: &Endpoint) -> Result<bool> {
    begin(process, token, remote, None).map(|sent| sent.is_none())
}

/// Begins to connect. With `data`: sends as much of it as may go with the SYN. Without: sends no SYN if data could go
/// with it. How many bytes went; `None`: nothing was sent.
fn begin(process: &Process, token: Token, remote: &Endpoint, data: Option<&[u8]>) -> Result<Option<usize>> {
    open::check_remote(remote)?;
    let network = process.network().ok_or(Errno(libc::ENETDOWN))?;
    // The answer may come on another thread, which must find the data.
    let mut engine = process.engine();
    let stream = engine.stream(token)?;
    let began = stream.socket.clone().connect_fast(&network.context, remote, data)?;
    stream.remote = Some(*remote);
    stream.phase = Phase::Connecting;
    let sent = data.unwrap_or(&[]).get(..began.syn_bytes).unwrap_or(&[]);
    stream.early = match began.started {
        true if sent.is_empty() => None,
        true => Some(Box::new(Early { deferred: false, data: sent.to_vec() })),
        false => Some(Box::new(Early { deferred: true, data: Vec::new() })),
    };
    Ok(began.started.then_some(sent.len()))
}

/// sendto() and sendmsg(): with MSG_FASTOPEN they connect to `name`, which TCP ignores otherwise.
///
/// # Errors
/// As sendmsg(2).
///
/// # Safety
/// Every buffer is readable for its length, and `name` for `length` bytes.
pub unsafe fn send_to(
    token: Token,
    fd: c_int,
    buffers: &[iovec],
    flags: c_int,
    name: *const sockaddr,
    length: socklen_t,
) -> Result<usize> {
    if flags & libc::MSG_FASTOPEN == 0 {
        // SAFETY: the caller's promise.
        return unsafe { send::send(token, buffers, flags) };
    }
    let process = process();
    process.pump();
    // SAFETY: the caller's promise.
    match unsafe { target(process, token, name, length)? } {
        Target::Linux => {
            // SAFETY: plain numbers and pointers; null is valid.
            let mut message: msghdr = unsafe { std::mem::zeroed() };
            message.msg_name = name.cast_mut().cast();
            message.msg_namelen = length;
            message.msg_iov = buffers.as_ptr().cast_mut();
            message.msg_iovlen = buffers.len() as _;
            // SAFETY: the caller's promise.
            super::errno::check(unsafe { real::sendmsg(fd, &message, flags) } as i64)
                .map(|sent| sent as usize)
        }
        Target::Ours(remote) => {
            let began = begin(process, token, &remote, None)?;
            // SAFETY: the caller's promise.
            unsafe { go_on(process, token, buffers, flags, began.is_none()) }
        }
    }
}

/// Where MSG_FASTOPEN is to connect to, if the socket can.
///
/// # Safety
/// `name` is readable for `length` bytes.
unsafe fn target(
    process: &Process,
    token: Token,
    name: *const sockaddr,
    length: socklen_t,
) -> Result<Target> {
    let family = {
        let mut engine = process.engine();
        let stream = engine.stream(token)?;
        match &stream.phase {
            Phase::Fresh | Phase::Bound | Phase::Failed => {}
            Phase::Connecting if stream.is_deferred() => return Err(Errno(libc::EINPROGRESS)),
            Phase::Connecting => return Err(Errno(libc::EALREADY)),
            Phase::Connected { .. } | Phase::Listening { .. } => return Err(Errno(libc::EISCONN)),
        }
        stream.take_error()?;
        stream.family
    };
    if name.is_null() {
        return Err(Errno(libc::EDESTADDRREQ));
    }
    // SAFETY: the caller's promise.
    match unsafe { address::read(name, length, family)? } {
        Given::Unspecified => Err(Errno(libc::EOPNOTSUPP)),
        Given::Name(remote) => {
            match open::check_remote(&remote) {
                Ok(()) => return Ok(Target::Ours(remote)),
                Err(Errno(libc::ENETUNREACH)) => {}
                Err(error) => return Err(error),
            }
            let what = "sendto() with MSG_FASTOPEN";
            open::fall_back(process, token, Reason::AddressNotServed, what, Errno(libc::ENETUNREACH))?;
            Ok(Target::Linux)
        }
    }
}

/// The first data for a connection that waits for it.
///
/// # Safety
/// Every buffer is readable for its length.
pub(crate) unsafe fn send_deferred(
    process: &Process,
    token: Token,
    buffers: &[iovec],
    flags: c_int,
) -> Result<usize> {
    // SAFETY: the caller's promise.
    unsafe { go_on(process, token, buffers, flags, true) }
}

/// Sends the SYN with data if it was `deferred`, then what Linux does: without blocking, what went with the SYN is
/// the answer, or EINPROGRESS; else the rest follows when the connection is there.
///
/// # Safety
/// Every buffer is readable for its length.
unsafe fn go_on(
    process: &Process,
    token: Token,
    buffers: &[iovec],
    flags: c_int,
    deferred: bool,
) -> Result<usize> {
    let (remote, nonblocking) = {
        let mut engine = process.engine();
        let stream = engine.stream(token)?;
        (stream.remote, stream.nonblocking || flags & libc::MSG_DONTWAIT != 0)
    };
    let mut sent = 0;
    if let (true, Some(remote)) = (deferred, remote) {
        // SAFETY: the caller's promise.
        let data = unsafe { first_bytes(buffers) };
        sent = begin(process, token, &remote, Some(&data))?.unwrap_or(0);
    }
    if nonblocking {
        return if sent > 0 { Ok(sent) } else { Err(Errno(libc::EINPROGRESS)) };
    }
    open::wait_connected(process, token)?;
    let flags = flags & !libc::MSG_FASTOPEN;
    // SAFETY: the caller's promise.
    unsafe { send::send_any(process, token, buffers, flags, sent) }
}

/// As much of the buffers as a SYN can hold.
///
/// # Safety
/// Every buffer is readable for its length.
unsafe fn first_bytes(buffers: &[iovec]) -> Vec<u8> {
    let mut data = Vec::new();
    for buffer in buffers.iter().filter(|buffer| buffer.iov_len > 0) {
        let bytes = buffer.iov_len.min(SYN_DATA_MAX - data.len());
        // SAFETY: the caller's promise.
        data.extend_from_slice(unsafe { slice::from_raw_parts(buffer.iov_base.cast::<u8>(), bytes) });
    }
    data
}
