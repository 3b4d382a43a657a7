// SPDX-License-Identifier: MIT OR Apache-2.0
//! A stream socket: its phase, its pending error, and readiness by the rules of Linux's tcp_poll.

use super::{
    address::Family,
    bell::Bell,
    epoll::Watch,
    errno::{Errno, Result},
    fast_open::Early,
    options::Options,
    table::Token,
};
use crate::lowlevel::{Connection, Socket};
use abi::message::Endpoint;
use std::{collections::VecDeque, os::fd::RawFd, sync::Arc};

const IN: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;
const OUT: u32 = (libc::EPOLLOUT | libc::EPOLLWRNORM) as u32;
const PRI: u32 = libc::EPOLLPRI as u32;
const RDHUP: u32 = libc::EPOLLRDHUP as u32;
const HUP: u32 = libc::EPOLLHUP as u32;
const ERR: u32 = libc::EPOLLERR as u32;

/// A connection taken from the slow path's queue before accept() asked for it.
pub(crate) struct Arrived {
    /// Its name in the engine.
    pub(crate) token: Token,
    /// Its descriptor.
    pub(crate) descriptor: RawFd,
}

/// Where a socket is in its life.
pub(crate) enum Phase {
    /// Neither bound nor connected.
    Fresh,
    /// Bound to the address that is in [`Stream::local`].
    Bound,
    /// Listening. `hint`: the slow path said that connections wait.
    Listening { hint: bool, arrived: VecDeque<Arrived> },
    /// connect() is under way.
    Connecting,
    /// Connected, also after the connection ended. `announced`: connect() has answered 0.
    Connected { connection: Arc<Connection>, announced: bool },
    /// An attempt to connect failed.
    Failed,
}

/// A stream socket.
pub(crate) struct Stream {
    pub(crate) family: Family,
    /// Descriptors of it in this process; the first is the one control calls use.
    pub(crate) descriptors: Vec<RawFd>,
    /// O_NONBLOCK, shared by all descriptors.
    pub(crate) nonblocking: bool,
    pub(crate) phase: Phase,
    pub(crate) socket: Arc<Socket>,
    pub(crate) local: Option<Endpoint>,
    pub(crate) remote: Option<Endpoint>,
    /// What SO_ERROR and the next call report, once.
    pub(crate) error: i32,
    /// The connection was reset or timed out.
    pub(crate) broken: bool,
    /// shutdown(SHUT_RD).
    pub(crate) read_shut: bool,
    /// A write came up short; a WRITABLE event will follow.
    pub(crate) write_blocked: bool,
    /// TCP_CORK is on, or the last call that sent had MSG_MORE. The fast path holds the small segment back, so
    /// that a process that dies does not take it along.
    pub(crate) more: bool,
    /// Data of the SYN that the peer may not have; see [`super::fast_open`].
    pub(crate) early: Option<Box<Early>>,
    pub(crate) options: Options,
    pub(crate) watches: Vec<Watch>,
    pub(crate) waiters: Vec<Arc<Bell>>,
    /// `fork::forks()` when it was made.
    pub(crate) forks: u64,
}

/// What a call on the data of a socket finds.
pub(crate) enum Readable {
    /// Read from the connection.
    Data(Arc<Connection>),
    /// End of stream.
    End,
    /// Nothing yet.
    Wait,
}

impl Stream {
    /// A new one, not yet bound.
    pub(crate) fn new(socket: Arc<Socket>, family: Family, nonblocking: bool) -> Self {
        Self {
            family,
            descriptors: Vec::new(),
            nonblocking,
            phase: Phase::Fresh,
            socket,
            local: None,
            remote: None,
            error: 0,
            broken: false,
            read_shut: false,
            write_blocked: false,
            more: false,
            early: None,
            options: Options::default(),
            watches: Vec::new(),
            waiters: Vec::new(),
            forks: super::fork::forks(),
        }
    }

    /// The connection, if there is or was one.
    #[inline]
    pub(crate) fn connection(&self) -> Option<&Arc<Connection>> {
        match &self.phase {
            Phase::Connected { connection, .. } => Some(connection),
            _ => None,
        }
    }

    /// Takes the pending error.
    pub(crate) fn take_error(&mut self) -> Result<()> {
        match std::mem::take(&mut self.error) {
            0 => Ok(()),
            error => Err(Errno(error)),
        }
    }

    /// TCP_CORK was set or taken off.
    pub(crate) fn cork(&mut self, on: bool) {
        self.more = on;
        if let (Some(connection), false) = (self.connection(), on) {
            connection.release();
        }
    }

    /// What is held back leaves now; what follows is held back as before.
    pub(crate) fn push(&mut self) {
        if let (Some(connection), true) = (self.connection(), self.more) {
            connection.release();
            connection.hold(true);
        }
    }

    /// Before a call that sends, with or without MSG_MORE, on `connection`.
    pub(crate) fn will_send(&mut self, connection: &Connection, more: bool) {
        let more = more || self.options.is_corked();
        if more || self.more {
            connection.hold(more);
        }
        self.more = more;
    }

    /// No more will be received: FIN, shutdown(SHUT_RD), or a reset.
    #[inline]
    pub(crate) fn is_receive_shut(&self, connection: &Connection) -> bool {
        self.read_shut || self.broken || connection.has_peer_finished()
    }

    /// No more may be sent.
    #[inline]
    pub(crate) fn is_send_shut(&self, connection: &Connection) -> bool {
        self.broken || connection.has_finished()
    }

    /// Readiness bits as tcp_poll computes them; of those not in `asked` any may be missing.
    #[inline]
    pub(crate) fn readiness(&self, asked: u32) -> u32 {
        let events = match &self.phase {
            Phase::Connected { connection, .. } if !self.read_shut && !self.broken => {
                match connection.open_readable_bytes() {
                    Some(bytes) => self.open_readiness(connection, bytes, asked),
                    None => self.connected_readiness(connection, asked),
                }
            }
            Phase::Listening { arrived, .. } => u32::from(!arrived.is_empty()) * IN,
            Phase::Fresh | Phase::Bound => OUT | HUP,
            Phase::Connecting if self.is_deferred() => OUT,
            Phase::Connecting => 0,
            Phase::Failed => IN | OUT | RDHUP | HUP,
            Phase::Connected { connection, .. } => self.connected_readiness(connection, asked),
        };
        if self.error != 0 {
            events | ERR
        } else {
            events
        }
    }

    /// Readiness of a connection that nothing has ended in either direction.
    #[inline]
    fn open_readiness(&self, connection: &Connection, readable_bytes: usize, asked: u32) -> u32 {
        let mut events = 0;
        if readable_bytes >= self.options.receive_low_water() {
            events |= IN;
        }
        if asked & OUT != 0 && self.is_writable(connection) {
            events |= OUT;
        }
        events
    }

    fn connected_readiness(&self, connection: &Connection, asked: u32) -> u32 {
        let receive_shut = self.is_receive_shut(connection);
        let send_shut = self.is_send_shut(connection);
        let mut events = 0;
        if receive_shut && send_shut {
            events |= HUP;
        }
        if receive_shut {
            events |= IN | RDHUP;
        } else if connection.waiting_bytes() >= self.options.receive_low_water() {
            events |= IN;
        }
        if connection.has_urgent_byte() {
            events |= PRI;
        }
        if asked & OUT != 0 && (send_shut || self.is_writable(connection)) {
            events |= OUT;
        }
        events
    }

    /// A third of the buffer is free (sk_stream_is_writeable), or no write came up short so far.
    fn is_writable(&self, connection: &Connection) -> bool {
        let free = connection.writable_bytes();
        !self.write_blocked || free.saturating_mul(3) >= connection.info().tx_buffer_bytes as usize
    }

    /// An active open failed, or the connection broke, with `error`.
    pub(crate) fn fail(&mut self, error: i32) {
        let mut error = if error == 0 { libc::ECONNRESET } else { error };
        match &self.phase {
            Phase::Connecting => {
                self.phase = Phase::Failed;
                self.early = None;
            }
            Phase::Connected { connection, .. } if !self.broken => {
                // tcp_reset: a reset after the peer's FIN is EPIPE, before it ECONNRESET.
                if error == libc::ECONNRESET && connection.has_peer_finished() {
                    error = libc::EPIPE;
                }
                self.broken = true;
            }
            _ => return,
        }
        self.error = error;
    }

    /// What a receiving call does, by the rules of tcp_recvmsg: data first, then the error, then
    /// the end of the stream. A call that `has` bytes already leaves the error to the next one.
    pub(crate) fn receive(&mut self, has: bool) -> Result<Readable> {
        if let Phase::Connected { connection, .. } = &self.phase {
            if connection.readable_bytes() > 0 {
                return Ok(Readable::Data(connection.clone()));
            }
        }
        if has && self.error != 0 {
            return Ok(Readable::End);
        }
        self.take_error()?;
        match &self.phase {
            Phase::Connected { connection, .. } if self.is_receive_shut(connection) => Ok(Readable::End),
            Phase::Connected { .. } | Phase::Connecting => Ok(Readable::Wait),
            Phase::Failed => Ok(Readable::End),
            Phase::Fresh | Phase::Bound | Phase::Listening { .. } => Err(Errno(libc::ENOTCONN)),
        }
    }

    /// The connection to write to; None while it is being made. EPIPE is for the caller to raise
    /// SIGPIPE with.
    pub(crate) fn send(&mut self) -> Result<Option<Arc<Connection>>> {
        let shut = match &self.phase {
            Phase::Connected { connection, .. } => self.is_send_shut(connection),
            Phase::Connecting => false,
            _ => true,
        };
        if self.error != 0 || shut {
            self.take_error()?;
            return Err(Errno(libc::EPIPE));
        }
        if self.early.is_some() && !self.flush_early() {
            return Ok(None);
        }
        Ok(self.connection().cloned())
    }

    /// TCP state for TCP_INFO, numbered as `abi::message::tcp_state`.
    pub(crate) fn tcp_state(&self) -> u32 {
        use abi::message::tcp_state::*;
        match &self.phase {
            Phase::Listening { .. } => LISTEN,
            Phase::Connecting => SYN_SENT,
            Phase::Fresh | Phase::Bound | Phase::Failed => CLOSED,
            Phase::Connected { connection, .. } => {
                let ends = (connection.has_finished(), connection.has_peer_finished());
                match (self.broken, ends, connection.is_finish_acknowledged()) {
                    (true, ..) => CLOSED,
                    (_, (false, false), _) => ESTABLISHED,
                    (_, (false, true), _) => CLOSE_WAIT,
                    (_, (true, false), false) => FIN_WAIT1,
                    (_, (true, false), true) => FIN_WAIT2,
                    (_, (true, true), false) => LAST_ACK,
                    (_, (true, true), true) => CLOSED,
                }
            }
        }
    }
}
