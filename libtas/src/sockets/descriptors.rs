// SPDX-License-Identifier: MIT OR Apache-2.0
//! close, dup, fcntl, ioctl: the life of descriptor numbers.
//!
//! Descriptors are the kernel's; the table only says which are ours. All descriptors of a socket
//! in this process share one object; with the last one the object goes, after what was written has
//! been handed to the fast path, and the kernel's release of the file is the close.

use super::{
    engine::Engine,
    errno::{check, Errno, Result},
    fork,
    process::{process, Process},
    real,
    stream::{Phase, Stream},
    table::{Entry, Token, TABLE},
    urgent,
    wait::{block, Attempt},
};
use crate::lowlevel::Close;
use libc::{c_int, c_ulong};
use std::{
    os::fd::{FromRawFd, IntoRawFd, OwnedFd},
    time::Duration,
};

/// close() of a descriptor of ours.
///
/// # Errors
/// As close(2).
pub fn close(entry: Entry, fd: c_int) -> Result<()> {
    if !fork::in_vfork_child() {
        let process = process();
        linger(process, entry);
        forget(process, entry, fd, true);
    }
    // SAFETY: no pointers.
    check(unsafe { real::close(fd) }.into()).map(drop)
}

/// SO_LINGER with a time: the last close waits until all is acknowledged, or for that time.
fn linger(process: &Process, entry: Entry) {
    let Entry::Stream(token) = entry else { return };
    let (connection, limit) = {
        let mut engine = process.engine();
        let Ok(stream) = engine.stream(token) else {
            return;
        };
        match (stream.connection(), stream.options.linger, stream.descriptors.len()) {
            (Some(connection), (true, seconds @ 1..), 1) if !stream.broken && !has_unread(stream) => {
                (connection.clone(), Duration::from_secs(seconds.into()))
            }
            _ => return,
        }
    };
    connection.finish();
    // Whatever ends the wait, the close goes on.
    let _ = block(process, token, Some(limit), |engine| {
        let broken = engine.stream(token)?.broken;
        Ok(if broken || connection.is_finish_acknowledged() { Attempt::Done(()) } else { Attempt::Wait })
    });
}

fn has_unread(stream: &Stream) -> bool {
    stream.connection().is_some_and(|connection| connection.unread_bytes() > 0)
}

/// Takes `fd` out of the table and from its object. The descriptor itself stays open: the caller
/// closes it, or dup2() replaces it. With `open` false it was closed already, by a call that
/// nobody told us of.
pub(crate) fn forget(process: &Process, entry: Entry, fd: c_int, open: bool) {
    let mut engine = process.engine();
    if open {
        TABLE.set(fd, None);
    }
    forget_locked(&mut engine, entry, fd);
}

/// As [`forget`], of an entry that is no longer in the table.
pub(crate) fn forget_locked(engine: &mut Engine, entry: Entry, fd: c_int) {
    match entry {
        Entry::Foreign => {}
        Entry::Epoll(token) => forget_epoll(engine, token, fd),
        Entry::Stream(token) => forget_stream(engine, token, fd),
    }
}

fn forget_epoll(engine: &mut Engine, token: Token, fd: c_int) {
    let Ok(epoll) = engine.epoll(token) else {
        return;
    };
    epoll.descriptors.retain(|other| *other != fd);
    if !epoll.descriptors.is_empty() {
        return;
    }
    let Some(epoll) = engine.epolls.remove(token) else {
        return;
    };
    epoll.waiters.iter().for_each(|bell| bell.ring());
    for (_, watched) in epoll.watched() {
        engine.unwatch(watched, token);
    }
    for watch in epoll.watches {
        if let Ok(outer) = engine.epoll(watch.epoll) {
            outer.remove(watch.interest);
        }
    }
}

fn forget_stream(engine: &mut Engine, token: Token, fd: c_int) {
    let Ok(stream) = engine.stream(token) else {
        return;
    };
    stream.descriptors.retain(|other| *other != fd);
    match stream.descriptors.first() {
        Some(other) if stream.socket.descriptor() == fd => {
            // SAFETY: the number is open and the application's; ownership goes back and forth
            // without a close.
            let other = unsafe { OwnedFd::from_raw_fd(*other) };
            let former = stream.socket.replace_descriptor(other);
            let _ = former.map(IntoRawFd::into_raw_fd);
        }
        Some(_) => {}
        None => {
            let Some(stream) = engine.streams.remove(token) else {
                return;
            };
            end(engine, stream);
        }
    }
}

/// The last descriptor in this process goes.
fn end(engine: &mut Engine, stream: Stream) {
    stream.waiters.iter().for_each(|bell| bell.ring());
    for watch in &stream.watches {
        if let Ok(epoll) = engine.epoll(watch.epoll) {
            epoll.remove(watch.interest);
        }
    }
    if let Some(connection) = stream.connection() {
        let how = match (fork::forks() != stream.forks, stream.options.linger) {
            // A child may hold it too: only the kernel knows when the last one is gone.
            (true, _) => Close::Leave,
            (false, (true, 0)) => Close::Abort,
            // Unread data makes a close a reset (RFC 9293 §3.6.1, RFC 2525 §2.17).
            (false, _) if has_unread(&stream) => Close::Abort,
            (false, _) => Close::Finish,
        };
        connection.close(&stream.socket, how);
    }
    // The number is the application's to close.
    let _ = stream.socket.take_descriptor().map(IntoRawFd::into_raw_fd);
    if let Phase::Listening { arrived, .. } = stream.phase {
        // Nobody will accept these: Linux resets them.
        for new in arrived {
            TABLE.set(new.descriptor, None);
            let Some(stream) = engine.streams.remove(new.token) else {
                continue;
            };
            if let Some(connection) = stream.connection() {
                connection.close(&stream.socket, Close::Abort);
            }
            let _ = stream.socket.set_option(abi::message::option::LINGER, 1, 0);
            // Dropping the socket closes its descriptor.
        }
    }
}

/// Enters `new` as one more descriptor of what `old` is.
fn adopt(old: c_int, new: c_int) {
    let process = process();
    let mut engine = process.engine();
    let Some(entry) = TABLE.get(old) else { return };
    match entry {
        Entry::Stream(token) => match engine.stream(token) {
            Ok(stream) => stream.descriptors.push(new),
            Err(_) => return,
        },
        Entry::Epoll(token) => match engine.epoll(token) {
            Ok(epoll) => epoll.descriptors.push(new),
            Err(_) => return,
        },
        Entry::Foreign => {}
    }
    if let (Some(stale), _) = TABLE.set(new, Some(entry)) {
        forget_locked(&mut engine, stale, new);
    }
}

/// dup() and fcntl(F_DUPFD) of a descriptor of ours: `make` makes the kernel's copy.
///
/// # Errors
/// What `make` reports.
pub fn duplicate(fd: c_int, make: impl FnOnce() -> c_int) -> Result<c_int> {
    let new = check(make().into())? as c_int;
    if !fork::in_vfork_child() {
        adopt(fd, new);
    }
    Ok(new)
}

/// dup2() and dup3() where either descriptor is ours: `make` makes the kernel's copy, which also
/// closes `new`.
///
/// # Errors
/// What `make` reports.
pub fn duplicate_to(old: c_int, new: c_int, make: impl FnOnce() -> c_int) -> Result<c_int> {
    let replaced = super::process::find(new);
    let is_valid = old != new && (TABLE.get(old).is_some() || is_open(old));
    if fork::in_vfork_child() || !is_valid {
        return Ok(check(make().into())? as c_int);
    }
    if let Some(entry) = replaced {
        forget(process(), entry, new, true);
    }
    let made = check(make().into())? as c_int;
    adopt(old, new);
    Ok(made)
}

fn is_open(fd: c_int) -> bool {
    // SAFETY: no pointers.
    unsafe { real::fcntl(fd, libc::F_GETFD, 0) >= 0 }
}

/// close_range() and closefrom(): before the kernel closes the numbers.
pub fn close_range(first: u32, last: u32) {
    if fork::in_vfork_child() {
        return;
    }
    let mut ours = Vec::new();
    let limit = i32::MAX as u32;
    TABLE.for_each(first.min(limit) as i32, last.min(limit) as i32, |fd, entry| ours.push((fd, entry)));
    if ours.is_empty() || super::process::find(ours[0].0).is_none() {
        return;
    }
    for (fd, entry) in ours {
        forget(process(), entry, fd, true);
    }
}

/// fcntl() commands that are not the kernel's alone. None: pass it on.
pub fn fcntl(entry: Entry, fd: c_int, command: c_int, argument: c_ulong) -> Option<Result<c_int>> {
    // SAFETY: no pointers in these commands.
    let pass = || unsafe { real::fcntl(fd, command, argument) };
    match (command, entry) {
        (libc::F_DUPFD | libc::F_DUPFD_CLOEXEC, _) => Some(duplicate(fd, pass)),
        (libc::F_SETOWN | urgent::F_SETOWN_EX, Entry::Stream(_)) => Some(urgent::set_owner(process(), pass)),
        (libc::F_SETFL, Entry::Stream(token)) => {
            let set = process().engine().stream(token).map(|stream| {
                stream.nonblocking = argument as c_int & libc::O_NONBLOCK != 0;
            });
            Some(set.and_then(|()| check(pass().into())).map(|_| 0))
        }
        (libc::F_GETFL, Entry::Stream(token)) => {
            let nonblocking = process().engine().stream(token).map(|stream| stream.nonblocking);
            Some(nonblocking.and_then(|nonblocking| {
                let flags = check(pass().into())? as c_int & !(libc::O_NONBLOCK | libc::O_ACCMODE);
                Ok(flags | libc::O_RDWR | if nonblocking { libc::O_NONBLOCK } else { 0 })
            }))
        }
        _ => None,
    }
}

// From linux/sockios.h; the libc crate lacks them.
const SIOCOUTQNSD: c_ulong = 0x894B;
const SIOCATMARK: c_ulong = 0x8905;
const FIOSETOWN: c_ulong = 0x8901;
const SIOCSPGRP: c_ulong = 0x8902;
const FIOGETOWN: c_ulong = 0x8903;
const SIOCGPGRP: c_ulong = 0x8904;
/// Interface requests (SIOCGIFCONF and the like): any Linux socket answers them.
const INTERFACE_REQUESTS: std::ops::RangeInclusive<c_ulong> = 0x890B..=0x89FF;

/// ioctl() of a stream socket. None: pass it on.
///
/// # Safety
/// `argument` is what the request expects.
pub unsafe fn ioctl(token: Token, request: c_ulong, argument: *mut libc::c_void) -> Option<Result<c_int>> {
    let process = process();
    let value = match request {
        libc::FIONBIO => {
            // SAFETY: the request takes a pointer to an int.
            let on = unsafe { argument.cast::<c_int>().read_unaligned() } != 0;
            return Some(process.engine().stream(token).map(|stream| {
                stream.nonblocking = on;
                0
            }));
        }
        FIOSETOWN | SIOCSPGRP => {
            let fd = descriptor(process, token);
            // SAFETY: the request takes a pointer to an int; F_SETOWN takes no pointer.
            return Some(fd.and_then(|fd| unsafe {
                let owner = argument.cast::<c_int>().read_unaligned() as c_ulong;
                urgent::set_owner(process, || real::fcntl(fd, libc::F_SETOWN, owner)).map(|_| 0)
            }));
        }
        // SAFETY: no pointers. A negative number is a process group: fcntl() cannot tell it from an error.
        FIOGETOWN | SIOCGPGRP => {
            descriptor(process, token).map(|fd| unsafe { real::fcntl(fd, libc::F_GETOWN, 0) })
        }
        libc::FIONREAD | libc::TIOCOUTQ | SIOCOUTQNSD | SIOCATMARK => queue_bytes(process, token, request),
        _ if INTERFACE_REQUESTS.contains(&request) => {
            // SAFETY: the caller's promise; the descriptor is closed again.
            return Some(unsafe {
                let any = check(real::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0).into());
                any.and_then(|any| {
                    let result = check(real::ioctl(any as c_int, request, argument).into());
                    real::close(any as c_int);
                    result.map(|value| value as c_int)
                })
            });
        }
        _ => return None,
    };
    Some(value.map(|value| {
        // SAFETY: these requests take a pointer to an int.
        unsafe { argument.cast::<c_int>().write_unaligned(value) };
        0
    }))
}

/// A descriptor of the stream.
fn descriptor(process: &Process, token: Token) -> Result<c_int> {
    process.engine().stream(token).map(|stream| stream.socket.descriptor())
}

fn queue_bytes(process: &Process, token: Token, request: c_ulong) -> Result<c_int> {
    process.pump();
    let mut engine = process.engine();
    let stream = engine.stream(token)?;
    if matches!(stream.phase, Phase::Listening { .. }) {
        return Err(Errno(libc::EINVAL));
    }
    let Some(connection) = stream.connection() else {
        return Ok(0);
    };
    Ok(match request {
        libc::FIONREAD => connection.bytes_to_mark() as c_int,
        SIOCATMARK => c_int::from(connection.is_at_mark()),
        libc::TIOCOUTQ => connection.unacknowledged_bytes() as c_int,
        // What is written is with the fast path; nothing waits here.
        _ => 0,
    })
}
