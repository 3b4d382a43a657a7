// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Queues of what is to be done: commands per flow (a bit each, so that they need no memory),
//! frames (bounded), events per context (a bit each). A ring that is full blocks only its own core
//! or context.

use abi::flow::NONE;

/// Bytes of a queued frame: Ethernet header, VLAN tag, MTU, rounded up.
pub(crate) const FRAME_BYTES: usize = 1536;

/// A frame for the fast path.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub(crate) bytes: [u8; FRAME_BYTES],
    pub(crate) len: u16,
    /// TRANSMIT or INJECT.
    pub(crate) op: u8,
    pub(crate) flow: u32,
    pub(crate) next: u32,
}

impl Default for Frame {
    fn default() -> Self {
        Self { bytes: [0; FRAME_BYTES], len: 0, op: 0, flow: NONE, next: NONE }
    }
}

/// What waits for one fast-path core.
#[derive(Debug, Clone, Copy)]
pub struct CoreQueue {
    /// Flows with pending commands.
    pub(crate) flow_head: u32,
    pub(crate) flow_tail: u32,
    /// Frames.
    pub(crate) frame_head: u32,
    pub(crate) frame_tail: u32,
    /// Its ring was full in this round.
    pub(crate) blocked: bool,
}

impl Default for CoreQueue {
    fn default() -> Self {
        Self { flow_head: NONE, flow_tail: NONE, frame_head: NONE, frame_tail: NONE, blocked: false }
    }
}
