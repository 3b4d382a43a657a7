// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Timers: every kind there is, and the wheel they wait on.

mod wheel;

pub use wheel::TimerNode;
pub(crate) use wheel::{Popped, Wheel, WHEEL_SLOTS};

/// Every timer of the slow path. Each has a node of its own, so that setting one cannot fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The control interval of an active flow: congestion control, retransmission timeout (RFC
    /// 6298), zero-window probes (RFC 9293 §3.8.6.1), user timeout.
    Sample(u32),
    /// The life of a connection: SYN and SYN-ACK retransmission, draining before a close,
    /// FIN-WAIT-2 and orphan limits.
    Lifecycle(u32),
    /// SYN-ACK retransmission of a half-open connection.
    SynAck(u32),
    /// ARP retry, ageing and confirmation of a neighbour.
    Neighbor(u32),
    /// The oldest connection in TIME-WAIT is over.
    TimeWait,
    /// A report of multicast groups is due.
    Membership,
    /// The oldest datagram that is to be reassembled is over.
    Reassembly,
}

/// Timers beside the tables.
const FIXED: u32 = 3;

/// Nodes needed for tables of the given sizes.
pub(crate) const fn nodes(flows: u32, half_open: u32, neighbors: u32) -> u32 {
    flows.wrapping_mul(2).wrapping_add(half_open).wrapping_add(neighbors).wrapping_add(FIXED)
}

/// Numbers the timers for tables of given sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbering {
    pub(crate) flows: u32,
    pub(crate) half_open: u32,
    pub(crate) neighbors: u32,
}

impl Numbering {
    /// Node of the first neighbour's timer; those below it belong to connections.
    pub(crate) fn first_neighbor(&self) -> u32 {
        self.node(Timer::Neighbor(0))
    }

    /// Node of a timer.
    pub(crate) fn node(&self, timer: Timer) -> u32 {
        let half_open = self.flows.wrapping_mul(2);
        let neighbors = half_open.wrapping_add(self.half_open);
        let fixed = neighbors.wrapping_add(self.neighbors);
        match timer {
            Timer::Sample(flow) => flow,
            Timer::Lifecycle(flow) => self.flows.wrapping_add(flow),
            Timer::SynAck(id) => half_open.wrapping_add(id),
            Timer::Neighbor(id) => neighbors.wrapping_add(id),
            Timer::TimeWait => fixed,
            Timer::Membership => fixed.wrapping_add(1),
            Timer::Reassembly => fixed.wrapping_add(2),
        }
    }

    /// Timer of a node.
    pub(crate) fn timer(&self, node: u32) -> Timer {
        let mut rest = node;
        if rest < self.flows {
            return Timer::Sample(rest);
        }
        rest = rest.wrapping_sub(self.flows);
        if rest < self.flows {
            return Timer::Lifecycle(rest);
        }
        rest = rest.wrapping_sub(self.flows);
        if rest < self.half_open {
            return Timer::SynAck(rest);
        }
        rest = rest.wrapping_sub(self.half_open);
        if rest < self.neighbors {
            return Timer::Neighbor(rest);
        }
        match rest.wrapping_sub(self.neighbors) {
            0 => Timer::TimeWait,
            1 => Timer::Membership,
            _ => Timer::Reassembly,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbering_round_trips() {
        let numbering = Numbering { flows: 7, half_open: 5, neighbors: 3 };
        for node in 0..nodes(7, 5, 3) {
            assert_eq!(numbering.node(numbering.timer(node)), node);
        }
    }
}
