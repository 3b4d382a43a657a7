// SPDX-License-Identifier: MIT OR Apache-2.0
//! The low-level API: an [`Application`] attached to an instance, [`Context`]s that receive events,
//! [`Socket`]s for control calls, and [`Connection`]s whose bytes are read and written in place.
//!
//! **Threads.** Everything is `Send + Sync` and takes `&self`. A context has one lock, held for a
//! batch in `poll` and for a moment in `write`; each direction of a connection has its own. Locks are
//! taken in the order connection, context; nothing blocks while one is held (no system call except a
//! wake-up's).
//!
//! **Tokens.** The caller names sockets by a `u64` of its own; events carry it. An event that was
//! taken before a socket was closed may still name it: use tokens that are not reused at once.

use crate::control::ControlChannel;
use abi::message::{Endpoint, FlowInfo, Names};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
};

/// How to attach.
#[derive(Debug, Clone)]
pub struct Options {
    /// Instance name.
    pub instance: String,
    /// Command name for `tasctl`.
    pub command: [u8; 16],
}

/// An application attached to an instance: its payload pool, and what all contexts share.
pub struct Application {}

impl Application {
    /// Attaches and maps. The channel must be fresh.
    ///
    /// # Errors
    /// See [`crate::control::attach::application`]; what mapping reports.
    pub fn attach(_channel: Arc<dyn ControlChannel>, _options: &Options) -> io::Result<Arc<Self>> {
        unimplemented!()
    }
    /// The channel given to `attach`.
    pub fn channel(&self) -> &dyn ControlChannel {
        unimplemented!()
    }
    /// Application id.
    pub fn id(&self) -> u32 {
        unimplemented!()
    }
    /// The instance's IPv4 address (host order) and prefix length.
    pub fn ipv4(&self) -> (u32, u32) {
        unimplemented!()
    }
    /// MTU of the instance, bytes.
    pub fn mtu_bytes(&self) -> u32 {
        unimplemented!()
    }
    /// Receive and transmit buffer of a flow, bytes.
    pub fn buffer_bytes(&self) -> (u32, u32) {
        unimplemented!()
    }
    /// Microseconds to poll without work before a thread sleeps.
    pub fn poll_interval_us(&self) -> u32 {
        unimplemented!()
    }
    /// Whether a fast path is attached at the moment.
    pub fn has_fastpath(&self) -> bool {
        unimplemented!()
    }
}

/// What [`Event::flags`] may hold; several at once.
pub mod event {
    /// New bytes can be read.
    pub const READABLE: u16 = 1 << 0;
    /// The peer sent FIN: end of stream after what is readable.
    pub const END_OF_STREAM: u16 = 1 << 1;
    /// A write came up short earlier; now at least a third of the buffer is free.
    pub const WRITABLE: u16 = 1 << 2;
    /// All data and our FIN were acknowledged.
    pub const FINISHED: u16 = 1 << 3;
    /// An active open completed: call [`super::Socket::established`].
    pub const CONNECTED: u16 = 1 << 4;
    /// An active open failed, or the connection was reset or timed out; see [`super::Event::error`].
    pub const FAILED: u16 = 1 << 5;
    /// A listener has connections to accept: call accept until EAGAIN.
    pub const ACCEPTABLE: u16 = 1 << 6;
}

/// Something happened to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Event {
    /// The caller's name of the socket.
    pub token: u64,
    /// See [`event`].
    pub flags: u16,
    /// errno when FAILED, else zero.
    pub error: i32,
}

/// The rings between some threads of the application, the fast-path cores and the slow path.
pub struct Context {}

impl Context {
    /// Creates a context with an eventfd of its own.
    ///
    /// # Errors
    /// EMFILE, or what the control call reports (ENOBUFS: too many contexts).
    pub fn new(_application: &Arc<Application>) -> io::Result<Arc<Self>> {
        unimplemented!()
    }
    /// Context id.
    pub fn id(&self) -> u32 {
        unimplemented!()
    }
    /// The application it belongs to.
    pub fn application(&self) -> &Arc<Application> {
        unimplemented!()
    }
    /// Takes what arrived, updates connections and fills `events`; returns how many. Also retries
    /// what found a ring full, announces what was read, frees acknowledged memory and grows the
    /// pool when it is low. No system call in the common case.
    pub fn poll(&self, _events: &mut [Event]) -> usize {
        unimplemented!()
    }
    /// Before sleeping: asks for a wake-up and looks at the rings once more. True: sleep on
    /// [`Self::eventfd`] (poll or epoll for reading, never read it), then call
    /// [`Self::finish_wait`]. False: poll again, do not call it. Several threads may wait at
    /// once: a wake-up wakes them all, and the eventfd stays readable until the last one left.
    pub fn prepare_wait(&self) -> bool {
        unimplemented!()
    }
    /// After [`Self::prepare_wait`] returned true, whatever ended the sleep.
    pub fn finish_wait(&self) {
        unimplemented!()
    }
    /// Wakes all waiting threads, as an event would.
    pub fn wake(&self) {
        unimplemented!()
    }
    /// Sleeps until there is something to poll, or for `timeout_ms` (None: no limit).
    ///
    /// # Errors
    /// EINTR.
    pub fn wait(&self, _timeout_ms: Option<u32>) -> io::Result<()> {
        unimplemented!()
    }
    /// Readable after a wake-up.
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        unimplemented!()
    }
}

/// A TAS socket: its control calls. It owns a descriptor, closed on drop (its release is the
/// close, unless another descriptor of the same file lives).
pub struct Socket {}

impl Socket {
    /// A new IPv4 TCP socket. `file_flags`: O_CLOEXEC, O_NONBLOCK. Its events go to `context`.
    ///
    /// # Errors
    /// EMFILE, ENOBUFS.
    pub fn new(_context: &Arc<Context>, _token: u64, _file_flags: i32) -> io::Result<Self> {
        unimplemented!()
    }
    /// Socket id.
    pub fn id(&self) -> u32 {
        unimplemented!()
    }
    /// The caller's name of it.
    pub fn token(&self) -> u64 {
        unimplemented!()
    }
    /// The descriptor; -1 after [`Self::take_descriptor`].
    pub fn descriptor(&self) -> RawFd {
        unimplemented!()
    }
    /// Gives the descriptor up; control calls fail with EBADF from now on.
    pub fn take_descriptor(&self) -> Option<OwnedFd> {
        unimplemented!()
    }
    /// Uses another descriptor of the same file from now on, and gives the old one up without closing
    /// it (after dup2 and the like).
    pub fn replace_descriptor(&self, _descriptor: OwnedFd) -> Option<OwnedFd> {
        unimplemented!()
    }
    /// Binds; returns the address bound.
    ///
    /// # Errors
    /// As bind(2).
    pub fn bind(&self, _local: &Endpoint) -> io::Result<Endpoint> {
        unimplemented!()
    }
    /// Listens; ACCEPTABLE events go to the context of [`Self::new`].
    ///
    /// # Errors
    /// As listen(2).
    pub fn listen(&self, _backlog: u32) -> io::Result<()> {
        unimplemented!()
    }
    /// Begins to connect: Ok means in progress, then CONNECTED or FAILED comes to `context`.
    ///
    /// # Errors
    /// As connect(2), EINPROGRESS excepted.
    pub fn connect(&self, _context: &Arc<Context>, _remote: &Endpoint) -> io::Result<()> {
        unimplemented!()
    }
    /// The connection after CONNECTED, its events in the context of [`Self::connect`]. Once per socket.
    ///
    /// # Errors
    /// ENOTCONN before CONNECTED; what FLOW_INFO reports.
    pub fn established(&self) -> io::Result<Connection> {
        unimplemented!()
    }
    /// Takes a connection from the accept queue; its events go to `context`.
    ///
    /// # Errors
    /// EAGAIN: none waits. EMFILE, ENOBUFS.
    pub fn accept(&self, _context: &Arc<Context>, _token: u64, _file_flags: i32) -> io::Result<(Socket, Connection)> {
        unimplemented!()
    }
    /// Tells the slow path that nobody will read any more (shutdown(SHUT_RD)). Writing ends with
    /// [`Connection::finish`].
    ///
    /// # Errors
    /// ENOTCONN.
    pub fn shutdown_read(&self) -> io::Result<()> {
        unimplemented!()
    }
    /// Sets an option of [`abi::message::option`].
    ///
    /// # Errors
    /// ENOPROTOOPT, EINVAL.
    pub fn set_option(&self, _option: u32, _value: u32, _value2: u32) -> io::Result<()> {
        unimplemented!()
    }
    /// Reads an option: value and second value.
    ///
    /// # Errors
    /// ENOPROTOOPT.
    pub fn option(&self, _option: u32) -> io::Result<(u32, u32)> {
        unimplemented!()
    }
    /// Local and remote name, TCP state.
    ///
    /// # Errors
    /// What the control call reports.
    pub fn names(&self) -> io::Result<Names> {
        unimplemented!()
    }
    /// Flow information as the slow path has it now (RTT, state).
    ///
    /// # Errors
    /// ENOTCONN.
    pub fn flow_info(&self) -> io::Result<FlowInfo> {
        unimplemented!()
    }
}

/// How a connection is left by [`Connection::close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Nobody else has the socket: FIN after the data written.
    Finish,
    /// The slow path will reset it (unread data, or linger of zero): memory is given up.
    Abort,
    /// Other processes have the socket too: no FIN, data written is still delivered.
    Leave,
}

/// An established connection's data. Dropping it is [`Close::Finish`] without a descriptor.
pub struct Connection {}

impl Connection {
    /// The caller's name of it.
    pub fn token(&self) -> u64 {
        unimplemented!()
    }
    /// Flow information at establishment.
    pub fn info(&self) -> &FlowInfo {
        unimplemented!()
    }
    /// Bytes that can be read now.
    pub fn readable_bytes(&self) -> usize {
        unimplemented!()
    }
    /// The peer sent FIN (there may be bytes to read before it).
    pub fn has_peer_finished(&self) -> bool {
        unimplemented!()
    }
    /// errno with which the connection failed, or zero.
    pub fn error(&self) -> i32 {
        unimplemented!()
    }
    /// Copies out and consumes; zero when nothing is there.
    pub fn read(&self, _into: &mut [u8]) -> usize {
        unimplemented!()
    }
    /// Copies out from `skip` bytes after the read position, without consuming.
    pub fn peek(&self, _skip: usize, _into: &mut [u8]) -> usize {
        unimplemented!()
    }
    /// Access to what can be read in place; holds the read lock.
    pub fn readable(&self) -> Readable<'_> {
        unimplemented!()
    }
    /// Bytes that a write would take now, memory permitting.
    pub fn writable_bytes(&self) -> usize {
        unimplemented!()
    }
    /// Bytes written and not yet acknowledged by the peer.
    pub fn unacknowledged_bytes(&self) -> usize {
        unimplemented!()
    }
    /// Copies in as much as fits and tells the fast path at once. Less than all: a WRITABLE event
    /// follows. Zero after [`Self::finish`] and after a failure.
    pub fn write(&self, _from: &[u8]) -> usize {
        unimplemented!()
    }
    /// As [`Self::write`], of several pieces with one announcement.
    pub fn write_vectored(&self, _from: &[std::io::IoSlice<'_>]) -> usize {
        unimplemented!()
    }
    /// Memory to write up to `bytes` in place; holds the write lock.
    pub fn writable(&self, _bytes: usize) -> Writable<'_> {
        unimplemented!()
    }
    /// Sends FIN after what was written.
    pub fn finish(&self) {
        unimplemented!()
    }
    /// Whether [`Self::finish`] was called.
    pub fn has_finished(&self) -> bool {
        unimplemented!()
    }
    /// All data and our FIN were acknowledged.
    pub fn is_finish_acknowledged(&self) -> bool {
        unimplemented!()
    }
    /// Delivers events to `context` from now on.
    ///
    /// # Errors
    /// What the control call reports.
    pub fn move_to(&self, _context: &Arc<Context>, _socket: &Socket) -> io::Result<()> {
        unimplemented!()
    }
    /// Ends the use of it; later calls read and write nothing. Call it before the socket's descriptor is closed: while data is
    /// unacknowledged, a duplicate of the descriptor keeps the socket alive until it is.
    pub fn close(&self, _socket: &Socket, _how: Close) {
        unimplemented!()
    }
}

/// What can be read in place. The bytes stay until they are consumed.
pub struct Readable<'a> {
    _connection: &'a Connection,
}

impl Readable<'_> {
    /// Bytes that can be read.
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
    /// The first two contiguous pieces; the second is empty when there is one piece only.
    pub fn slices(&self) -> [&[u8]; 2] {
        unimplemented!()
    }
    /// The contiguous piece at `skip` bytes after the read position; empty at the end.
    pub fn piece(&self, _skip: usize) -> &[u8] {
        unimplemented!()
    }
    /// Gives the first `bytes` back (clamped to what is there).
    pub fn consume(&mut self, _bytes: usize) {
        unimplemented!()
    }
}

/// Memory to write in place.
pub struct Writable<'a> {
    _connection: &'a Connection,
}

impl Writable<'_> {
    /// Bytes that can be written.
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
    /// The first two contiguous pieces; the second is empty when there is one piece only.
    pub fn slices(&mut self) -> [&mut [u8]; 2] {
        unimplemented!()
    }
    /// The contiguous piece at `skip` bytes after the write position; empty at the end.
    pub fn piece(&mut self, _skip: usize) -> &mut [u8] {
        unimplemented!()
    }
    /// Sends the first `bytes` (clamped to [`Self::len`]).
    pub fn commit(self, _bytes: usize) {
        unimplemented!()
    }
}
