// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Applications, their contexts and their buffer map records.

use abi::{flow::NONE, pool::SEGMENT_RECORDS};

/// Words of a segment's bitmap.
pub(crate) const SEGMENT_WORDS: usize = SEGMENT_RECORDS as usize / 64;

/// An application.
#[derive(Debug, Clone, Copy)]
pub struct Application {
    pub(crate) used: bool,
    /// Its process is gone.
    pub(crate) dead: bool,
    /// APPLICATION_DRAINED is to be reported, or was.
    pub(crate) drained: bool,
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    pub(crate) command: [u8; 16],
    pub(crate) contexts: u32,
    pub(crate) sockets: u32,
    pub(crate) flows: u32,
    /// First of its sockets.
    pub(crate) socket_head: u32,
    /// First of its record segments, how many, and records in use.
    pub(crate) segment_head: u32,
    pub(crate) segments: u32,
    pub(crate) records_used: u32,
    /// First of its contexts.
    pub(crate) context_head: u32,
    /// Next of the dead ones with sockets left, or to be reported.
    pub(crate) next: u32,
    pub(crate) faults: u64,
    pub(crate) pool_empty: u64,
}

impl Default for Application {
    fn default() -> Self {
        Self {
            used: false, dead: false, drained: false, uid: 0, pid: 0, command: [0; 16],
            contexts: 0, sockets: 0, flows: 0, socket_head: NONE, segment_head: NONE, segments: 0,
            records_used: 0, context_head: NONE, next: NONE, faults: 0, pool_empty: 0,
        }
    }
}

/// Events owed to a context itself, one bit each in [`Context::pending`].
pub(crate) mod context_event {
    pub(crate) const POOL_LOW: u8 = 1 << 0;
    pub(crate) const MAPS_LOW: u8 = 1 << 1;
    pub(crate) const FASTPATH_GONE: u8 = 1 << 2;
    pub(crate) const FASTPATH_BACK: u8 = 1 << 3;
}

/// A context: one application thread's rings.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Application, or [`NONE`] when the slot is free.
    pub(crate) application: u32,
    /// Sockets with events owed.
    pub(crate) event_head: u32,
    pub(crate) event_tail: u32,
    pub(crate) pending: u8,
    /// Linked in the list of contexts with something owed.
    pub(crate) queued: bool,
    /// Next in that list.
    pub(crate) next: u32,
    /// Next context of the application.
    pub(crate) sibling: u32,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            application: NONE, event_head: NONE, event_tail: NONE, pending: 0, queued: false,
            next: NONE, sibling: NONE,
        }
    }
}

/// Which records of one map segment are taken.
#[derive(Debug, Clone, Copy)]
pub struct RecordSegment {
    pub(crate) taken: [u64; SEGMENT_WORDS],
    pub(crate) used: u32,
    /// Number of the segment within its application.
    pub(crate) number: u32,
    /// Next of the application, or of the free list.
    pub(crate) next: u32,
}

impl Default for RecordSegment {
    fn default() -> Self {
        Self { taken: [0; SEGMENT_WORDS], used: 0, number: 0, next: NONE }
    }
}
