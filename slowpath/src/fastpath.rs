// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The fast path comes, goes, and reports.

use crate::{
    applications::context_event,
    config::Config,
    connection::{flag, pending},
    errno::Errno,
    queues::frame_room,
    stack::Stack,
    tcp::state::State,
};
use abi::{
    flow::{hot_flags, owner_context},
    kernel_ring::{to_slow, KernelEntry},
};
use core::sync::atomic::Ordering::Relaxed;

impl Stack<'_> {
    /// A fast path attached, with the configuration it brought: the same number of flows and local
    /// addresses as at `new`, and jumbo frames or not as then; everything else may differ. `pid` is its process. The fast path itself
    /// picks up the flows that are INSTALLED in the cold table; timers run again. True: there are
    /// flows to pick up.
    ///
    /// # Errors
    /// EBUSY: one is attached. EINVAL: number of flows, a local address or the size of frames differ.
    pub fn fast_path_attached(&mut self, now_us: u64, config: &Config, pid: u32) -> Result<bool, Errno> {
        if self.attached {
            return Err(Errno::EBUSY);
        }
        let identity = |config: &Config| (config.flows, config.ipv4, config.ipv6, config.ipv6_link_local);
        // There is room for frames of the MTU that the tables were made for.
        let fits = frame_room(config.mtu_bytes) == self.frame_bytes.each_bytes();
        let same = identity(config) == identity(&self.config) && fits;
        if !same || config.cores == 0 || config.cores > self.queues.len() {
            return Err(Errno::EINVAL);
        }
        let secret = self.config.secret;
        self.config = *config;
        self.config.secret = secret;
        self.clock_us = self.clock_us.max(now_us);
        self.frozen_us = self.clock_us.saturating_sub(self.now_us);
        self.attached = true;
        self.pid = pid;
        self.epoch = self.epoch.wrapping_add(1);
        self.routes.clear();
        let resumed = self.connections_used > 0;
        if resumed {
            self.requeue_commands();
            for flow in 0..self.connections.len() {
                self.resume_flow(flow);
            }
        }
        self.detect_duplicates(!resumed);
        self.notify_contexts(context_event::FASTPATH_BACK, context_event::FASTPATH_GONE);
        Ok(resumed)
    }

    /// Empties the cores' queues of commands: a flow may have another core now, and what is owed is
    /// found again flow by flow.
    fn requeue_commands(&mut self) {
        for core in 0..self.queues.len() {
            let queue = self.queues.at_mut(core);
            queue.blocked = false;
            let mut flow = queue.flow_head;
            queue.flow_head = abi::flow::NONE;
            queue.flow_tail = abi::flow::NONE;
            while self.connections.has(flow) {
                let connection = self.connections.at_mut(flow);
                let next = connection.next;
                connection.set(flag::QUEUED, false);
                if !connection.is(flag::USED) {
                    self.recycle_connection(flow);
                }
                flow = next;
            }
        }
    }

    fn resume_flow(&mut self, flow: u32) {
        let connection = *self.connections.at(flow);
        if !connection.is(flag::USED) {
            return;
        }
        let core = connection.core.checked_rem(self.config.cores).unwrap_or(0);
        self.connections.at_mut(flow).core = core;
        if let Some(cold) = self.cold(flow) {
            cold.core.store(core, Relaxed);
        }
        if !connection.is(flag::INSTALLED) {
            return;
        }
        if connection.is(flag::REMOVING) {
            self.command(flow, pending::REMOVE);
            return;
        }
        let mut owed = connection.pending;
        if connection.is(flag::FIN_ASKED) && !self.view(flow).has(hot_flags::FIN_QUEUED) {
            owed |= pending::FINISH;
        }
        if owed != 0 {
            self.command(flow, owed);
        }
        if connection.is(flag::DRAINING) {
            // The new process counts its own loops.
            self.begin_drain(flow, connection.drain_end);
        }
        // What the old process reported, or did not live to, is found by looking.
        self.start_sampling(flow);
        self.refresh_state(flow);
    }

    /// The fast path is gone: timers freeze, connect answers ENETDOWN, flows stay as they are.
    pub fn fast_path_detached(&mut self, now_us: u64) {
        if !self.attached {
            return;
        }
        self.enter(now_us);
        self.drop_frames();
        self.attached = false;
        self.notify_contexts(context_event::FASTPATH_GONE, context_event::FASTPATH_BACK);
    }

    fn notify_contexts(&mut self, event: u8, opposite: u8) {
        for context in 0..self.contexts.len() {
            if self.is_context(context) {
                self.contexts.at_mut(context).pending &= !opposite;
                self.notify_context(context, event);
            }
        }
    }

    /// An entry from fast-path core `core` that is not a packet. Entries about flows the core does
    /// not own are ignored.
    pub fn handle_report(&mut self, now_us: u64, core: u32, entry: KernelEntry) {
        self.enter(now_us);
        match entry.op {
            to_slow::POOL_EMPTY => return self.pool_empty(entry.value),
            to_slow::FAULT => self.fault(entry.value),
            _ => {}
        }
        let flow = entry.flow;
        if !self.is_installed(flow) || self.connections.at(flow).core != core {
            return;
        }
        match entry.op {
            to_slow::ACTIVE => self.start_sampling(flow),
            to_slow::FIN_RECEIVED | to_slow::FIN_ACKED => self.refresh_state(flow),
            to_slow::REMOVED => self.removed(flow),
            to_slow::PATH_PROBE => self.probe_left(flow, entry.value),
            to_slow::SYN_DATA => self.syn_data_taken(flow),
            to_slow::HANDSHAKE_DONE => self.handshake_done(flow),
            to_slow::DATA_AFTER_CLOSE => self.data_after_close(flow),
            // What an application that is gone announced cannot be found: it will never be sent.
            to_slow::FAULT if self.connections.at(flow).is(flag::ORPHAN) => self.abort(flow),
            _ => {}
        }
    }

    /// Data for a connection nobody reads from: RST (RFC 9293 §3.10.7.4; RFC 2525 §2.17). One that is
    /// dead but still held says so, as often as it may.
    fn data_after_close(&mut self, flow: u32) {
        let connection = self.connections.at(flow);
        if connection.is(flag::ORPHAN) {
            self.abort(flow);
        } else if connection.state == State::Closed && !self.is_removing(flow) && self.may_answer(flow) {
            self.send_reset(flow);
        }
    }

    fn pool_empty(&mut self, application: u64) {
        let id = application.min(u32::MAX as u64) as u32;
        if self.is_application(id) {
            let entry = self.applications.at_mut(id);
            entry.pool_empty = entry.pool_empty.saturating_add(1);
            let context = entry.context_head;
            self.notify_context(context, context_event::POOL_LOW);
        }
    }

    fn fault(&mut self, context: u64) {
        let id = u32::from(owner_context(context as u32));
        if self.is_context(id) {
            let application = self.contexts.at(id).application;
            let entry = self.applications.at_mut(application);
            entry.faults = entry.faults.saturating_add(1);
        }
    }
}
