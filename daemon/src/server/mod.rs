// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tas-slowpathd`: one [`Instance`] behind a Unix socket, in one thread around epoll.
//!
//! **Calls.** A client connects with SOCK_SEQPACKET and sends an `abi::message::Message` as one datagram of
//! 256 bytes; each is answered by one datagram with the same `op`. Anything else is answered with EINVAL.
//! The next call is read when the one before has been answered.
//!
//! **Descriptors** travel as SCM_RIGHTS, in this order:
//!
//! | call | with the request | with the reply |
//! |---|---|---|
//! | ATTACH_FAST | | eventfd "a notice waits", eventfd that wakes the slow path |
//! | CORE_EVENTFD | eventfd that wakes the core | |
//! | ATTACH_APPLICATION | | one eventfd for each core |
//! | NEXT_NOTICE | | with CONTEXT_ADDED: the context's eventfd |
//! | CREATE_CONTEXT | eventfd that wakes the context | |
//! | SOCKET, ACCEPT | | the socket |
//! | MAP | | memfd of the region, or of one segment of it |
//!
//! **Roles.** The fast path, and whoever changes something, must be root or the daemon's own user
//! (SO_PEERCRED, as at the time of connect). The socket's mode lets group `tas` in.
//!
//! **Release.** A socket's descriptor is one end of a SOCK_STREAM pair; end of file on ours means that the
//! last holder closed it. End of file on a client's connection means that it died.
//!
//! **Replies that wait.** A reply after which the caller may touch what the fast path must map first (a new
//! context, pool or map segment) is held back until the fast path has answered the notice, or is gone.

mod connections;
mod transport;
mod wakes;

use crate::{
    clock::{ticks, Scale},
    Client, Instance, MemoryKind, Settings,
};
use anyhow::{Context as _, Result};
use connections::{Connection, SocketEnd};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use ring::WakeFlag;
use std::{
    collections::BTreeMap,
    io::Read,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::PathBuf,
};
use transport::Listener;
use wakes::Wakes;

/// Events taken from epoll at a time.
const EVENTS: usize = 64;
/// How long a daemon that is stopped waits for its connections to end, microseconds.
const FAREWELL_US: u64 = 500_000;
/// Token of what is watched from the start; clients and sockets count on from there.
const LISTENER: u64 = 0;
const SLOWPATH: u64 = 1;
const STOP: u64 = 2;
const FIRST_TOKEN: u64 = 3;

/// What an operator decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// Instance name.
    pub instance: String,
    /// Socket path.
    pub socket: PathBuf,
    /// Group that may connect.
    pub group: String,
    /// Microseconds without work before an application's thread sleeps.
    pub poll_interval_us: u32,
    /// Most pool segments (2 MiB each) of one application.
    pub pool_segments_max: u32,
}

impl Options {
    /// Defaults for an instance: `/run/tas/NAME.sock`, group `tas`.
    pub fn new(instance: &str) -> Self {
        let settings = Settings::new(instance, MemoryKind::Memfd, [0; 6]);
        Self {
            instance: instance.into(),
            socket: PathBuf::from(format!("/run/tas/{instance}.sock")),
            group: "tas".into(),
            poll_interval_us: settings.poll_interval_us,
            pool_segments_max: settings.pool_segments_max,
        }
    }
}

/// A serving daemon.
pub struct Server {
    instance: Instance,
    listener: Listener,
    epoll: Epoll,
    wakes: Wakes,
    next_token: u64,
    connections: BTreeMap<u64, Connection>,
    sockets: BTreeMap<u64, SocketEnd>,
    /// Socket id to watch token.
    socket_tokens: BTreeMap<u32, u64>,
    /// Clients whose reply waits for the fast path.
    parked: Vec<u64>,
}

impl Server {
    /// Takes the socket path and gets ready to serve.
    ///
    /// # Errors
    /// The path is served already, cannot be created, or the system is out of something; each says
    /// what to do.
    pub fn new(options: &Options) -> Result<Self> {
        let listener = Listener::open(&options.socket, &options.group)?;
        raise_descriptor_limit();
        let settings = Settings {
            poll_interval_us: options.poll_interval_us,
            pool_segments_max: options.pool_segments_max,
            ..Settings::new(&options.instance, MemoryKind::Memfd, secret()?)
        };
        let instance = Instance::new(settings).context("cannot allocate the clock page")?;
        Scale::calibrate().publish(instance.clock());
        let server = Self {
            instance,
            listener,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create1")?,
            wakes: Wakes::new().context("cannot make eventfds")?,
            next_token: FIRST_TOKEN,
            connections: BTreeMap::new(),
            sockets: BTreeMap::new(),
            socket_tokens: BTreeMap::new(),
            parked: Vec::new(),
        };
        server.watch(server.listener.socket.as_fd(), LISTENER, EpollFlags::EPOLLIN)?;
        server.watch(server.wakes.slowpath.as_fd(), SLOWPATH, EpollFlags::EPOLLIN)?;
        Ok(server)
    }

    /// Serves until `stop` becomes readable; then the peers of all connections are told.
    ///
    /// # Errors
    /// epoll failed.
    pub fn run(mut self, stop: BorrowedFd<'_>) -> Result<()> {
        self.watch(stop, STOP, EpollFlags::EPOLLIN)?;
        self.serve_until_stopped()?;
        self.epoll.delete(stop)?;
        self.end_connections()
    }

    fn serve_until_stopped(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let count = self.wait(&mut events, None)?;
            for event in events.iter().take(count) {
                match event.data() {
                    STOP => return Ok(()),
                    SLOWPATH => wakes::drain(self.wakes.slowpath.as_fd()),
                    LISTENER => self.accept(),
                    token => self.handle(token, event.events()),
                }
            }
        }
    }

    /// Ends every application as if it had died, and gives the fast path a moment to tell the peers.
    fn end_connections(&mut self) -> Result<()> {
        let end_us = self.now_us().saturating_add(FAREWELL_US);
        self.disconnect_applications();
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let now_us = self.now_us();
            if now_us >= end_us || !self.instance.has_flows(now_us) {
                return Ok(());
            }
            let count = self.wait(&mut events, Some(end_us))?;
            for event in events.iter().take(count) {
                match event.data() {
                    SLOWPATH => wakes::drain(self.wakes.slowpath.as_fd()),
                    LISTENER => self.epoll.delete(&self.listener.socket)?,
                    token => self.handle(token, event.events()),
                }
            }
        }
    }

    /// Runs the instance, then sleeps until something is to be done, but not past `end_us`; the
    /// number of events.
    fn wait(&mut self, events: &mut [EpollEvent], end_us: Option<u64>) -> Result<usize> {
        let timer = self.instance.run_once(self.now_us());
        let deadline = timer.into_iter().chain(end_us).min();
        self.send_wakes();
        self.answer_parked();
        WakeFlag::new(&self.instance.clock().slowpath_waiting).arm();
        let timeout_us = match deadline {
            _ if self.instance.has_input() => Some(0),
            Some(deadline) => Some(deadline.saturating_sub(self.now_us())),
            None => None,
        };
        let count = wait_us(&self.epoll, events, timeout_us);
        WakeFlag::new(&self.instance.clock().slowpath_waiting).disarm();
        count
    }

    fn handle(&mut self, token: u64, flags: EpollFlags) {
        if self.connections.contains_key(&token) {
            self.serve(token, flags);
        } else if self.sockets.contains_key(&token) {
            self.socket_released(token);
        } else {
            self.wakes.forward(token);
        }
    }

    fn now_us(&self) -> u64 {
        self.instance.clock().microseconds(ticks())
    }

    fn send_wakes(&mut self) {
        while let Some(wake) = self.instance.poll_wake() {
            self.wakes.send(wake);
        }
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn watch(&self, descriptor: BorrowedFd<'_>, token: u64, flags: EpollFlags) -> nix::Result<()> {
        self.epoll.add(descriptor, EpollEvent::new(flags, token))
    }
}

/// epoll_wait with microseconds: timers of the slow path are shorter than a millisecond.
fn wait_us(epoll: &Epoll, events: &mut [EpollEvent], timeout_us: Option<u64>) -> Result<usize> {
    let timeout = timeout_us.map(|us| libc::timespec {
        tv_sec: (us / 1_000_000) as libc::time_t,
        tv_nsec: (us % 1_000_000 * 1000) as libc::c_long,
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: EpollEvent is a transparent epoll_event; the slice's length is passed with it.
    let count = unsafe {
        libc::epoll_pwait2(
            epoll.0.as_raw_fd(),
            events.as_mut_ptr().cast(),
            events.len() as libc::c_int,
            timeout,
            std::ptr::null(),
        )
    };
    match nix::errno::Errno::result(count) {
        Ok(count) => Ok(count as usize),
        Err(nix::errno::Errno::EINTR) => Ok(0),
        Err(error) => Err(error).context("epoll_pwait2 (Linux 5.11 or newer is needed)"),
    }
}

/// Keys from the system's random source.
fn secret() -> Result<[u64; 6]> {
    let mut bytes = [0; 48];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom; is /dev mounted here?")?;
    let mut words = [0; 6];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk.try_into().map_or(0, u64::from_ne_bytes);
    }
    Ok(words)
}

/// Every socket of an application takes a descriptor here.
fn raise_descriptor_limit() {
    use nix::sys::resource::{getrlimit, setrlimit, Resource};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The client a connection stands for.
fn client_of(connection: &Connection) -> Client {
    connection.client
}
