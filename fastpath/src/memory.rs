// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory a core works in, and the commands that change it while it runs.

use crate::config::ConfigError;
use abi::{
    adjacency::Adjacency,
    clock::ClockPage,
    core_status::CoreStatus,
    flow::{ColdFlow, HotFlow},
    recovery::RecoveryBlock,
};
use ring::SharedBytes;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The tables every core shares.
#[derive(Clone, Copy)]
pub struct Tables<'m> {
    /// Hot part of every flow.
    pub hot: &'m [HotFlow],
    /// Cold part of every flow; as long as `hot`.
    pub cold: &'m [ColdFlow],
    /// Next hops.
    pub adjacencies: &'m [Adjacency],
    /// Loss-recovery blocks.
    pub recovery: &'m [RecoveryBlock],
    /// The clock page; only its wake flag is used here.
    pub clock: &'m ClockPage,
}

/// One core's own memory.
#[derive(Clone, Copy)]
pub struct CoreMemory<'m> {
    /// Its status page.
    pub status: &'m CoreStatus,
    /// Words of the ring from the slow path (header and entries).
    pub to_fast: &'m [AtomicU64],
    /// Words of the ring to the slow path.
    pub to_slow: &'m [AtomicU64],
    /// Packet slots of the ring from the slow path.
    pub to_fast_slots: SharedBytes<'m>,
    /// Packet slots of the ring to the slow path.
    pub to_slow_slots: SharedBytes<'m>,
}

/// One context as one core sees it: the two rings between them.
#[derive(Clone, Copy)]
pub struct ContextMemory<'m> {
    /// `ContextHeader::waiting`.
    pub waiting: &'m AtomicU32,
    /// Words of the ring from the application to this core.
    pub to_fast: &'m [AtomicU64],
    /// Words of the ring from this core to the application.
    pub to_application: &'m [AtomicU64],
    /// Entries of each, from the slow path (never from the shared memory).
    pub entries: u32,
}

/// A change to what a core works on. Carried out between two polls; when [`crate::Core::command`]
/// has returned, the core holds no reference to what was removed (a quiescent point).
pub enum Command<'m> {
    /// Poll this context.
    AddContext {
        /// Context id.
        context: u16,
        /// Application it belongs to.
        application: u16,
        /// Its rings.
        memory: ContextMemory<'m>,
    },
    /// Stop polling it.
    RemoveContext {
        /// Context id.
        context: u16,
    },
    /// A segment of an application's pool ([`abi::pool::SEGMENT_BYTES`]). Every core gets this
    /// before [`crate::Shared::add_pool_segment`] is called.
    AddPoolSegment {
        /// Application id.
        application: u16,
        /// Segment number.
        segment: u32,
        /// Its bytes.
        bytes: SharedBytes<'m>,
    },
    /// A segment of an application's buffer maps.
    AddMapSegment {
        /// Application id.
        application: u16,
        /// Segment number.
        segment: u32,
        /// Its words ([`abi::pool::SEGMENT_BYTES`] / 4).
        words: &'m [AtomicU32],
    },
    /// Forget an application's pool and maps. Its flows, if any are left, stop.
    RemoveApplication {
        /// Application id.
        application: u16,
    },
}

/// Why a core could not start or carry out a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachError {
    /// A setting is out of range.
    Config(ConfigError),
    /// A region is shorter than it must be; the field's name.
    TooShort(&'static str),
    /// An id or a segment number is above its limit.
    OutOfRange(&'static str),
}

impl std::fmt::Display for AttachError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::TooShort(what) => write!(f, "shared region too short for {what}; slow path and fast path disagree on sizes: restart both from one build"),
            Self::OutOfRange(what) => write!(f, "{what} from the slow path is above its limit; restart both from one build"),
        }
    }
}
impl std::error::Error for AttachError {}

impl From<ConfigError> for AttachError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
