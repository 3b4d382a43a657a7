// SPDX-License-Identifier: MIT OR Apache-2.0
//! read, readv, recv, recvfrom, recvmsg: one function over the caller's buffers.

use super::{
    errno::{Errno, Result},
    process::{process, Process},
    send::is_null,
    stream::{Phase, Readable},
    table::Token,
    wait::{block, Attempt},
};
use crate::lowlevel::{Connection, UrgentByte};
use libc::iovec;
use std::{slice, sync::Arc, time::Duration};

/// Most buffers of one call (UIO_MAXIOV).
pub const VECTORS_MAX: usize = 1024;
/// Flags that change nothing where there are bytes to read.
const PLAIN: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What a receiving call wants.
struct Request<'a> {
    buffers: &'a [iovec],
    /// Bytes of all buffers.
    room: usize,
    /// Bytes to wait for.
    need: usize,
    peek: bool,
    discard: bool,
}

/// Receives into `buffers`. Flags that mean nothing to a TCP socket are ignored, as Linux does. Zero is the end of the stream.
///
/// # Errors
/// As recvmsg(2).
///
/// # Safety
/// Every buffer is writable for its length.
pub unsafe fn receive(token: Token, buffers: &[iovec], flags: i32) -> Result<usize> {
    let process = process();
    if let ([one @ iovec { iov_len: 1.., .. }], true) = (buffers, flags & !PLAIN == 0 && !is_null(buffers)) {
        if let Some(connection) = readable_now(process, token) {
            // SAFETY: the caller's promise.
            let room = unsafe { slice::from_raw_parts_mut(one.iov_base.cast::<u8>(), one.iov_len) };
            let count = connection.read(room);
            if count > 0 {
                return Ok(count);
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { receive_any(process, token, buffers, flags) }
}

/// The connection if there are bytes enough: the common case, in which errors and ends do not matter yet.
#[inline]
fn readable_now(process: &Process, token: Token) -> Option<Arc<Connection>> {
    let mut engine = process.engine();
    let stream = engine.stream(token).ok()?;
    let connection = stream.connection()?;
    (connection.readable_bytes() >= stream.options.receive_low_water()).then(|| connection.clone())
}

/// [`receive`] of anything.
///
/// # Safety
/// Every buffer is writable for its length.
#[inline(never)]
unsafe fn receive_any(process: &Process, token: Token, buffers: &[iovec], flags: i32) -> Result<usize> {
    if flags & libc::MSG_OOB != 0 {
        // SAFETY: the caller's promise.
        return unsafe { receive_urgent(process, token, buffers, flags) };
    }
    if flags & libc::MSG_ERRQUEUE != 0 {
        return Err(Errno(libc::EAGAIN));
    }
    if is_null(buffers) && flags & libc::MSG_TRUNC == 0 {
        return Err(Errno(libc::EFAULT));
    }
    let mut request = Request {
        buffers,
        room: buffers.iter().map(|buffer| buffer.iov_len).sum(),
        need: 1,
        peek: flags & libc::MSG_PEEK != 0,
        discard: flags & libc::MSG_TRUNC != 0,
    };
    if request.room == 0 {
        return Ok(0);
    }
    let mut copied = 0;
    // The common case: data is there, one look is enough.
    let (found, limit, nonblocking) = begin(process, token, &mut request, flags)?;
    if let Readable::Data(connection) = found {
        // SAFETY: the caller's promise.
        unsafe { take(&connection, &request, &mut copied) };
        if copied >= request.need || must_stop(&connection, copied) {
            return Ok(copied);
        }
    }
    process.pump();
    // SAFETY: the caller's promise.
    if let Attempt::Done(count) = unsafe { step(process, token, &request, &mut copied)? } {
        return Ok(count);
    }
    if nonblocking {
        return if copied > 0 { Ok(copied) } else { Err(Errno(libc::EAGAIN)) };
    }
    // SAFETY: the caller's promise.
    unsafe { receive_blocking(process, token, &request, copied, limit) }
}

/// MSG_OOB: the urgent byte (tcp_recv_urg). Never waits.
///
/// # Safety
/// Every buffer is writable for its length.
#[cold]
unsafe fn receive_urgent(process: &Process, token: Token, buffers: &[iovec], flags: i32) -> Result<usize> {
    process.pump();
    let mut engine = process.engine();
    let stream = engine.stream(token)?;
    let connection = match &stream.phase {
        Phase::Connected { connection, .. } => connection.clone(),
        Phase::Connecting => return Err(Errno(libc::EINVAL)),
        _ => return Err(Errno(libc::ENOTCONN)),
    };
    let is_over = stream.broken || stream.is_receive_shut(&connection);
    drop(engine);
    let byte = match connection.receive_urgent(flags & libc::MSG_PEEK != 0) {
        UrgentByte::Is(byte) => byte,
        UrgentByte::Coming if is_over => return Ok(0),
        UrgentByte::Coming => return Err(Errno(libc::EAGAIN)),
        UrgentByte::None => return Err(Errno(libc::EINVAL)),
    };
    let Some(first) = buffers.iter().find(|buffer| buffer.iov_len > 0) else {
        return Ok(0);
    };
    if flags & libc::MSG_TRUNC == 0 {
        // SAFETY: the caller's promise; there is room for a byte.
        unsafe { first.iov_base.cast::<u8>().write(byte) };
    }
    Ok(1)
}

/// Whether a call that has copied something must end here: it stands in front of urgent data.
#[inline]
fn must_stop(connection: &Connection, copied: usize) -> bool {
    connection.has_urgent() && copied > 0 && connection.is_at_mark()
}

/// Reads the socket's settings (time limit, whether the call must not block) and takes a first look.
#[inline]
fn begin(
    process: &Process,
    token: Token,
    request: &mut Request<'_>,
    flags: i32,
) -> Result<(Readable, Option<Duration>, bool)> {
    let mut engine = process.engine();
    let stream = engine.stream(token)?;
    request.need = match flags & libc::MSG_WAITALL {
        0 => stream.options.receive_low_water().min(request.room),
        _ => request.room,
    };
    let nonblocking = stream.nonblocking || flags & libc::MSG_DONTWAIT != 0;
    let limit = stream.options.receive_timeout;
    // An end or an error that is known already may hide data that is not taken yet: look again then.
    let found = match stream.connection() {
        Some(connection) if connection.readable_bytes() > 0 => Readable::Data(connection.clone()),
        _ => Readable::Wait,
    };
    Ok((found, limit, nonblocking))
}

/// Takes what there is. Done when enough was copied, or when there will be no more.
///
/// # Safety
/// Every buffer is writable for its length.
unsafe fn step(
    process: &Process,
    token: Token,
    request: &Request<'_>,
    copied: &mut usize,
) -> Result<Attempt<usize>> {
    loop {
        let found = process.engine().stream(token)?.receive(*copied > 0)?;
        let connection = match found {
            Readable::Data(connection) => connection,
            Readable::End => {
                if !request.peek {
                    pass_mark(process, token)?;
                }
                return Ok(Attempt::Done(*copied));
            }
            Readable::Wait => {
                if !request.peek {
                    pass_mark(process, token)?;
                }
                return Ok(Attempt::Wait);
            }
        };
        if must_stop(&connection, *copied) {
            return Ok(Attempt::Done(*copied));
        }
        // SAFETY: the caller's promise.
        let taken = unsafe { take(&connection, request, copied) };
        if *copied >= request.need || must_stop(&connection, *copied) {
            return Ok(Attempt::Done(*copied));
        }
        if taken == 0 {
            return Ok(Attempt::Wait);
        }
    }
}

/// A call that found nothing to copy is past an urgent byte where it stood. At the end of the stream too: a byte that is
/// left unread would make a RST of the close (RFC 1122 §4.2.2.13).
fn pass_mark(process: &Process, token: Token) -> Result<()> {
    let connection = process.engine().stream(token)?.connection().filter(|c| c.has_urgent()).cloned();
    connection.into_iter().for_each(|connection| connection.pass_mark());
    Ok(())
}

/// Copies out what is there; a peek starts over each time.
///
/// # Safety
/// Every buffer is writable for its length.
unsafe fn take(connection: &Arc<Connection>, request: &Request<'_>, copied: &mut usize) -> usize {
    if request.discard && !request.peek {
        let mut readable = connection.readable();
        let count = readable.len().min(request.room - *copied);
        readable.consume(count);
        *copied += count;
        return count;
    }
    if let ([one], 0, false) = (request.buffers, *copied, request.peek) {
        // SAFETY: the caller's promise.
        let room = unsafe { slice::from_raw_parts_mut(one.iov_base.cast::<u8>(), one.iov_len) };
        *copied = connection.read(room);
        return *copied;
    }
    let before = if request.peek { 0 } else { *copied };
    let mut done = before;
    let mut skip = before;
    for buffer in request.buffers {
        if skip >= buffer.iov_len {
            skip -= buffer.iov_len;
            continue;
        }
        // SAFETY: the caller's promise; `skip` is inside the buffer.
        let room = unsafe {
            slice::from_raw_parts_mut(buffer.iov_base.cast::<u8>().add(skip), buffer.iov_len - skip)
        };
        let count = if request.peek { connection.peek(done, room) } else { connection.read(room) };
        done += count;
        if count < room.len() || (!request.peek && must_stop(connection, done)) {
            break;
        }
        skip = 0;
    }
    let more = done.saturating_sub(if request.peek { *copied } else { before });
    *copied = done;
    more
}

/// # Safety
/// Every buffer is writable for its length.
unsafe fn receive_blocking(
    process: &Process,
    token: Token,
    request: &Request<'_>,
    mut copied: usize,
    limit: Option<Duration>,
) -> Result<usize> {
    let result = loop {
        let have = copied;
        let waited = block(process, token, limit, |engine| {
            // Ready when there is more than before (a peek counts what it has seen).
            let seen = if request.peek { have } else { 0 };
            if engine.stream(token)?.connection().is_some_and(|connection| must_stop(connection, have)) {
                return Ok(Attempt::Done(false));
            }
            Ok(match engine.stream(token)?.receive(have > 0)? {
                Readable::Data(connection) if connection.readable_bytes() > seen => Attempt::Done(true),
                Readable::Data(connection) if connection.has_peer_finished() => Attempt::Done(false),
                // The step passes an urgent byte at the very end.
                Readable::End => Attempt::Done(true),
                Readable::Data(_) | Readable::Wait => Attempt::Wait,
            })
        });
        match waited {
            // SAFETY: the caller's promise.
            Ok(true) => match unsafe { step(process, token, request, &mut copied) } {
                Ok(Attempt::Done(count)) => break Ok(count),
                Ok(Attempt::Wait) => {}
                Err(error) => break Err(error),
            },
            Ok(false) => break Ok(copied),
            Err(error) => break Err(error),
        }
    };
    // What was received is not lost to a time-out or a signal.
    if copied > 0 {
        Ok(copied)
    } else {
        result
    }
}
