// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! socket, bind, listen, connect, accept.

use crate::{
    action::{Caller, Outcome},
    errno::Errno,
    ports::{Use, EPHEMERAL_COUNT, UNPRIVILEGED_FIRST},
    socket::{event, flag, Kind, Socket},
    stack::Stack,
    tcp::state::State,
    wire::address::Address,
};
use abi::{
    flow::NONE,
    message::{Accept, Connect, Endpoint, Message, Name, Socket as SocketBody, AF_INET, AF_INET6},
};

/// Longest accept queue, as Linux's somaxconn.
pub(super) const BACKLOG_MAX: u32 = 4096;

/// The address in an endpoint, which must be of the socket's family.
fn address_for(socket: &Socket, endpoint: &Endpoint) -> Result<Address, Errno> {
    let family = if socket.is(flag::V6) { AF_INET6 } else { AF_INET };
    if endpoint.family == family {
        Address::of(endpoint).ok_or(Errno::EAFNOSUPPORT)
    } else {
        Err(Errno::EAFNOSUPPORT)
    }
}

impl Stack<'_> {
    /// Takes a socket slot for an application.
    fn new_socket(&mut self, application: u32, context: u32, opaque: u64) -> Result<u32, Errno> {
        let id = self.socket_free;
        if !self.sockets.has(id) {
            self.counters.add(crate::counters::Counter::Exhausted);
            return Err(Errno::ENOBUFS);
        }
        let Socket { app_next, generation, .. } = *self.sockets.at(id);
        self.socket_free = app_next;
        *self.sockets.at_mut(id) = Socket {
            kind: Kind::Idle,
            application,
            context,
            opaque,
            generation: generation.wrapping_add(1),
            ..Socket::EMPTY
        };
        self.link_socket(application, id);
        Ok(id)
    }

    /// SOCKET.
    pub(super) fn request_socket(
        &mut self,
        caller: &Caller,
        message: &mut Message,
    ) -> Result<Outcome, Errno> {
        let mut body: SocketBody = message.get();
        let application = caller.application;
        if !self.is_application(application) || self.applications.at(application).dead {
            return Err(Errno::EPERM);
        }
        let v6 = match u16::try_from(body.family) {
            Ok(AF_INET) => false,
            Ok(AF_INET6) => true,
            _ => return Err(Errno::EAFNOSUPPORT),
        };
        let context = self.context_of(application, body.context)?;
        let socket = self.new_socket(application, context, body.opaque)?;
        self.sockets.at_mut(socket).set(flag::V6, v6);
        body.socket = socket;
        body.descriptor = 0;
        body.reserved = 0;
        message.set(&body);
        Ok(Outcome::NewSocket { socket })
    }

    /// How a socket counts at its port.
    pub(crate) fn socket_use(socket: &Socket) -> Use {
        Use {
            reuse_address: socket.is(flag::REUSE_ADDRESS),
            reuse_port: socket.is(flag::REUSE_PORT),
            ephemeral: false,
        }
    }

    /// BIND.
    pub(super) fn request_bind(
        &mut self,
        caller: &Caller,
        id: u32,
        message: &mut Message,
    ) -> Result<(), Errno> {
        let mut body: Name = message.get();
        let socket = *self.sockets.at(id);
        let address = address_for(&socket, &body.endpoint)?;
        let port = body.endpoint.port;
        if socket.is(flag::V6ONLY) && address.is_v4() {
            return Err(Errno::EINVAL);
        }
        if !address.is_unspecified() && !self.config.is_local(&address) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if port != 0 && port < UNPRIVILEGED_FIRST && !caller.net_bind_service {
            return Err(Errno::EACCES);
        }
        if socket.kind != Kind::Idle || socket.is(flag::BOUND) {
            return Err(Errno::EINVAL);
        }
        let port = self.bind(id, address, port)?;
        self.sockets.at_mut(id).scope = body.endpoint.scope;
        body = Name::default();
        body.endpoint = self.sockets.at(id).endpoint(&address, port);
        message.set(&body);
        Ok(())
    }

    /// Binds a socket to an address and a port, or to any free one for zero.
    fn bind(&mut self, id: u32, local: Address, port: u16) -> Result<u16, Errno> {
        let socket = Socket { local, ..*self.sockets.at(id) };
        let places = socket.places();
        let how = Self::socket_use(&socket);
        let uid = self.applications.at(socket.application).uid;
        let port = match port {
            0 => {
                let start = self.random.below(EPHEMERAL_COUNT);
                self.ports.unused(start, places).ok_or(Errno::EADDRINUSE)?
            }
            port => {
                self.ports.may_bind(port, places, how, uid)?;
                port
            }
        };
        self.ports.add(port, places, how, uid);
        let socket = self.sockets.at_mut(id);
        socket.local = local;
        socket.port = port;
        socket.set(flag::BOUND, true);
        Ok(port)
    }

    /// LISTEN. An unbound socket gets a free port; a listening one a new backlog.
    pub(super) fn request_listen(&mut self, id: u32, message: &mut Message) -> Result<(), Errno> {
        let socket = *self.sockets.at(id);
        // Linux takes the argument as unsigned: a negative backlog is the largest.
        let backlog = message.flags.min(BACKLOG_MAX);
        match socket.kind {
            Kind::Listening => {}
            Kind::Idle => {
                let any = socket.local;
                let port = if socket.is(flag::BOUND) { socket.port } else { self.bind(id, any, 0)? };
                let places = socket.places();
                self.ports.may_listen(port, places, Self::socket_use(&socket))?;
                self.ports.add_listener(port, places);
                let next = self.ports.set_first_listener(port, id);
                let socket = self.sockets.at_mut(id);
                socket.listener_next = next;
                socket.kind = Kind::Listening;
                socket.flow = NONE;
                self.listeners = self.listeners.saturating_add(1);
            }
            _ => return Err(Errno::EINVAL),
        }
        self.sockets.at_mut(id).backlog = backlog;
        Ok(())
    }

    /// CONNECT.
    pub(super) fn request_connect(&mut self, id: u32, message: &mut Message) -> Result<Outcome, Errno> {
        let body: Connect = message.get();
        let socket = *self.sockets.at(id);
        let address = address_for(&socket, &body.remote)?;
        match socket.kind {
            Kind::Idle => {}
            Kind::Connecting => return Err(Errno::EALREADY),
            _ => return Err(Errno::EISCONN),
        }
        let context = self.context_of(socket.application, body.context)?;
        let entry = self.sockets.at_mut(id);
        entry.context = context;
        if body.remote.scope != 0 {
            entry.scope = body.remote.scope;
        }
        if message.flags != 0 {
            return self.connect_fast(id, address, &body, message);
        }
        self.begin_connect(id, address, body.remote.port, false)?;
        Err(Errno::EINPROGRESS)
    }

    /// ACCEPT.
    pub(super) fn request_accept(&mut self, id: u32, message: &mut Message) -> Result<Outcome, Errno> {
        let body: Accept = message.get();
        let listener = *self.sockets.at(id);
        if listener.kind != Kind::Listening {
            return Err(Errno::EINVAL);
        }
        let context = self.context_of(listener.application, body.context)?;
        if listener.accept_count == 0 {
            return Err(Errno::EAGAIN);
        }
        let socket = self.new_socket(listener.application, context, body.opaque)?;
        let Some(flow) = self.take_accepted(id) else {
            self.close_socket(socket);
            return Err(Errno::EAGAIN);
        };
        let connection = self.connections.at_mut(flow);
        connection.socket = socket;
        connection.context = context;
        let (error, state) = (connection.soft_error, connection.state);
        let (port, local) = (connection.local_port(), connection.tuple.local);
        let entry = self.sockets.at_mut(socket);
        entry.kind = Kind::Connected;
        entry.flow = flow;
        entry.flags = listener.flags & !(flag::BOUND | flag::QUEUED);
        entry.port = port;
        entry.local = local;
        entry.scope = listener.scope;
        entry.linger_s = listener.linger_s;
        entry.user_timeout_ms = listener.user_timeout_ms;
        entry.syn_retries = listener.syn_retries;
        entry.max_segment = listener.max_segment;
        entry.service = listener.service;
        entry.keepalive = listener.keepalive;
        entry.rcv_buffer_bytes = listener.rcv_buffer_bytes;
        entry.congestion = listener.congestion;
        if state == State::Closed {
            // It was reset while it waited: the new socket says so, as on Linux.
            entry.error = error;
            self.notify(socket, event::FAILED);
        }
        self.update_flow(flow);
        if self.sockets.at(id).accept_count > 0 {
            self.notify(id, event::ACCEPTABLE);
        }
        self.write_flow_info(socket, message);
        Ok(Outcome::NewSocket { socket })
    }
}
