// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What `tasctl` asks: status, flows, listeners, applications, counters, and the reset of a flow.

use crate::{
    action::{Caller, Outcome},
    connection::flag as fact,
    errno::Errno,
    socket::Kind,
    stack::Stack,
};
use abi::message::{tcp_state, ApplicationEntry, FlowEntry, Message, SlowCounters, Status};
use core::sync::atomic::Ordering::Relaxed;

impl Stack<'_> {
    /// STATUS.
    pub(super) fn request_status(&self, message: &mut Message) -> Result<Outcome, Errno> {
        message.set(&Status {
            instance: self.config.instance,
            fastpath: u32::from(self.attached),
            cores: self.config.cores,
            flows: self.config.flows,
            flows_used: self.connections_used,
            applications: self.application_count,
            contexts: self.context_count,
            listeners: self.listeners,
            time_wait: self.time_wait_used,
            half_open: self.half_open_used,
            ipv4: self.config.ipv4,
            prefix: self.config.prefix,
            mtu_bytes: self.config.mtu_bytes,
            mac: self.config.mac,
            fastpath_pid: self.pid,
            epoch: self.epoch,
            ipv6: self.config.ipv6,
            ipv6_link_local: self.config.ipv6_link_local,
            ipv6_prefix: self.config.ipv6_prefix,
            ..Status::default()
        });
        Ok(Outcome::Done)
    }

    /// FLOW_ENTRY.
    pub(super) fn request_flow_entry(&self, message: &mut Message) -> Result<Outcome, Errno> {
        let flow = (message.object..self.connections.len())
            .find(|flow| self.connections.at(*flow).is(fact::USED))
            .ok_or(Errno::ENOENT)?;
        message.set(&self.flow_entry(flow));
        Ok(Outcome::Done)
    }

    fn flow_entry(&self, flow: u32) -> FlowEntry {
        let connection = self.connections.at(flow);
        let application = self.applications.at(connection.application);
        let mut entry = FlowEntry {
            local: connection.tuple.local.endpoint(connection.local_port()),
            remote: connection.tuple.remote.endpoint(connection.remote_port()),
            id: flow,
            tcp_state: self.shown_state(flow).number(),
            pid: if connection.is(fact::ORPHAN) { 0 } else { application.pid },
            core: connection.core,
            command: application.command,
            srtt_us: connection.srtt_us,
            timeouts: connection.timeouts,
            mss_bytes: connection.mss_bytes as u32,
            options: self.options_of(flow),
            congestion: connection.controller.algorithm(),
            uid: application.uid,
            ..FlowEntry::default()
        };
        if let (true, Some(hot), Some(cold)) =
            (connection.is(fact::INSTALLED), self.hot(flow), self.cold(flow))
        {
            let view = self.view(flow);
            let clip = |value: u64| value.min(u32::MAX as u64) as u32;
            let [low, high] = &cold.rcv_start;
            let start = (high.load(Relaxed) as u64) << 32 | low.load(Relaxed) as u64;
            entry.receive_queue = clip(view.rcv_nxt.saturating_sub(view.rcv_read));
            entry.send_queue = clip(view.snd_end.saturating_sub(view.snd_una));
            entry.rx_bytes = view.rcv_nxt.saturating_sub(start);
            let [low, high] = &cold.snd_start;
            let start = (high.load(Relaxed) as u64) << 32 | low.load(Relaxed) as u64;
            entry.tx_bytes = view.snd_una.saturating_sub(start);
            entry.rate_kbps = cold.rate_kbps.load(Relaxed);
            entry.cwnd_bytes = cold.cwnd_bytes.load(Relaxed);
            entry.snd_wnd_bytes = view.snd_wnd;
            entry.fast_retransmits = hot.loss_counts.load(Relaxed) & 0xffff;
            entry.ecn_bytes = hot.ecn_bytes.load(Relaxed);
        }
        entry
    }

    fn options_of(&self, flow: u32) -> u32 {
        let connection = self.connections.at(flow);
        [fact::TIMESTAMPS, fact::WINDOW_SCALE, fact::SACK, fact::ECN]
            .into_iter()
            .zip([1u32, 2, 4, 8])
            .filter(|(fact, _)| connection.is(*fact))
            .fold(0, |bits, (_, bit)| bits | bit)
    }

    /// LISTEN_ENTRY.
    pub(super) fn request_listen_entry(&self, message: &mut Message) -> Result<Outcome, Errno> {
        let id = (message.object..self.sockets.len())
            .find(|id| self.sockets.at(*id).kind == Kind::Listening)
            .ok_or(Errno::ENOENT)?;
        let socket = self.sockets.at(id);
        let application = self.applications.at(socket.application);
        message.set(&FlowEntry {
            local: socket.endpoint(&socket.local, socket.port),
            id,
            tcp_state: tcp_state::LISTEN,
            pid: application.pid,
            command: application.command,
            receive_queue: socket.accept_count,
            send_queue: socket.backlog,
            uid: application.uid,
            ..FlowEntry::default()
        });
        Ok(Outcome::Done)
    }

    /// APPLICATION_ENTRY. `pool_segments` is the shell's to fill in.
    pub(super) fn request_application_entry(&self, message: &mut Message) -> Result<Outcome, Errno> {
        let id = (message.object..self.applications.len())
            .find(|id| self.applications.at(*id).used)
            .ok_or(Errno::ENOENT)?;
        let application = self.applications.at(id);
        message.set(&ApplicationEntry {
            id,
            pid: application.pid,
            uid: application.uid,
            contexts: application.contexts,
            flows: application.flows,
            sockets: application.sockets,
            map_segments: application.segments,
            faults: application.faults,
            pool_empty: application.pool_empty,
            command: application.command,
            ..ApplicationEntry::default()
        });
        Ok(Outcome::Done)
    }

    /// RESET_FLOW: as if the peer had reset it, and RST to the peer.
    pub(super) fn request_reset(&mut self, caller: &Caller, message: &mut Message) -> Result<Outcome, Errno> {
        if !caller.net_admin {
            return Err(Errno::EPERM);
        }
        let flow = message.object;
        if !self.connections.has(flow) || !self.connections.at(flow).is(fact::USED) {
            return Err(Errno::ENOENT);
        }
        if !self.is_installed(flow) {
            self.fail_handshake(flow, Errno::ECONNABORTED);
            return Ok(Outcome::Done);
        }
        // What was received stays readable until the socket is released; a second RST, with the
        // final numbers, goes out then.
        self.send_reset(flow);
        self.connections.at_mut(flow).set(fact::RESET_AT_REMOVED, true);
        self.fail_connection(flow, Errno::ECONNABORTED);
        Ok(Outcome::Done)
    }

    /// SLOW_COUNTERS: a page of them, from number `object` on.
    pub(super) fn request_counters(&self, message: &mut Message) -> Result<Outcome, Errno> {
        let values = self.counters.page(message.object);
        message.set(&SlowCounters { values });
        Ok(Outcome::Done)
    }
}
