// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in use, for tests that look for leaks.

use crate::{
    core::Core,
    port::{Port, Steer},
};

/// What flows hold in a process with one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Receive chunks in flows' maps, negative if more were given back than there are.
    pub chunks: i64,
    /// Recovery blocks.
    pub recovery_blocks: usize,
    /// Flows waiting for their turn to send, or for their time.
    pub scheduled: usize,
    /// Delayed acknowledgements.
    pub acknowledgements: usize,
    /// Events that applications are owed.
    pub events: usize,
}

impl<P: Port, S: Steer<P::Packet>> Core<'_, P, S> {
    /// What is in use by flows of `applications`, if this is the process's only core.
    pub fn usage(&self, applications: &[u16]) -> Usage {
        let held = |id: &u16| {
            let own = self.applications.get(usize::from(*id)).and_then(Option::as_ref);
            let free = own.map_or(0, |own| own.free_chunks()) + self.shared.free_chunks(*id);
            self.shared.chunks(*id) as i64 - free as i64
        };
        Usage {
            chunks: applications.iter().map(held).sum(),
            recovery_blocks: self.tables.recovery.len() - self.shared.free_recovery(),
            scheduled: self.ready.len() + self.wheel.len(),
            acknowledgements: self.acks.len(),
            events: self.events.len(),
        }
    }
}
