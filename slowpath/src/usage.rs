// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What is in use, and the state of a four-tuple: for tests that look for leaks and count what they
//! reached. Nothing here is on a path that a request or a packet takes.

use crate::{
    lookup::{Found, Tuple},
    ports::Place,
    stack::Stack,
    wire::address::Address,
};
use abi::message::{tcp_state, Endpoint};

/// Elements in use of every table that a connection takes something from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Flow slots.
    pub flows: u32,
    /// Half-open connections.
    pub half_open: u32,
    /// Connections in TIME-WAIT.
    pub time_wait: u32,
    /// Sockets of all applications.
    pub sockets: u32,
    /// Listening sockets.
    pub listeners: u32,
    /// Buffer map records.
    pub records: u32,
    /// Frames waiting for the fast path.
    pub frames: u32,
    /// Timers of connections, half-open connections and TIME-WAIT that are set. Those of neighbours are
    /// not counted: an address stays known without a connection.
    pub timers: u32,
    /// Ports that somebody is bound to or connected from.
    pub ports: u32,
    /// Connections without a socket.
    pub orphans: u32,
    /// Connections that are sampled.
    pub sampled: u32,
}

impl Stack<'_> {
    /// What is in use now. It looks at every table.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage {
            flows: self.connections_used,
            half_open: self.half_open_used,
            time_wait: self.time_wait_used,
            listeners: self.listeners,
            timers: self.wheel.count_below(self.numbering.first_neighbor()),
            orphans: self.orphans,
            sampled: self.sampled,
            ..Usage::default()
        };
        for id in 0..self.applications.len() {
            let application = self.applications.at(id);
            if application.used {
                usage.sockets = usage.sockets.saturating_add(application.sockets);
                usage.records = usage.records.saturating_add(application.records_used);
            }
        }
        let mut free = 0u32;
        let mut frame = self.frame_free;
        while self.frames.has(frame) && free < self.frames.len() {
            free = free.saturating_add(1);
            frame = self.frames.at(frame).next;
        }
        usage.frames = self.frames.len().saturating_sub(free);
        for port in 0..=u16::MAX {
            let used = Place::ALL.into_iter().any(|place| self.ports.at(place, port).is_used());
            usage.ports = usage.ports.saturating_add(u32::from(used));
        }
        usage
    }

    /// The TCP state (numbered as in [`tcp_state`]) of a four-tuple: LISTEN if it is that of no connection but of
    /// a listener, CLOSED if of neither.
    pub fn state_of(&self, local: &Endpoint, remote: &Endpoint) -> u32 {
        let (Some(from), Some(to)) = (Address::of(local), Address::of(remote)) else {
            return tcp_state::CLOSED;
        };
        let tuple = Tuple::new(from, local.port, to, remote.port);
        match self.lookup.find(&tuple) {
            Found::Connection(flow) => self.shown_state(flow).number(),
            Found::HalfOpen(_) => tcp_state::SYN_RECEIVED,
            Found::TimeWait(_) => tcp_state::TIME_WAIT,
            Found::Nothing if self.find_listener(&tuple).is_some() => tcp_state::LISTEN,
            Found::Nothing => tcp_state::CLOSED,
        }
    }
}
