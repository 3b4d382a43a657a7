// SPDX-License-Identifier: MIT OR Apache-2.0
//! listen and accept.
//!
//! The slow path only hints that connections wait. So that poll() and epoll are exact (a blocking
//! accept() after them must not block), a connection is taken from the slow path's queue when
//! readiness is asked for, and kept until accept() hands it out.

use super::{
    address::Family,
    engine::Engine,
    errno::{Errno, Result},
    process::{process, Network, Process},
    real,
    report::{self, Reason},
    stream::{Arrived, Phase, Stream},
    table::{Entry, Token, TABLE},
    wait::{block, Attempt},
};
use crate::lowlevel::{Connection, Socket};
use abi::message::Endpoint;
use libc::c_int;
use std::{collections::VecDeque, sync::Arc};

/// net.core.somaxconn as shipped: what a longer backlog is cut to, and a negative one means.
const BACKLOG_MAX: u32 = 4096;

/// listen().
///
/// # Errors
/// As listen(2).
pub fn listen(token: Token, backlog: c_int) -> Result<()> {
    let process = process();
    let mut engine = process.engine();
    let stream = engine.stream(token)?;
    if !matches!(stream.phase, Phase::Fresh | Phase::Bound | Phase::Listening { .. }) {
        return Err(Errno(libc::EINVAL));
    }
    // Linux compares as unsigned: a negative backlog is the largest.
    stream.socket.listen((backlog as u32).min(BACKLOG_MAX))?;
    if !matches!(stream.phase, Phase::Listening { .. }) {
        stream.phase = Phase::Listening { hint: false, arrived: VecDeque::new() };
    }
    Ok(())
}

/// accept4(): the new descriptor and the peer's name.
///
/// # Errors
/// As accept4(2).
pub fn accept(token: Token, flags: c_int) -> Result<(c_int, Endpoint, Family)> {
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Err(Errno(libc::EINVAL));
    }
    let process = process();
    let network = process.network().ok_or(Errno(libc::EINVAL))?;
    for fresh in [false, true] {
        if fresh {
            process.pump();
        }
        if let Attempt::Done(accepted) = attempt(&mut process.engine(), network, token, flags)? {
            return Ok(accepted);
        }
    }
    let limit = {
        let mut engine = process.engine();
        let stream = engine.stream(token)?;
        if stream.nonblocking {
            return Err(Errno(libc::EAGAIN));
        }
        stream.options.receive_timeout
    };
    block(process, token, limit, |engine| attempt(engine, network, token, flags))
}

type Accepted = (c_int, Endpoint, Family);

fn attempt(engine: &mut Engine, network: &Network, token: Token, flags: c_int) -> Result<Attempt<Accepted>> {
    loop {
        let stream = engine.stream(token)?;
        let Phase::Listening { arrived, .. } = &mut stream.phase else {
            return Err(Errno(libc::EINVAL));
        };
        let Some(arrived) = arrived.pop_front() else {
            if fetch(engine, network, token)? {
                continue;
            }
            return Ok(Attempt::Wait);
        };
        engine.hinted.push(token);
        // One that was closed behind accept()'s back, by number, is gone.
        if let Ok(new) = engine.stream(arrived.token) {
            new.nonblocking = flags & libc::SOCK_NONBLOCK != 0;
            set_flags(arrived.descriptor, flags);
            return Ok(Attempt::Done((
                arrived.descriptor,
                new.remote.unwrap_or(Endpoint::ipv4(0, 0)),
                new.family,
            )));
        }
    }
}

/// Connections are taken as O_CLOEXEC and blocking; gives the descriptor what accept4() asked for.
fn set_flags(fd: c_int, flags: c_int) {
    // SAFETY: no pointers; the descriptor is ours.
    unsafe {
        if flags & libc::SOCK_CLOEXEC == 0 {
            real::fcntl(fd, libc::F_SETFD, 0);
        }
        if flags & libc::SOCK_NONBLOCK != 0 {
            real::fcntl(fd, libc::F_SETFL, (libc::O_RDWR | libc::O_NONBLOCK) as _);
        }
    }
}

/// Takes one connection from the slow path, if it hinted at any. False: none.
fn fetch(engine: &mut Engine, network: &Network, listener: Token) -> Result<bool> {
    let stream = engine.stream(listener)?;
    let Phase::Listening { hint, .. } = &mut stream.phase else {
        return Err(Errno(libc::EINVAL));
    };
    // Taken back before asking, so that a hint that comes meanwhile is not lost.
    if !std::mem::replace(hint, false) {
        return Ok(false);
    }
    let (socket, family) = (stream.socket.clone(), stream.family);
    let inherited = stream.options.inherit();
    let token = engine.streams.reserve();
    let (socket, connection) = match socket.accept(&network.context, token.word(), libc::O_CLOEXEC) {
        Ok(new) => new,
        Err(error) => {
            engine.streams.cancel(token);
            let error = Errno::from(error);
            if error == Errno(libc::EAGAIN) {
                return Ok(false);
            }
            // The connection still waits: EMFILE and the like pass.
            if let Phase::Listening { hint, .. } = &mut engine.stream(listener)?.phase {
                *hint = true;
            }
            return Err(error);
        }
    };
    if inherited.urgent_is_inline() {
        connection.set_urgent_inline(true);
    }
    let mut new = connected(socket, connection, family);
    new.options = inherited;
    let descriptor = new.socket.descriptor();
    engine.streams.fill(token, new);
    let (stale, fits) = TABLE.set(descriptor, Some(Entry::Stream(token)));
    if let Some(stale) = stale {
        super::descriptors::forget_locked(engine, stale, descriptor);
    }
    if !fits {
        report::count(Reason::Descriptor, || format!("descriptor {descriptor} is too high for TAS"));
        engine.streams.remove(token);
        return Err(Errno(libc::EMFILE));
    }
    if let Phase::Listening { hint, arrived } = &mut engine.stream(listener)?.phase {
        *hint = true;
        arrived.push_back(Arrived { token, descriptor });
    }
    Ok(true)
}

/// A stream for an accepted connection.
fn connected(socket: Socket, connection: Connection, family: Family) -> Stream {
    let info = *connection.info();
    let error = connection.error();
    let mut stream = Stream::new(Arc::new(socket), family, false);
    stream.descriptors.push(stream.socket.descriptor());
    stream.local = Some(info.local);
    stream.remote = Some(info.remote);
    stream.phase = Phase::Connected { connection: Arc::new(connection), announced: true };
    if error != 0 {
        // It broke before anybody knew its token.
        stream.fail(error);
    }
    stream
}

/// Before readiness is asked for: makes sure that listeners which may be readable really are.
pub(crate) fn settle(process: &Process, engine: &mut Engine) {
    if engine.hinted.is_empty() {
        return;
    }
    let Some(network) = process.network() else {
        return;
    };
    for token in std::mem::take(&mut engine.hinted) {
        let Ok(stream) = engine.stream(token) else {
            continue;
        };
        let Phase::Listening { arrived, .. } = &stream.phase else {
            continue;
        };
        // An error (EMFILE) is for accept() to report: readable it is.
        if arrived.is_empty() && fetch(engine, network, token).is_err() {
            engine.hinted.push(token);
        }
    }
}
