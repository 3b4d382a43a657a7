// SPDX-License-Identifier: MIT OR Apache-2.0
//! write, writev, send, sendto, sendmsg, sendfile.

use super::{
    errno::{check, Errno, Result},
    fast_open,
    process::{process, Process},
    real,
    table::Token,
    wait::{block, Attempt},
};
use crate::lowlevel::Connection;
use libc::{iovec, off_t};
use std::{io::IoSlice, slice, sync::Arc};

/// Bytes that sendfile() moves at a time: a pipe's worth, as Linux.
const FILE_PIECE_BYTES: usize = 65536;
/// Most pieces handed down at once, to keep them on the stack.
const PIECES: usize = 16;
/// Flags that change nothing about a write that succeeds.
const PLAIN: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;

/// Sends `buffers`. On EPIPE the thread gets SIGPIPE unless MSG_NOSIGNAL is set.
///
/// # Errors
/// As sendmsg(2).
///
/// # Safety
/// Every buffer is readable for its length.
pub unsafe fn send(token: Token, buffers: &[iovec], flags: i32) -> Result<usize> {
    let process = process();
    let mut sent = 0;
    // A reset that has arrived must be seen, and acknowledged memory comes back by the rings.
    process.pump_if_stale();
    if let ([one @ iovec { iov_len: 1.., .. }], true) = (buffers, flags & !PLAIN == 0 && !is_null(buffers)) {
        if let Some(connection) = writable_now(process, token) {
            // SAFETY: the caller's promise.
            let bytes = unsafe { slice::from_raw_parts(one.iov_base.cast::<u8>(), one.iov_len) };
            sent = connection.write(bytes);
            if sent == bytes.len() {
                return Ok(sent);
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { send_any(process, token, buffers, flags, sent) }
}

/// Whether a buffer with a length is nowhere. (Any other address that is not the caller's ends the process, as in a
/// library it must.)
#[inline]
pub(super) fn is_null(buffers: &[iovec]) -> bool {
    buffers.iter().any(|buffer| buffer.iov_base.is_null() && buffer.iov_len > 0)
}

/// The connection if it can be written to: the common case.
#[inline]
fn writable_now(process: &Process, token: Token) -> Option<Arc<Connection>> {
    let mut engine = process.engine();
    let stream = engine.stream(token).ok()?;
    let connection = stream.connection()?;
    (stream.error == 0 && stream.early.is_none() && !stream.more && !stream.is_send_shut(connection))
        .then(|| connection.clone())
}

/// [`send`] of anything; the first `sent` bytes have gone already.
///
/// # Safety
/// Every buffer is readable for its length.
#[inline(never)]
pub(crate) unsafe fn send_any(
    process: &Process,
    token: Token,
    buffers: &[iovec],
    flags: i32,
    sent: usize,
) -> Result<usize> {
    if is_null(buffers) {
        return Err(Errno(libc::EFAULT));
    }
    if process.engine().stream(token)?.is_deferred() {
        // SAFETY: the caller's promise.
        return unsafe { fast_open::send_deferred(process, token, buffers, flags) };
    }
    // SAFETY: the caller's promise.
    let result = unsafe { send_all(process, token, buffers, flags, sent) };
    if result == Err(Errno(libc::EPIPE)) && flags & libc::MSG_NOSIGNAL == 0 {
        // SAFETY: a signal to the calling thread, as the kernel sends it.
        unsafe { libc::raise(libc::SIGPIPE) };
    }
    result
}

/// # Safety
/// Every buffer is readable for its length.
unsafe fn send_all(
    process: &Process,
    token: Token,
    buffers: &[iovec],
    flags: i32,
    mut sent: usize,
) -> Result<usize> {
    let total: usize = buffers.iter().map(|buffer| buffer.iov_len).sum();
    let (urgent, more) = (flags & libc::MSG_OOB != 0, flags & libc::MSG_MORE != 0);
    // SAFETY: the caller's promise.
    match unsafe { step(process, token, (buffers, total), (urgent, more), &mut sent) } {
        Ok(Attempt::Done(count)) => return Ok(count),
        Ok(Attempt::Wait) => {}
        Err(_) if sent > 0 => return Ok(sent),
        Err(error) => return Err(error),
    }
    let settings = process
        .engine()
        .stream(token)
        .map(|stream| (stream.options.send_timeout, stream.nonblocking || flags & libc::MSG_DONTWAIT != 0));
    let (limit, nonblocking) = match settings {
        Ok(settings) => settings,
        // Closed meanwhile by another thread: what was sent counts.
        Err(_) if sent > 0 => return Ok(sent),
        Err(error) => return Err(error),
    };
    if nonblocking {
        return if sent > 0 { Ok(sent) } else { Err(Errno(libc::EAGAIN)) };
    }
    let result = loop {
        let waited = block(process, token, limit, |engine| {
            let stream = engine.stream(token)?;
            Ok(match stream.send()? {
                Some(connection) if connection.writable_bytes() > 0 => Attempt::Done(()),
                _ => Attempt::Wait,
            })
        });
        // SAFETY: the caller's promise.
        match waited
            .and_then(|()| unsafe { step(process, token, (buffers, total), (urgent, more), &mut sent) })
        {
            Ok(Attempt::Done(count)) => break Ok(count),
            Ok(Attempt::Wait) => {}
            Err(error) => break Err(error),
        }
    };
    if sent > 0 {
        Ok(sent)
    } else {
        result
    }
}

/// Writes as much as fits. Done when everything is written.
///
/// # Safety
/// Every buffer is readable for its length.
unsafe fn step(
    process: &Process,
    token: Token,
    (buffers, total): (&[iovec], usize),
    (urgent, more): (bool, bool),
    sent: &mut usize,
) -> Result<Attempt<usize>> {
    let ready = process.engine().stream(token).and_then(|stream| {
        let connection = stream.send()?;
        connection.iter().for_each(|connection| stream.will_send(connection, more));
        Ok(connection)
    });
    let connection = match ready {
        Ok(Some(connection)) => connection,
        Ok(None) => return Ok(Attempt::Wait),
        Err(_) if *sent > 0 => return Ok(Attempt::Done(*sent)),
        Err(error) => return Err(error),
    };
    while *sent < total {
        // SAFETY: the caller's promise.
        let (written, offered) = unsafe {
            match urgent {
                true => write_urgent(&connection, buffers, *sent),
                false => write(&connection, buffers, *sent),
            }
        };
        *sent += written;
        if written < offered {
            // Before the event that follows a short write can be told, the flag must stand; set
            // late, it is only conservative: readiness looks at the free space too.
            process.engine().stream(token)?.write_blocked = true;
            return Ok(Attempt::Wait);
        }
    }
    Ok(Attempt::Done(*sent))
}

/// Writes what follows the first `skip` bytes: how much was taken, how much was offered.
///
/// # Safety
/// Every buffer is readable for its length.
#[inline]
unsafe fn write(connection: &Connection, buffers: &[iovec], skip: usize) -> (usize, usize) {
    if let ([one], 0) = (buffers, skip) {
        // SAFETY: the caller's promise.
        let bytes = unsafe { slice::from_raw_parts(one.iov_base.cast::<u8>(), one.iov_len) };
        return (connection.write(bytes), bytes.len());
    }
    // SAFETY: the caller's promise.
    unsafe { write_pieces(connection, buffers, skip) }
}

/// As [`write`], of urgent data (MSG_OOB).
///
/// # Safety
/// Every buffer is readable for its length.
#[cold]
unsafe fn write_urgent(connection: &Connection, buffers: &[iovec], skip: usize) -> (usize, usize) {
    let mut pieces = [IoSlice::new(&[]); PIECES];
    // SAFETY: the caller's promise.
    let (count, offered) = unsafe { rest(buffers, skip, &mut pieces) };
    let bytes: Vec<u8> = pieces.iter().take(count).flat_map(|piece| piece.iter().copied()).collect();
    (connection.write_urgent(&bytes), offered)
}

/// [`write`] of several buffers.
///
/// # Safety
/// Every buffer is readable for its length.
#[inline(never)]
unsafe fn write_pieces(connection: &Connection, buffers: &[iovec], skip: usize) -> (usize, usize) {
    let mut pieces = [IoSlice::new(&[]); PIECES];
    // SAFETY: the caller's promise.
    let (count, offered) = unsafe { rest(buffers, skip, &mut pieces) };
    (connection.write_vectored(&pieces[..count]), offered)
}

/// The next pieces after the first `skip` bytes: how many, and their bytes.
///
/// # Safety
/// Every buffer is readable for its length, for as long as the pieces live.
unsafe fn rest<'a>(buffers: &[iovec], mut skip: usize, pieces: &mut [IoSlice<'a>; PIECES]) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for buffer in buffers {
        if skip >= buffer.iov_len {
            skip -= buffer.iov_len;
            continue;
        }
        let Some(piece) = pieces.get_mut(count) else {
            break;
        };
        // SAFETY: the caller's promise; `skip` is inside the buffer.
        *piece = IoSlice::new(unsafe {
            slice::from_raw_parts(buffer.iov_base.cast::<u8>().add(skip), buffer.iov_len - skip)
        });
        bytes += buffer.iov_len - skip;
        count += 1;
        skip = 0;
    }
    (count, bytes)
}

/// sendfile() to a stream: reads pieces of `input` and sends them. What was read and could not be
/// sent is given back to the file's position.
///
/// # Errors
/// As sendfile(2).
///
/// # Safety
/// `offset` is null or valid.
pub unsafe fn send_file(token: Token, input: i32, offset: *mut off_t, count: usize) -> Result<usize> {
    // SAFETY: the caller's promise.
    let mut position = unsafe { offset.as_ref() }.copied();
    let mut buffer = vec![0u8; FILE_PIECE_BYTES.min(count.max(1))];
    let mut sent = 0;
    while sent < count {
        let want = buffer.len().min(count - sent);
        // SAFETY: the buffer is writable for `want` bytes.
        let got = unsafe {
            match position {
                Some(position) => real::pread(input, buffer.as_mut_ptr().cast(), want, position),
                None => real::read(input, buffer.as_mut_ptr().cast(), want),
            }
        };
        let got = match check(got as i64) {
            Ok(0) => break,
            Ok(got) => got as usize,
            Err(error) if sent == 0 => return Err(error),
            Err(_) => break,
        };
        let piece = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: got };
        // SAFETY: the piece lies in the buffer.
        let result = unsafe { send(token, &[piece], 0) };
        let done = *result.as_ref().unwrap_or(&0);
        match &mut position {
            Some(position) => *position += done as off_t,
            None if done < got => set_back(input, got - done),
            None => {}
        }
        sent += done;
        match result {
            Err(error) if sent == 0 => return Err(error),
            _ if done < got => break,
            _ => {}
        }
    }
    if let Some(position) = position {
        // SAFETY: the caller's promise; it is not null when there is a position.
        unsafe { *offset = position };
    }
    Ok(sent)
}

/// Moves a file's position back by `bytes`. A pipe has none: what was read from it is lost, as
/// sendfile(2) from a pipe is to be used with a blocking socket.
fn set_back(input: i32, bytes: usize) {
    // SAFETY: no pointers.
    let _ = unsafe { libc::lseek(input, -(bytes as off_t), libc::SEEK_CUR) };
}
