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
    /// Generation of the flow slot.
    pub generation: u32,
    /// Receive position.
    pub rx: u64,
    /// Transmit position.
    pub tx: u64,
}

impl FlowEvent {
    /// As ring words.
    #[inline]
    pub const fn encode(self) -> [u64; EVENT_WORDS] {
        [self.flow as u64 | (self.flags as u64) << 32, self.rx, self.tx, self.generation as u64]
    }
    /// From ring words; any words decode.
    #[inline]
    pub const fn decode(words: [u64; EVENT_WORDS]) -> Self {
        let [head, rx, tx, generation] = words;
        Self { flow: head as u32, flags: (head >> 32) as u16, generation: generation as u32, rx, tx }
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
