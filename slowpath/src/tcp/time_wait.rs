// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! TIME-WAIT: a compact table, oldest out first.

use abi::flow::NONE;

/// A connection in TIME-WAIT; its four-tuple is in the lookup table.
#[derive(Debug, Clone, Copy)]
pub struct TimeWait {
    pub(crate) used: bool,
    pub(crate) timestamps: bool,
    pub(crate) port_use: crate::ports::Use,
    pub(crate) snd_nxt: u32,
    pub(crate) rcv_nxt: u32,
    pub(crate) ts_recent: u32,
    pub(crate) ts_offset: u32,
    pub(crate) window: u16,
    pub(crate) expires_us: u64,
    /// When the last ACK was sent in answer, for the rate limit.
    pub(crate) answered_us: u64,
    /// Order of age; `next` also links the free list.
    pub(crate) next: u32,
    pub(crate) prev: u32,
}

impl Default for TimeWait {
    fn default() -> Self {
        Self {
            used: false, timestamps: false, port_use: crate::ports::Use { reuse_address: false, reuse_port: false, ephemeral: false },
            snd_nxt: 0, rcv_nxt: 0, ts_recent: 0, ts_offset: 0, window: 0, expires_us: 0,
            answered_us: 0, next: NONE, prev: NONE,
        }
    }
}
