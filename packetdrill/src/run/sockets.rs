// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket calls of the script: `tas::sockets`, which is what an unmodified program's calls reach.
//! Every descriptor is non-blocking here; what a blocking call does is the runner's, in virtual time.

use abi::message::Endpoint;
use libc::{c_int, iovec, pollfd};
use std::{ptr, sync::Arc, time::Duration};
use tas::{
    lowlevel::Application,
    sockets::{
        accept, address, attach_to, descriptors, fast_open, find, open, poll, receive, send, sockopt, Entry,
        Errno, Token,
    },
};

/// What a call answers: a value, or an errno.
pub(super) type Answer<T> = Result<T, i32>;

fn plain<T>(result: Result<T, Errno>) -> Answer<T> {
    result.map_err(|Errno(errno)| errno)
}

fn token(fd: c_int) -> Answer<Token> {
    match find(fd) {
        Some(Entry::Stream(token)) => Ok(token),
        Some(_) => Err(libc::ENOTSOCK),
        None => Err(libc::EBADF),
    }
}

fn name(address: u32, port: u16) -> Vec<u8> {
    address::encode(Endpoint::ipv4(address, port), address::Family::V4)
}

/// This process's attachment, and what lets the library look at its rings, as a program's calls do now
/// and then: a call on a socket of its own.
pub(super) struct Pump(c_int);

impl Pump {
    /// Makes `application` the one whose sockets this process opens. Once per process.
    pub(super) fn attach(application: &Arc<Application>) -> std::io::Result<Self> {
        attach_to(application)?;
        let made = socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        made.map(Self).map_err(std::io::Error::from_raw_os_error)
    }

    /// Takes what arrived.
    pub(super) fn run(&self) {
        let _ = option(self.0, libc::SOL_SOCKET, libc::SO_TYPE, 4);
    }
}

pub(super) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Answer<c_int> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    plain(open::socket(domain, kind, protocol).unwrap_or(Err(Errno(libc::EPROTONOSUPPORT))))
}

pub(super) fn bind(fd: c_int, address: u32, port: u16) -> Answer<i64> {
    let name = name(address, port);
    // SAFETY: the name is readable for its length.
    plain(unsafe { open::bind(token(fd)?, fd, name.as_ptr().cast(), name.len() as u32) }).map(|()| 0)
}

pub(super) fn listen(fd: c_int, backlog: c_int) -> Answer<i64> {
    plain(accept::listen(token(fd)?, backlog)).map(|()| 0)
}

/// The new descriptor and the peer's port.
pub(super) fn accept(fd: c_int) -> Answer<(c_int, u16)> {
    let accepted = accept::accept(token(fd)?, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    plain(accepted).map(|(fd, peer, _)| (fd, peer.port))
}

pub(super) fn connect(fd: c_int, address: u32, port: u16) -> Answer<i64> {
    let name = name(address, port);
    // SAFETY: the name is readable for its length.
    plain(unsafe { open::connect(token(fd)?, fd, name.as_ptr().cast(), name.len() as u32) }).map(|()| 0)
}

pub(super) fn local_port(fd: c_int) -> Option<u16> {
    open::local_name(token(fd).ok()?).ok().map(|(endpoint, _)| endpoint.port)
}

pub(super) fn send(fd: c_int, bytes: &[u8], flags: c_int) -> Answer<usize> {
    let piece = iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the piece is readable for its length.
    plain(unsafe { send::send(token(fd)?, &[piece], flags | libc::MSG_NOSIGNAL) })
}

/// sendto() with an address, which MSG_FASTOPEN connects to.
pub(super) fn send_to(fd: c_int, bytes: &[u8], flags: c_int, address: u32, port: u16) -> Answer<usize> {
    let piece = iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let (name, flags) = (name(address, port), flags | libc::MSG_NOSIGNAL);
    let length = name.len() as u32;
    // SAFETY: the piece and the name are readable for their lengths.
    plain(unsafe { fast_open::send_to(token(fd)?, fd, &[piece], flags, name.as_ptr().cast(), length) })
}

pub(super) fn receive(fd: c_int, room: usize, flags: c_int) -> Answer<Vec<u8>> {
    let mut buffer = vec![0u8; room];
    let piece = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: room };
    // SAFETY: the piece is writable for its length.
    let count = plain(unsafe { receive::receive(token(fd)?, &[piece], flags) })?;
    buffer.truncate(count);
    Ok(buffer)
}

pub(super) fn close(fd: c_int) -> Answer<i64> {
    let entry = find(fd).ok_or(libc::EBADF)?;
    plain(descriptors::close(entry, fd)).map(|()| 0)
}

pub(super) fn shutdown(fd: c_int, how: c_int) -> Answer<i64> {
    plain(sockopt::shutdown(token(fd)?, how)).map(|()| 0)
}

pub(super) fn set_option(fd: c_int, level: c_int, name: c_int, value: &[u8]) -> Answer<i64> {
    let (token, length) = (token(fd)?, value.len() as u32);
    // SAFETY: the value is readable for its length.
    plain(unsafe { sockopt::set(token, fd, level, name, value.as_ptr().cast(), length) }).map(|()| 0)
}

pub(super) fn option(fd: c_int, level: c_int, name: c_int, room: usize) -> Answer<Vec<u8>> {
    let mut value = vec![0u8; room];
    let mut length = room as u32;
    // SAFETY: the value is writable for `length` bytes.
    plain(unsafe { sockopt::get(token(fd)?, level, name, value.as_mut_ptr().cast(), &mut length) })?;
    value.truncate(length as usize);
    Ok(value)
}

/// Looks without waiting: how many entries have events.
pub(super) fn poll(set: &mut [pollfd]) -> Answer<i64> {
    // SAFETY: no mask.
    plain(unsafe { poll::poll(set, Some(Duration::ZERO), ptr::null()) }).map(i64::from)
}

/// An ioctl that answers with a number.
pub(super) fn ioctl(fd: c_int, request: u64) -> Answer<i32> {
    let mut value: c_int = 0;
    // SAFETY: the request takes a pointer to an int.
    let answered = unsafe { descriptors::ioctl(token(fd)?, request, (&raw mut value).cast()) };
    plain(answered.unwrap_or(Err(Errno(libc::ENOTTY)))).map(|_| value)
}

/// `tcpi_` fields by name, as far as the structure has them.
pub(super) fn tcp_info(fd: c_int) -> Answer<impl Fn(&str) -> Option<i64>> {
    let bytes = option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, size_of::<libc::tcp_info>())?;
    // SAFETY: plain numbers; zero is valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let count = bytes.len().min(size_of_val(&info));
    // SAFETY: both are at least `count` bytes.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut info).cast::<u8>(), count) };
    macro_rules! fields {
        ($($name:ident)+) => {
            move |name: &str| match name { $(stringify!($name) => Some(i64::from(info.$name)),)+ _ => None }
        };
    }
    Ok(fields![
        tcpi_state tcpi_ca_state tcpi_retransmits tcpi_probes tcpi_backoff tcpi_options tcpi_rto tcpi_ato
        tcpi_snd_mss tcpi_rcv_mss tcpi_unacked tcpi_sacked tcpi_lost tcpi_retrans tcpi_pmtu tcpi_rcv_ssthresh
        tcpi_rtt tcpi_rttvar tcpi_snd_ssthresh tcpi_snd_cwnd tcpi_advmss tcpi_reordering tcpi_rcv_rtt
        tcpi_rcv_space tcpi_total_retrans
    ])
}
