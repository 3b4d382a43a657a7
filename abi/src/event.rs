// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Entries of the rings between an application's context, the fast path and the slow path: four
//! words each. Word 0 is shared with `tas-ring`, which owns bit 63.
//!
//! An entry is a hint with absolute positions: repeating or re-ordering it does no harm, and the
//! receiver checks every field (flow id in range, owner, generation, position within bounds).

/// Words of an entry.
pub const EVENT_WORDS: usize = 4;

/// Bits of [`FlowEvent::flags`] (16 bits).
pub mod event_flags {
    /// `rx` is valid.
    pub const RX: u16 = 1 << 0;
    /// `tx` is valid.
    pub const TX: u16 = 1 << 1;
    /// To the fast path: send FIN after `tx`. To the application: the peer's FIN was received;
    /// end of stream is at `rx`.
    pub const FIN: u16 = 1 << 2;
    /// To the application: our FIN and all data were acknowledged.
    pub const FIN_ACKED: u16 = 1 << 3;
    /// `urgent` is valid: there is urgent data (RFC 9293 §3.8.5, RFC 6093).
    pub const URGENT: u16 = 1 << 4;
    /// To the application: `urgent_byte` is valid.
    pub const URGENT_BYTE: u16 = 1 << 5;
    /// To the fast path, with [`TX`]: more will follow soon, so a small segment at the end of what is written may
    /// wait for it (TCP_CORK, MSG_MORE). `TX` without it ends the wait.
    pub const MORE: u16 = 1 << 6;
    /// To the fast path: the application has closed the connection; only data that is not acknowledged keeps it.
    pub const CLOSED: u16 = 1 << 7;
}

/// Between a context and a fast-path core, both directions.
///
/// Application to fast path: `tx` = position up to which data is written, `rx` = position up to
/// which the application has read. Fast path to application: `rx` = `rcv_nxt` (data readable up to
/// it, FIN excluded), `tx` = `snd_una` (chunks before it may be reused).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowEvent {
    /// Flow id.
    pub flow: u32,
    /// See [`event_flags`].
    pub flags: u16,
    /// The byte at `urgent`, which may have come before the data in front of it.
    pub urgent_byte: u8,
    /// Generation of the flow slot.
    pub generation: u32,
    /// Low 32 bits of the position of the urgent byte: the one in front of where the urgent pointer points, as
    /// Linux reads it. To the fast path: of the byte after it, the end of what is urgent.
    pub urgent: u32,
    /// Receive position.
    pub rx: u64,
    /// Transmit position.
    pub tx: u64,
}

impl FlowEvent {
    /// As ring words.
    #[inline]
    pub const fn encode(self) -> [u64; EVENT_WORDS] {
        let head = self.flow as u64 | (self.flags as u64) << 32 | (self.urgent_byte as u64) << 48;
        [head, self.rx, self.tx, self.generation as u64 | (self.urgent as u64) << 32]
    }
    /// From ring words; any words decode.
    #[inline]
    pub const fn decode(words: [u64; EVENT_WORDS]) -> Self {
        let [head, rx, tx, last] = words;
        Self {
            flow: head as u32,
            flags: (head >> 32) as u16,
            urgent_byte: (head >> 48) as u8,
            generation: last as u32,
            urgent: (last >> 32) as u32,
            rx,
            tx,
        }
    }
}

/// What the slow path tells a context: see [`KernelEvent`].
pub mod kernel_event {
    /// An active open completed; `FLOW_INFO` now answers.
    pub const CONNECTED: u16 = 1;
    /// An active open failed, or a connection was reset or timed out; `error` is the errno.
    pub const FAILED: u16 = 2;
    /// A listener has a connection to accept.
    pub const ACCEPTABLE: u16 = 3;
    /// The fast path found the pool empty: grow it.
    pub const POOL_LOW: u16 = 4;
    /// The fast path went away (`error` = 0) or came back (`error` = 1).
    pub const FASTPATH: u16 = 5;
    /// A flow was moved to this context; ask `FLOW_INFO`.
    pub const MOVED: u16 = 6;
    /// ICMP told something about a connection, which goes on; `error` is the errno. Only for sockets that asked.
    pub const SOFT_ERROR: u16 = 7;
}

/// From the slow path to a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelEvent {
    /// See [`kernel_event`].
    pub kind: u16,
    /// errno, or the kind's own value.
    pub error: u32,
    /// Socket id it concerns.
    pub socket: u32,
    /// Flow id it concerns, or `flow::NONE`.
    pub flow: u32,
    /// The application's own value, given at SOCKET.
    pub opaque: u64,
}

impl KernelEvent {
    /// As ring words.
    #[inline]
    pub const fn encode(self) -> [u64; EVENT_WORDS] {
        [
            self.socket as u64 | (self.kind as u64) << 32,
            self.flow as u64 | (self.error as u64) << 32,
            self.opaque,
            0,
        ]
    }
    /// From ring words; any words decode.
    #[inline]
    pub const fn decode(words: [u64; EVENT_WORDS]) -> Self {
        let [head, second, opaque, _] = words;
        Self {
            kind: (head >> 32) as u16,
            error: (second >> 32) as u32,
            socket: head as u32,
            flow: second as u32,
            opaque,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_event_comes_back_as_it_was() {
        let event = FlowEvent {
            flow: 0x1234_5678,
            flags: event_flags::URGENT | event_flags::URGENT_BYTE | event_flags::RX,
            urgent_byte: 0xab,
            generation: 0xdead_beef,
            urgent: 0xfedc_ba98,
            rx: u64::MAX - 1,
            tx: 7,
        };
        assert_eq!(FlowEvent::decode(event.encode()), event);
        assert_eq!(event.encode()[0] >> 63, 0, "bit 63 is the ring's");
    }
}
