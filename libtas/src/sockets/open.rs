// SPDX-License-Identifier: MIT OR Apache-2.0
//! socket, bind, connect, names; and falling back to a kernel socket.

use super::{
    address::{self, is_loopback, is_unspecified, Family, Given},
    descriptors,
    errno::{check, Errno, Result},
    fast_open,
    process::{process, Process},
    real,
    report::{self, Reason},
    stream::{Phase, Stream},
    table::{Entry, Token, TABLE},
    wait::{block, Attempt},
};
use crate::lowlevel::Socket;
use abi::message::Endpoint;
use libc::{c_int, sockaddr, socklen_t};
use std::{os::fd::IntoRawFd, sync::Arc};

/// Flags in the type argument of socket().
const TYPE_MASK: c_int = 0xf;

/// A new socket, if it is to be TAS's. None: make it Linux's.
///
/// # Errors
/// Under `--require` ENETDOWN when there is no slow path; EMFILE, ENOBUFS.
pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Option<Result<c_int>> {
    let family = match domain {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return None,
    };
    if kind & TYPE_MASK != libc::SOCK_STREAM || !matches!(protocol, 0 | libc::IPPROTO_TCP) {
        return None;
    }
    let flags = kind & !TYPE_MASK;
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return None;
    }
    let process = process();
    let refused = || process.is_required().then_some(Err(Errno(libc::ENETDOWN)));
    let Some(network) = process.attach() else {
        return refused();
    };
    let token = process.engine().streams.reserve();
    match Socket::of_family(&network.context, family.number() as u16, token.word(), flags) {
        Ok(socket) => {
            let stream = Stream::new(Arc::new(socket), family, flags & libc::SOCK_NONBLOCK != 0);
            publish(process, token, stream, flags & libc::SOCK_CLOEXEC != 0)
        }
        Err(error) => {
            process.engine().streams.cancel(token);
            report::count(Reason::NoSocket, || format!("no TAS socket, this one is Linux's: {error}"));
            process.is_required().then_some(Err(error.into()))
        }
    }
}

/// Enters a new stream into the engine and the table. None when the number is beyond the table.
fn publish(
    process: &Process,
    token: Token,
    mut stream: Stream,
    close_on_exec: bool,
) -> Option<Result<c_int>> {
    let fd = stream.socket.descriptor();
    if !close_on_exec {
        // A descriptor passed by the daemon always arrives with the flag.
        // SAFETY: no pointers; the descriptor is ours.
        unsafe { real::fcntl(fd, libc::F_SETFD, 0) };
    }
    stream.descriptors.push(fd);
    process.engine().streams.fill(token, stream);
    let (stale, fits) = TABLE.set(fd, Some(Entry::Stream(token)));
    if let Some(stale) = stale {
        // The number was closed behind our back (a raw system call): its object lost it.
        descriptors::forget(process, stale, fd, false);
    }
    if !fits {
        report::count(Reason::Descriptor, || format!("descriptor {fd} is too high for TAS"));
        descriptors::forget(process, Entry::Stream(token), fd, true);
        return process.is_required().then_some(Err(Errno(libc::EMFILE)));
    }
    Some(Ok(fd))
}

/// bind().
///
/// # Errors
/// As bind(2).
///
/// # Safety
/// `name` is readable for `length` bytes.
pub unsafe fn bind(token: Token, fd: c_int, name: *const sockaddr, length: socklen_t) -> Result<()> {
    let process = process();
    let (family, socket) = {
        let mut engine = process.engine();
        let stream = engine.stream(token)?;
        if !matches!(stream.phase, Phase::Fresh) {
            return Err(Errno(libc::EINVAL));
        }
        (stream.family, stream.socket.clone())
    };
    // SAFETY: the caller's promise.
    let local = match unsafe { address::read(name, length, family)? } {
        Given::Name(local) => local,
        Given::Unspecified => return Err(Errno(libc::EAFNOSUPPORT)),
    };
    match bind_to(&socket, &local) {
        Ok(bound) => {
            let mut engine = process.engine();
            let stream = engine.stream(token)?;
            stream.local = Some(bound);
            stream.phase = Phase::Bound;
            Ok(())
        }
        Err(Errno(libc::EADDRNOTAVAIL)) => {
            let what = format!("bind() to {}", address::text(&local));
            fall_back(process, token, Reason::AddressNotServed, &what, Errno(libc::EADDRNOTAVAIL))?;
            // SAFETY: the caller's promise.
            check(unsafe { real::bind(fd, name, length) }.into()).map(drop)
        }
        Err(error) => Err(error),
    }
}

fn bind_to(socket: &Socket, local: &Endpoint) -> Result<Endpoint> {
    if is_loopback(local) || is_on_linux_link(local)? {
        return Err(Errno(libc::EADDRNOTAVAIL));
    }
    Ok(socket.bind(local)?)
}

/// A link-local address is one of every link: its scope says which (RFC 4007 §6). An interface of Linux's is Linux's;
/// every other number is TAS's one link, which need not have a Linux interface.
///
/// # Errors
/// EINVAL for a link-local address without a scope, as Linux.
fn is_on_linux_link(endpoint: &Endpoint) -> Result<bool> {
    if !address::is_link_local(endpoint) {
        return Ok(false);
    }
    if endpoint.scope == 0 {
        return Err(Errno(libc::EINVAL));
    }
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the length that the function asks for.
    Ok(unsafe { !libc::if_indextoname(endpoint.scope, name.as_mut_ptr()).is_null() })
}

/// What connect() has to do.
enum Step {
    Start(Arc<Socket>, Family, bool),
    Wait,
    Done,
}

/// connect().
///
/// # Errors
/// As connect(2).
///
/// # Safety
/// `name` is readable for `length` bytes.
pub unsafe fn connect(token: Token, fd: c_int, name: *const sockaddr, length: socklen_t) -> Result<()> {
    let process = process();
    process.pump();
    let step = next_step(process, token)?;
    if let Step::Done = step {
        return Ok(());
    }
    if let Step::Start(socket, family, nonblocking) = step {
        // SAFETY: the caller's promise.
        let remote = match unsafe { address::read(name, length, family)? } {
            Given::Name(remote) => remote,
            Given::Unspecified => return Ok(()),
        };
        let fast =
            process.engine().stream(token)?.options.integer(libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT)
                != 0;
        let begun = if fast {
            fast_open::defer(process, token, &remote)
        } else {
            start(process, token, &socket, &remote).map(|()| false)
        };
        match begun {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error @ Errno(libc::ENETUNREACH | libc::EHOSTUNREACH)) => {
                let what = format!("connect() to {}", address::text(&remote));
                fall_back(process, token, Reason::AddressNotServed, &what, error)?;
                // SAFETY: the caller's promise.
                return check(unsafe { real::connect(fd, name, length) }.into()).map(drop);
            }
            Err(error) => return Err(error),
        }
        if nonblocking {
            return Err(Errno(libc::EINPROGRESS));
        }
    }
    wait_connected(process, token)
}

fn next_step(process: &Process, token: Token) -> Result<Step> {
    let mut engine = process.engine();
    let stream = engine.stream(token)?;
    match &mut stream.phase {
        Phase::Listening { .. } => Err(Errno(libc::EISCONN)),
        Phase::Connected { announced, .. } if !*announced => {
            *announced = true;
            stream.take_error()?;
            Ok(Step::Done)
        }
        Phase::Connected { .. } => Err(Errno(libc::EISCONN)),
        Phase::Connecting if stream.early.as_ref().is_some_and(|early| early.deferred) => {
            Err(Errno(libc::EISCONN))
        }
        Phase::Connecting if stream.nonblocking => Err(Errno(libc::EALREADY)),
        Phase::Connecting => Ok(Step::Wait),
        Phase::Failed if stream.error != 0 => stream.take_error().map(|()| Step::Done),
        Phase::Failed | Phase::Fresh | Phase::Bound => {
            Ok(Step::Start(stream.socket.clone(), stream.family, stream.nonblocking))
        }
    }
}

/// Addresses that are never TAS's.
pub(crate) fn check_remote(remote: &Endpoint) -> Result<()> {
    // The unspecified address is the loopback's (RFC 1122 §3.2.1.3 aside, as on every Unix).
    if is_loopback(remote) || is_unspecified(remote) || is_on_linux_link(remote)? {
        return Err(Errno(libc::ENETUNREACH));
    }
    Ok(())
}

/// Asks for the connection. The phase changes first: the answer may come on another thread.
fn start(process: &Process, token: Token, socket: &Socket, remote: &Endpoint) -> Result<()> {
    let network = process.network().ok_or(Errno(libc::ENETDOWN))?;
    check_remote(remote)?;
    let former = {
        let mut engine = process.engine();
        let stream = engine.stream(token)?;
        stream.remote = Some(*remote);
        std::mem::replace(&mut stream.phase, Phase::Connecting)
    };
    socket.connect(&network.context, remote).map_err(|error| {
        let mut engine = process.engine();
        if let Ok(stream) = engine.stream(token) {
            stream.phase = former;
            stream.remote = None;
        }
        error.into()
    })
}

pub(crate) fn wait_connected(process: &Process, token: Token) -> Result<()> {
    let limit = process.engine().stream(token)?.options.send_timeout;
    let waited = block(process, token, limit, |engine| {
        let stream = engine.stream(token)?;
        match &mut stream.phase {
            Phase::Connecting => Ok(Attempt::Wait),
            Phase::Connected { announced, .. } => {
                *announced = true;
                Ok(Attempt::Done(()))
            }
            _ => {
                stream.take_error()?;
                Err(Errno(libc::ECONNABORTED))
            }
        }
    });
    match waited {
        // The attempt goes on; inet_stream_connect says so.
        Err(Errno(libc::EAGAIN)) => Err(Errno(libc::EINPROGRESS)),
        other => other,
    }
}

/// Puts a kernel socket with the same options under every descriptor of the stream.
///
/// # Errors
/// `refusal` under `--require`; EMFILE.
pub(crate) fn fall_back(
    process: &Process,
    token: Token,
    reason: Reason,
    what: &str,
    refusal: Errno,
) -> Result<()> {
    if process.is_required() {
        report::count(reason, || {
            format!("{what} is not served by TAS and falling back is forbidden (TAS_REQUIRE)")
        });
        return Err(refusal);
    }
    report::count(reason, || format!("{what} is not served by TAS: this socket is Linux's (said once)"));
    let mut engine = process.engine();
    let stream = engine.stream(token)?;
    let kind =
        libc::SOCK_STREAM | libc::SOCK_CLOEXEC | if stream.nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    // SAFETY: no pointers.
    let kernel = check(unsafe { real::socket(stream.family.number(), kind, 0) }.into())? as c_int;
    for (level, name, value) in stream.options.replay() {
        // SAFETY: the value is readable for its length. What Linux refuses now it would have before.
        unsafe { real::setsockopt(kernel, *level, *name, value.as_ptr().cast(), value.len() as socklen_t) };
    }
    if let Some(local) = stream.local {
        let name = address::encode(local, stream.family);
        // SAFETY: the name is readable for its length.
        let bound =
            check(unsafe { real::bind(kernel, name.as_ptr().cast(), name.len() as socklen_t) }.into());
        if bound.is_err() {
            // The address is TAS's own: there is nothing to fall back to.
            // SAFETY: a descriptor of ours.
            unsafe { real::close(kernel) };
            return Err(refusal);
        }
    }
    replace(&mut engine, token, kernel);
    // SAFETY: a descriptor of ours; its copies live on.
    unsafe { real::close(kernel) };
    Ok(())
}

/// Puts the kernel's file under the stream's descriptors and into the epolls that watched it.
fn replace(engine: &mut super::engine::Engine, token: Token, kernel: c_int) {
    let Some(stream) = engine.streams.remove(token) else {
        return;
    };
    for fd in &stream.descriptors {
        TABLE.set(*fd, None);
        // SAFETY: no pointers. The descriptor keeps its close-on-exec flag.
        unsafe {
            let flags = real::fcntl(*fd, libc::F_GETFD, 0);
            real::dup3(kernel, *fd, if flags & libc::FD_CLOEXEC != 0 { libc::O_CLOEXEC } else { 0 });
        }
    }
    // The descriptor's file was replaced: it is no longer the low-level socket's to close.
    if let Some(descriptor) = stream.socket.take_descriptor() {
        let _ = descriptor.into_raw_fd();
    }
    for watch in &stream.watches {
        let Ok(epoll) = engine.epoll(watch.epoll) else {
            continue;
        };
        if let (Some((_, events, data)), Some(epfd)) =
            (epoll.interest(watch.interest), epoll.descriptors.first())
        {
            let mut event = libc::epoll_event { events, u64: data };
            // SAFETY: the event is valid.
            unsafe { real::epoll_ctl(*epfd, libc::EPOLL_CTL_ADD, watch.fd, &mut event) };
        }
        epoll.has_kernel = true;
        epoll.remove(watch.interest);
        epoll.waiters.iter().for_each(|bell| bell.ring());
    }
    stream.waiters.iter().for_each(|bell| bell.ring());
}

/// The local name.
///
/// # Errors
/// EBADF.
pub fn local_name(token: Token) -> Result<(Endpoint, Family)> {
    let process = process();
    process.pump();
    let mut engine = process.engine();
    let stream = engine.stream(token)?;
    if stream.local.is_none() && !matches!(stream.phase, Phase::Fresh) {
        let names = stream.socket.names()?;
        // A port of zero is not the last word: the port is chosen when the SYN leaves.
        if names.local.family != 0 && names.local.port != 0 {
            stream.local = Some(names.local);
        }
    }
    Ok((stream.local.unwrap_or(Endpoint::ipv4(0, 0)), stream.family))
}

/// The peer's name.
///
/// # Errors
/// ENOTCONN.
pub fn remote_name(token: Token) -> Result<(Endpoint, Family)> {
    let process = process();
    process.pump();
    let mut engine = process.engine();
    let stream = engine.stream(token)?;
    match (&stream.phase, stream.remote) {
        (Phase::Connected { .. }, Some(remote)) if !stream.broken => Ok((remote, stream.family)),
        _ => Err(Errno(libc::ENOTCONN)),
    }
}
