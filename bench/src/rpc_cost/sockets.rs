// SPDX-License-Identifier: MIT OR Apache-2.0
//! The echo server over the sockets layer, with the calls that an unmodified program makes:
//! epoll_wait, read, write. Only the C entry points are missing.

use abi::message::Endpoint;
use anyhow::{bail, ensure, Context as _, Result};
use fastpath::Port;
use libc::{c_int, epoll_event, iovec};
use sim::Host;
use tas::sockets::{
    accept, address, attach_to, epoll_calls, find, open, real, receive, send, Entry, Errno, Token,
};

/// Events taken at once.
const EVENTS: usize = 64;
/// The listener's `data`.
const LISTENER: u64 = u64::MAX;

/// An echo server with one epoll instance.
pub(crate) struct Sockets {
    epoll: c_int,
    listener: c_int,
    connections: usize,
    events: [epoll_event; EVENTS],
    buffer: Vec<u8>,
}

fn stream(fd: c_int) -> Result<Token> {
    match find(fd) {
        Some(Entry::Stream(token)) => Ok(token),
        _ => bail!("descriptor {fd} is no TAS socket"),
    }
}

fn told<T>(result: Result<T, Errno>, what: &str) -> Result<T> {
    result.map_err(|error| anyhow::anyhow!("{what}: {error:?}"))
}

impl Sockets {
    /// Listens on `port`; requests and replies have `bytes` bytes.
    pub(crate) fn new<P: Port>(host: &mut Host<P>, port: u16, bytes: usize) -> Result<Self> {
        attach_to(&host.application()?)?;
        host.carry_out_notices()?;
        let listener = open::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
        let listener = told(listener.context("the socket is not served")?, "socket")?;
        let name = address::encode(Endpoint::ipv4(host.config().ipv4, port), address::Family::V4);
        // SAFETY: the name is readable for its length.
        told(
            unsafe { open::bind(stream(listener)?, listener, name.as_ptr().cast(), name.len() as u32) },
            "bind",
        )?;
        told(accept::listen(stream(listener)?, 1024), "listen")?;
        // SAFETY: no pointers.
        let epoll = unsafe { real::epoll_create1(libc::EPOLL_CLOEXEC) };
        ensure!(epoll >= 0, "epoll_create1");
        epoll_calls::created(epoll);
        let server = Self {
            epoll,
            listener,
            connections: 0,
            events: [epoll_event { events: 0, u64: 0 }; EVENTS],
            buffer: vec![0; bytes],
        };
        server.watch(listener, LISTENER)?;
        Ok(server)
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections
    }

    fn watch(&self, fd: c_int, data: u64) -> Result<()> {
        let mut event = epoll_event { events: libc::EPOLLIN as u32, u64: data };
        // SAFETY: the event is valid.
        told(unsafe { epoll_calls::control(self.epoll, libc::EPOLL_CTL_ADD, fd, &mut event) }, "epoll_ctl")
    }

    /// Accepts what waits.
    pub(crate) fn accept<P: Port>(&mut self, host: &mut Host<P>) -> Result<()> {
        loop {
            match accept::accept(stream(self.listener)?, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) {
                Ok((fd, ..)) => self.watch(fd, fd as u64)?,
                Err(Errno(libc::EAGAIN)) => return Ok(()),
                // The pool of buffer maps grows while connections arrive.
                Err(error) => bail!("accept: {error:?}"),
            }
            self.connections += 1;
            host.carry_out_notices()?;
        }
    }

    /// Echoes every request that is there; how many there were.
    pub(crate) fn serve(&mut self) -> Result<usize> {
        let mut served = 0;
        loop {
            let Some(Entry::Epoll(epoll)) = find(self.epoll) else { bail!("the epoll instance is gone") };
            let (events, room) = (self.events.as_mut_ptr(), EVENTS as c_int);
            let limit = Some(std::time::Duration::ZERO);
            // SAFETY: the array has that much room; no mask.
            let count =
                unsafe { epoll_calls::wait(epoll, self.epoll, events, room, limit, std::ptr::null()) };
            let count = told(count, "epoll_wait")?;
            if count == 0 {
                return Ok(served);
            }
            for index in 0..count as usize {
                let data = self.events[index].u64;
                if data != LISTENER {
                    served += self.echo(data as c_int)?;
                }
            }
        }
    }

    #[inline]
    fn echo(&mut self, fd: c_int) -> Result<usize> {
        let mut piece = iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: self.buffer.len() };
        // As the interposed read() and write() do.
        let Some(Entry::Stream(token)) = find(fd) else { bail!("descriptor {fd} is no TAS socket") };
        // SAFETY: the buffer is writable for its length.
        let read = match unsafe { receive::receive(token, &[piece], 0) } {
            Err(Errno(libc::EAGAIN)) => return Ok(0),
            other => told(other, "read")?,
        };
        piece.iov_len = read;
        let Some(Entry::Stream(token)) = find(fd) else { bail!("descriptor {fd} is no TAS socket") };
        // SAFETY: the buffer is readable for `read` bytes.
        let written = told(unsafe { send::send(token, &[piece], 0) }, "write")?;
        ensure!(written == read, "no room for a reply");
        Ok(usize::from(read > 0))
    }
}
