// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What a socket's own descriptor is ready for, for shells whose descriptors can be polled.

use crate::{
    connection::flag as fact,
    socket::{Kind, Socket},
    stack::Stack,
};
use abi::flow::hot_flags;

/// As Linux's `poll()` says it of a TCP socket. Computed from the flow's state at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// POLLIN: a connection to accept, data, the end of the stream, or an error.
    pub readable: bool,
    /// POLLOUT: room for data, or a write that would fail at once.
    pub writable: bool,
    /// POLLERR: SO_ERROR has something to say.
    pub error: bool,
    /// POLLRDHUP: the peer sends no more.
    pub read_hang_up: bool,
    /// POLLHUP: both directions are over, or there never was a connection.
    pub hang_up: bool,
}

impl Readiness {
    /// No connection, or none any more.
    const OVER: Self =
        Self { readable: true, writable: true, error: false, read_hang_up: true, hang_up: true };
}

impl Stack<'_> {
    /// Readiness of `socket`; one that is not in use is over.
    pub fn readiness(&self, socket: u32) -> Readiness {
        if !self.is_socket(socket) {
            return Readiness::OVER;
        }
        let socket = self.sockets.at(socket);
        let error = socket.error != 0;
        match socket.kind {
            Kind::Listening => Readiness { readable: socket.accept_count > 0, error, ..Readiness::default() },
            Kind::Connecting => Readiness { error, ..Readiness::default() },
            Kind::Connected => Readiness { error, ..self.connected_readiness(socket) },
            // A failed attempt was a connection; a fresh socket was none, and Linux tells them apart.
            Kind::Idle if error => Readiness { error, ..Readiness::OVER },
            Kind::Idle => Readiness { writable: true, hang_up: true, ..Readiness::default() },
            Kind::Free => Readiness::OVER,
        }
    }

    fn connected_readiness(&self, socket: &Socket) -> Readiness {
        if !self.is_installed(socket.flow) {
            return Readiness::OVER;
        }
        let connection = self.connections.at(socket.flow);
        let view = self.view(socket.flow);
        let asked = connection.is(fact::FIN_ASKED) || connection.is(fact::DRAINING);
        let ended = view.flags & hot_flags::FIN_RECEIVED != 0;
        // The FIN itself takes a position.
        let unread = view.rcv_nxt.wrapping_sub(view.rcv_read).wrapping_sub(ended as u64);
        let unacknowledged = view.snd_end.wrapping_sub(view.snd_una);
        Readiness {
            readable: ended || unread > 0,
            writable: asked || unacknowledged < self.config.tx_buffer_bytes as u64,
            error: false,
            read_hang_up: ended,
            hang_up: ended && asked,
        }
    }
}
