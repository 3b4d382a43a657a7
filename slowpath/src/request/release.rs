// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! shutdown, close, move.

use crate::{
    connection::flag as fact,
    errno::Errno,
    socket::{flag, Kind, Socket},
    stack::Stack,
    tcp::state::State,
};
use abi::{
    flow::NONE,
    message::{Message, Shutdown},
};

impl Stack<'_> {
    /// The last holder of a socket's descriptor is gone: this is close().
    pub fn release_socket(&mut self, now_us: u64, socket: u32) {
        self.enter(now_us);
        if self.is_socket(socket) {
            self.close_socket(socket);
        }
    }

    /// Closes a socket in use.
    pub(crate) fn close_socket(&mut self, id: u32) {
        let socket = *self.sockets.at(id);
        match socket.kind {
            Kind::Free => return,
            Kind::Idle => {}
            Kind::Listening => self.stop_listening(id),
            Kind::Connecting => self.free_connection(socket.flow),
            Kind::Connected if self.connections.has(socket.flow) => {
                let reset = socket.is(flag::LINGER) && socket.linger_s == 0;
                self.orphan(socket.flow, reset);
            }
            Kind::Connected => {}
        }
        if socket.is(flag::BOUND) {
            self.ports.remove(socket.port, socket.places(), Self::socket_use(&socket));
        }
        self.free_syn_data(id);
        self.unlink_socket(id);
        let queued = socket.is(flag::QUEUED);
        let entry = self.sockets.at_mut(id);
        entry.kind = Kind::Free;
        entry.pending = 0;
        entry.flow = NONE;
        entry.application = NONE;
        if !queued {
            self.recycle_socket(id);
        }
    }

    /// Links a slot that is in no list into the free list.
    pub(crate) fn recycle_socket(&mut self, id: u32) {
        self.sockets.at_mut(id).app_next = self.socket_free;
        self.socket_free = id;
    }

    /// The socket listens no more: what waits to be accepted is reset, as on Linux; half-open
    /// connections are forgotten when they next stir.
    fn stop_listening(&mut self, id: u32) {
        while let Some(flow) = self.take_accepted(id) {
            self.abort(flow);
        }
        let Socket { port, listener_next, .. } = *self.sockets.at(id);
        self.ports.remove_listener(port, self.sockets.at(id).places());
        let mut at = self.ports.first_listener(port);
        if at == id {
            self.ports.set_first_listener(port, listener_next);
        }
        while self.sockets.has(at) {
            let socket = self.sockets.at_mut(at);
            if socket.listener_next == id {
                socket.listener_next = listener_next;
                break;
            }
            at = socket.listener_next;
        }
        self.listeners = self.listeners.saturating_sub(1);
        let socket = self.sockets.at_mut(id);
        socket.listener_next = NONE;
        socket.half_open = 0;
        socket.fast_open_pending = 0;
        // Half-open connections compare it.
        socket.generation = socket.generation.wrapping_add(1);
    }

    /// SHUTDOWN.
    pub(super) fn request_shutdown(&mut self, id: u32, message: &mut Message) -> Result<(), Errno> {
        let body: Shutdown = message.get();
        let (read, write) = match message.flags {
            0 => (true, false),
            1 => (false, true),
            2 => (true, true),
            _ => return Err(Errno::EINVAL),
        };
        let socket = *self.sockets.at(id);
        match socket.kind {
            Kind::Listening if read => {
                self.stop_listening(id);
                self.sockets.at_mut(id).kind = Kind::Idle;
                Ok(())
            }
            Kind::Listening => Ok(()),
            Kind::Connecting => {
                // As Linux: the attempt is over, the socket may be used again.
                self.free_connection(socket.flow);
                let socket = self.sockets.at_mut(id);
                socket.kind = Kind::Idle;
                socket.flow = NONE;
                Ok(())
            }
            Kind::Connected if self.connections.has(socket.flow) => {
                self.shut_down(socket.flow, write, body.tx_end)
            }
            _ => Err(Errno::ENOTCONN),
        }
    }

    fn shut_down(&mut self, flow: u32, write: bool, end: u64) -> Result<(), Errno> {
        let connection = *self.connections.at(flow);
        if connection.state == State::Closed {
            return Err(Errno::ENOTCONN);
        }
        let asked = connection.is(fact::FIN_ASKED) || connection.is(fact::DRAINING);
        if write && !asked {
            self.begin_drain(flow, end);
        }
        Ok(())
    }

    /// MOVE.
    pub(super) fn request_move(&mut self, id: u32, message: &mut Message) -> Result<(), Errno> {
        let socket = *self.sockets.at(id);
        let context = self.context_of(socket.application, message.flags)?;
        self.sockets.at_mut(id).context = context;
        self.set_flow_context(socket.flow, context);
        if self.connections.has(socket.flow) {
            self.notify(id, crate::socket::event::MOVED);
        }
        // What was owed to nobody goes to the new context.
        self.queue_socket_event(id);
        Ok(())
    }
}
