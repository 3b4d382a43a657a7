// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Flow slots: taking one, describing it in the cold table, giving it back.

use crate::{
    connection::{flag, pending, Connection},
    counters::Counter,
    errno::Errno,
    lookup::{Found, Tuple},
    ports::{Places, Use},
    stack::Stack,
    tcp::state::State,
    timers::Timer,
};
use abi::{
    flow::{control_flags, owner, slot_state, ColdFlow, HotFlow, CONTEXT_NONE, NONE},
    message::congestion,
};
use core::sync::atomic::Ordering::Relaxed;

/// The hot entry at one moment. The fast path writes it; nothing in it is trusted to be consistent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct View {
    pub(crate) flags: u32,
    pub(crate) rcv_nxt: u64,
    pub(crate) rcv_read: u64,
    pub(crate) snd_una: u64,
    pub(crate) snd_nxt: u64,
    pub(crate) snd_end: u64,
    pub(crate) snd_max: u64,
    pub(crate) snd_wnd: u32,
    pub(crate) rcv_adv: u32,
    pub(crate) ts_recent: u32,
    pub(crate) cwnd_bytes: u32,
}

impl View {
    /// Whether any of `flags` ([`abi::flow::hot_flags`]) is set.
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }
}

impl Stack<'_> {
    pub(crate) fn hot(&self, flow: u32) -> Option<&HotFlow> {
        self.hot.get(flow as usize)
    }

    pub(crate) fn cold(&self, flow: u32) -> Option<&ColdFlow> {
        self.cold.get(flow as usize)
    }

    /// The hot entry now.
    pub(crate) fn view(&self, flow: u32) -> View {
        let Some(hot) = self.hot(flow) else {
            return View::default();
        };
        View {
            flags: hot.flags.load(Relaxed),
            rcv_nxt: hot.rcv_nxt.load(Relaxed),
            rcv_read: hot.rcv_read.load(Relaxed),
            snd_una: hot.snd_una.load(Relaxed),
            snd_nxt: hot.snd_nxt.load(Relaxed),
            snd_end: hot.snd_end.load(Relaxed),
            snd_max: hot.snd_max.load(Relaxed),
            snd_wnd: hot.snd_wnd.load(Relaxed),
            rcv_adv: hot.rcv_adv.load(Relaxed),
            ts_recent: hot.ts_recent.load(Relaxed),
            cwnd_bytes: hot.cwnd_bytes.load(Relaxed),
        }
    }

    /// Whether `flow` is a flow in use that the fast path knows (or is to forget).
    pub(crate) fn is_installed(&self, flow: u32) -> bool {
        self.connections.has(flow)
            && self.connections.at(flow).is(flag::USED)
            && self.connections.at(flow).is(flag::INSTALLED)
    }

    /// Takes a flow slot with a buffer record and enters its tuple.
    ///
    /// # Errors
    /// ENOBUFS: no slot, no record.
    pub(crate) fn new_connection(&mut self, application: u32, tuple: Tuple) -> Result<u32, Errno> {
        let flow = self.connection_free;
        if !self.connections.has(flow) {
            self.counters.add(Counter::Exhausted);
            return Err(Errno::ENOBUFS);
        }
        let record = self.take_record(application).ok_or(Errno::ENOBUFS)?;
        let Connection { generation, next, .. } = *self.connections.at(flow);
        self.connection_free = next;
        let connection = self.connections.at_mut(flow);
        *connection = Connection::EMPTY;
        connection.flags = flag::USED;
        connection.generation = generation.wrapping_add(1);
        connection.application = application;
        connection.record = record;
        connection.tuple = tuple;
        self.connections_used = self.connections_used.saturating_add(1);
        let owner = self.applications.at_mut(application);
        owner.flows = owner.flows.saturating_add(1);
        self.lookup.insert(Found::Connection(flow), tuple);
        self.describe(flow, slot_state::RESERVED);
        Ok(flow)
    }

    /// Counts the connection at its local port.
    pub(crate) fn count_port(&mut self, flow: u32, how: Use) {
        let connection = self.connections.at_mut(flow);
        connection.set(flag::PORT_COUNTED, true);
        connection.set(flag::PORT_EXCLUSIVE, !how.reuse_address);
        connection.set(flag::PORT_UNSHARED, !how.reuse_port);
        connection.set(flag::PORT_EPHEMERAL, how.ephemeral);
        let (port, places) = (connection.local_port(), Places::of(&connection.tuple.local));
        let uid = self.applications.at(connection.application).uid;
        self.ports.add(port, places, how, uid);
    }

    /// How the connection counts at its port.
    pub(crate) fn port_use(&self, flow: u32) -> Use {
        let connection = self.connections.at(flow);
        Use {
            reuse_address: !connection.is(flag::PORT_EXCLUSIVE),
            reuse_port: !connection.is(flag::PORT_UNSHARED),
            ephemeral: connection.is(flag::PORT_EPHEMERAL),
        }
    }

    /// Gives a flow slot back that no core refers to.
    pub(crate) fn free_connection(&mut self, flow: u32) {
        if !self.connections.has(flow) || !self.connections.at(flow).is(flag::USED) {
            return;
        }
        self.stop_timers(flow);
        self.free_half_open(self.connections.at(flow).handshake);
        self.drop_syn_data(flow);
        self.leave_neighbor(Found::Connection(flow));
        if self.connections.at(flow).is(flag::USES_NEIGHBOR) {
            self.release_neighbor(self.connections.at(flow).neighbor);
        }
        self.lookup.remove(Found::Connection(flow));
        let how = self.port_use(flow);
        let connection = *self.connections.at(flow);
        if connection.is(flag::PORT_COUNTED) {
            self.ports.remove(connection.local_port(), Places::of(&connection.tuple.local), how);
        }
        if connection.is(flag::ORPHAN) {
            self.orphans = self.orphans.saturating_sub(1);
        }
        if connection.is(flag::SAMPLED) {
            self.sampled = self.sampled.saturating_sub(1);
        }
        if self.sockets.has(connection.socket) && self.sockets.at(connection.socket).flow == flow {
            self.sockets.at_mut(connection.socket).flow = NONE;
        }
        self.give_record(connection.application, connection.record);
        if let Some(cold) = self.cold(flow) {
            cold.state.store(slot_state::FREE, Relaxed);
        }
        let entry = self.connections.at_mut(flow);
        entry.flags &= flag::QUEUED;
        entry.pending = 0;
        entry.state = State::Closed;
        if !connection.is(flag::QUEUED) {
            self.recycle_connection(flow);
        }
        self.connections_used = self.connections_used.saturating_sub(1);
        let owner = self.applications.at_mut(connection.application);
        owner.flows = owner.flows.saturating_sub(1);
        if owner.flows == 0 {
            self.list_dead(connection.application);
        }
    }

    /// Links a slot that is in no queue into the free list.
    pub(crate) fn recycle_connection(&mut self, flow: u32) {
        self.connections.at_mut(flow).next = self.connection_free;
        self.connection_free = flow;
    }

    pub(crate) fn stop_timers(&mut self, flow: u32) {
        self.cancel_timer(Timer::Sample(flow));
        self.cancel_timer(Timer::Lifecycle(flow));
    }

    /// Writes the cold entry from the connection.
    pub(crate) fn describe(&self, flow: u32, slot: u32) {
        let Some(cold) = self.cold(flow) else { return };
        let connection = self.connections.at(flow);
        let Tuple { local, remote, ports } = connection.tuple;
        for (shared, word) in cold.local_address.iter().zip(local.as_cold()) {
            shared.store(word, Relaxed);
        }
        for (shared, word) in cold.remote_address.iter().zip(remote.as_cold()) {
            shared.store(word, Relaxed);
        }
        cold.ports.store(ports, Relaxed);
        cold.ip_version.store(if local.is_v4() { 4 } else { 6 }, Relaxed);
        cold.core.store(connection.core, Relaxed);
        cold.owner.store(self.owner_word(flow), Relaxed);
        cold.adjacency.store(connection.neighbor, Relaxed);
        cold.buffers.store(connection.record, Relaxed);
        cold.generation.store(connection.generation, Relaxed);
        cold.socket.store(connection.socket, Relaxed);
        cold.tcp_state.store(self.shown_state(flow).number(), Relaxed);
        cold.timestamp_offset.store(connection.ts_offset, Relaxed);
        cold.srtt_us.store(connection.srtt_us, Relaxed);
        cold.timeouts.store(connection.timeouts, Relaxed);
        cold.rcv_buffer_bytes.store(connection.rcv_buffer_bytes, Relaxed);
        cold.mss_bytes.store(connection.mss_bytes as u32, Relaxed);
        cold.control.store(self.control_word(flow), Relaxed);
        cold.service.store(connection.service.word(), Relaxed);
        cold.state.store(slot, Relaxed);
    }

    /// Application and context, as the fast path reads them.
    pub(crate) fn owner_word(&self, flow: u32) -> u32 {
        let connection = self.connections.at(flow);
        let context = if connection.context == NONE { CONTEXT_NONE } else { connection.context as u16 };
        owner(connection.application as u16, context)
    }

    fn control_word(&self, flow: u32) -> u32 {
        let connection = self.connections.at(flow);
        let deaf = connection.is(flag::ORPHAN) || connection.state == State::Closed;
        let closed = if deaf { control_flags::RECEIVE_CLOSED } else { 0 };
        let detached = if connection.state == State::Closed { control_flags::DETACHED } else { 0 };
        let nodelay = if connection.is(flag::NODELAY) { control_flags::NODELAY } else { 0 };
        let dctcp = connection.controller.algorithm() == congestion::DCTCP_RATE;
        closed | detached | nodelay | if dctcp { 0 } else { control_flags::ECHO_UNTIL_CWR }
    }

    /// Rewrites what may change in the cold entry, and tells the core.
    pub(crate) fn update_flow(&mut self, flow: u32) {
        if !self.is_installed(flow) {
            return;
        }
        if let Some(cold) = self.cold(flow) {
            let connection = self.connections.at(flow);
            cold.owner.store(self.owner_word(flow), Relaxed);
            cold.control.store(self.control_word(flow), Relaxed);
            cold.socket.store(connection.socket, Relaxed);
            cold.rcv_buffer_bytes.store(connection.rcv_buffer_bytes, Relaxed);
            cold.service.store(connection.service.word(), Relaxed);
        }
        if !self.is_removing(flow) {
            self.command(flow, pending::UPDATE);
        }
    }

    /// Whether REMOVE was, or is to be, sent.
    pub(crate) fn is_removing(&self, flow: u32) -> bool {
        self.connections.at(flow).is(flag::REMOVING)
    }

    /// Sets the TCP state, also where `tasctl` reads it.
    pub(crate) fn set_state(&mut self, flow: u32, state: State) {
        self.connections.at_mut(flow).state = state;
        if let Some(cold) = self.cold(flow) {
            cold.tcp_state.store(self.shown_state(flow).number(), Relaxed);
        }
    }

    /// Gives a flow's events to another context of its application.
    pub(crate) fn set_flow_context(&mut self, flow: u32, context: u32) {
        if self.connections.has(flow) && self.connections.at(flow).is(flag::USED) {
            self.connections.at_mut(flow).context = context;
            self.update_flow(flow);
        }
    }
}
