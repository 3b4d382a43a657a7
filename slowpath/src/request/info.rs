// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! FLOW_INFO and NAMES.

use crate::{
    connection::flag as fact,
    errno::Errno,
    socket::{flag, Kind},
    stack::Stack,
};
use abi::message::{tcp_state, FlowInfo, Message, Names};
use core::sync::atomic::Ordering::Relaxed;

impl Stack<'_> {
    /// FLOW_INFO.
    pub(super) fn request_flow_info(&mut self, id: u32, message: &mut Message) -> Result<(), Errno> {
        let socket = self.sockets.at(id);
        let connected = socket.kind == Kind::Connected && self.is_installed(socket.flow);
        if !connected {
            return Err(Errno::ENOTCONN);
        }
        self.write_flow_info(id, message);
        Ok(())
    }

    /// Answers with what a library needs to use a flow.
    pub(super) fn write_flow_info(&self, id: u32, message: &mut Message) {
        let socket = self.sockets.at(id);
        let flow = socket.flow;
        let connection = self.connections.at(flow);
        let mut body = FlowInfo {
            local: socket.endpoint(&connection.tuple.local, connection.local_port()),
            remote: socket.endpoint(&connection.tuple.remote, connection.remote_port()),
            flow,
            generation: connection.generation,
            core: connection.core,
            buffers: connection.record,
            socket: id,
            mss_bytes: connection.mss_bytes as u32,
            tx_buffer_bytes: self.config.tx_buffer_bytes,
            rx_buffer_bytes: connection.rcv_buffer_bytes,
            tcp_state: self.shown_state(flow).number(),
            srtt_us: connection.srtt_us,
            syn_data_bytes: connection.syn_data_bytes as u32,
            context: socket.context,
            options: connection.negotiated(),
            ..FlowInfo::default()
        };
        if let Some(cold) = self.cold(flow) {
            let join = |[low, high]: &[core::sync::atomic::AtomicU32; 2]| {
                (high.load(Relaxed) as u64) << 32 | low.load(Relaxed) as u64
            };
            body.rx_start = join(&cold.rcv_start);
            body.tx_start = join(&cold.snd_start);
        }
        message.set(&body);
    }

    /// NAMES.
    pub(super) fn request_names(&self, id: u32, message: &mut Message) {
        let socket = self.sockets.at(id);
        let mut body = Names::default();
        let flow = socket.flow;
        if self.connections.has(flow) && self.connections.at(flow).is(fact::USED) {
            let connection = self.connections.at(flow);
            body.local = socket.endpoint(&connection.tuple.local, connection.local_port());
            // Linux's getpeername: ENOTCONN while connecting.
            if socket.kind == Kind::Connected {
                body.remote = socket.endpoint(&connection.tuple.remote, connection.remote_port());
            }
            body.tcp_state = self.shown_state(flow).number();
        } else {
            let port = if socket.is(flag::BOUND) { socket.port } else { 0 };
            body.local = socket.endpoint(&socket.local, port);
            body.tcp_state = match socket.kind {
                Kind::Listening => tcp_state::LISTEN,
                Kind::Connected => tcp_state::CLOSED,
                _ if socket.is(flag::BOUND) => tcp_state::CLOSED,
                _ => 0,
            };
        }
        message.set(&body);
    }
}
