// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Entries of the rings between the slow path and each fast-path core: two words each. Entry `i`
//! of a ring owns packet slot `i` of the same region ([`crate::region::KernelRingLayout`]).

/// Words of an entry.
pub const KERNEL_WORDS: usize = 2;

/// Slow path to fast path.
pub mod to_fast {
    /// Read the cold entry of `flow`, publish it in the core's lookup table.
    pub const INSTALL: u8 = 1;
    /// Forget `flow`; answer REMOVED.
    pub const REMOVE: u8 = 2;
    /// Re-read rate, window, owner, adjacency, MSS and control of `flow` from its cold entry, then
    /// announce its state to its context. If the MSS shrank, what is in flight is cut anew.
    pub const UPDATE: u8 = 3;
    /// Retransmission timeout: re-read the cold entry as for UPDATE, send again from `snd_una` (`value` = new
    /// window in bytes).
    pub const RETRANSMIT: u8 = 4;
    /// Send a zero-window probe (RFC 9293 §3.8.6.1).
    pub const PROBE: u8 = 5;
    /// Send a FIN after the data written so far.
    pub const FINISH: u8 = 6;
    /// Send an ACK with the current state (handshake, challenge ACK).
    pub const ACKNOWLEDGE: u8 = 7;
    /// The slow path stopped sampling `flow`: clear ACTIVE, or report ACTIVE again if work is left.
    pub const IDLE: u8 = 8;
    /// Transmit the frame in the slot (`value` = length in bytes). The fast path fills in nothing. If `flow` is one,
    /// this is its SYN-ACK, and the flow sends nothing before.
    pub const TRANSMIT: u8 = 9;
    /// Process the frame in the slot as if just received (`value` = length in bytes).
    pub const INJECT: u8 = 10;
    /// Nothing was acknowledged for a while: send one segment that makes the peer tell what it has
    /// (tail loss probe, RFC 8985 §7).
    pub const TAIL_PROBE: u8 = 11;
    /// The slot holds the SYN that opened `flow` (`value` = length in bytes): take its data as the first of the
    /// stream (RFC 7413 §4.2.2), without an acknowledgement; answer SYN_DATA whether or not there was room.
    pub const SYN_DATA: u8 = 12;
    /// Send one segment of `value` bytes, more than the MSS, if there is enough to send behind it (RFC 4821 §7.4); answer
    /// PATH_PROBE when it leaves.
    pub const PROBE_PATH: u8 = 13;
}

/// Fast path to slow path.
pub mod to_slow {
    /// The slot holds a frame (`value` = length in bytes, `reason` says why).
    pub const PACKET: u8 = 1;
    /// `flow` has data outstanding or to send: begin sampling it.
    pub const ACTIVE: u8 = 2;
    /// The peer's FIN was received in order on `flow`.
    pub const FIN_RECEIVED: u8 = 3;
    /// Our FIN on `flow` was acknowledged.
    pub const FIN_ACKED: u8 = 4;
    /// REMOVE of `flow` is done; the core holds no reference to it.
    pub const REMOVED: u8 = 5;
    /// The pool of application `value` had no free chunk.
    pub const POOL_EMPTY: u8 = 6;
    /// Context `value` wrote an entry that was refused.
    pub const FAULT: u8 = 7;
    /// Data arrived on `flow` whose receiver is closed: reset it (RFC 9293 §3.10.7.4).
    pub const DATA_AFTER_CLOSE: u8 = 8;
    /// SYN_DATA of `flow` is done: what was taken lies before `rcv_nxt`.
    pub const SYN_DATA: u8 = 9;
    /// The peer has acknowledged our SYN on `flow`, which was installed before it did.
    pub const HANDSHAKE_DONE: u8 = 10;
    /// The probe asked for by PROBE_PATH leaves; it ends at position `value`.
    pub const PATH_PROBE: u8 = 11;
}

/// Why a frame went to the slow path.
pub mod reason {
    /// Not TCP over IPv4 to us: ARP, ICMP, …
    pub const NOT_TCP: u8 = 1;
    /// No installed flow matches.
    pub const NO_FLOW: u8 = 2;
    /// SYN, RST or another flag that the fast path leaves alone, on an installed flow.
    pub const FLAGS: u8 = 3;
    /// IP options or a fragment.
    pub const IP_OPTIONS: u8 = 4;
}

/// An entry in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelEntry {
    /// See [`to_fast`] and [`to_slow`].
    pub op: u8,
    /// See [`reason`].
    pub reason: u8,
    /// Flow id.
    pub flow: u32,
    /// Value of the operation.
    pub value: u64,
}

impl KernelEntry {
    /// As ring words.
    #[inline]
    pub const fn encode(self) -> [u64; KERNEL_WORDS] {
        [self.flow as u64 | (self.op as u64) << 32 | (self.reason as u64) << 40, self.value]
    }
    /// From ring words; any words decode.
    #[inline]
    pub const fn decode(words: [u64; KERNEL_WORDS]) -> Self {
        let [head, value] = words;
        Self { op: (head >> 32) as u8, reason: (head >> 40) as u8, flow: head as u32, value }
    }
}
