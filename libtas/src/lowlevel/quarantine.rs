// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transmit chunks of connections that ended with data unacknowledged. The fast path may be about to
//! send from them until it has carried out the slow path's REMOVE; reused at once, another
//! connection's bytes could go out in their place.

use super::{
    application::Application,
    chunks::Cache,
    flow::{Flow, Transmit},
};
use std::{collections::VecDeque, sync::atomic::Ordering::*};

/// Iterations of the core's loop after which it has surely carried out REMOVE: the kernel ring's
/// length, as each iteration takes at least one entry, and as many again for the slow path's queue.
const LOOPS: u64 = 2 * abi::limits::KERNEL_RING_ENTRIES as u64;

struct Entry {
    core: u32,
    /// Loop count when the connection ended.
    since: u64,
    chunks: Vec<u32>,
}

/// Chunks that wait, oldest first.
#[derive(Default)]
pub(super) struct Quarantine(VecDeque<Entry>);

impl Quarantine {
    /// Takes all chunks of `flow`.
    pub(super) fn add(&mut self, flow: &Flow, transmit: &mut Transmit, application: &Application) {
        let mut chunks = Vec::new();
        transmit.map.release_all(flow.record, &mut |chunk| chunks.push(chunk));
        if let (false, Some(status)) = (chunks.is_empty(), application.core(flow.core)) {
            self.0.push_back(Entry { core: flow.core, since: status.loops.load(Relaxed), chunks });
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives back what has waited long enough.
    #[inline]
    pub(super) fn release(&mut self, cache: &mut Cache, application: &Application) {
        while let Some(entry) = self.0.front() {
            let loops = application.core(entry.core).map_or(0, |core| core.loops.load(Relaxed));
            // A count below the old one is that of another fast path, which never saw the flow.
            if loops >= entry.since && loops - entry.since < LOOPS {
                break;
            }
            for chunk in self.0.pop_front().map(|entry| entry.chunks).unwrap_or_default() {
                cache.give(chunk, &application.depot);
            }
        }
    }
}
