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

impl Usage {
    /// What is in use by this core's flows and `other`'s, which keeps `kept` free chunks for itself.
    pub fn add_core(&mut self, other: &Self, kept: i64) {
        // What all cores share was counted with the first.
        self.chunks -= kept;
        self.scheduled += other.scheduled;
        self.acknowledgements += other.acknowledgements;
        self.events += other.events;
    }
}

impl<P: Port, S: Steer<P::Packet>> Core<'_, P, S> {
    /// What is in use by flows of `applications`, if this is the process's only core; else see [`Usage::add_core`].
    pub fn usage(&self, applications: &[u16]) -> Usage {
        let held = |id: &u16| self.shared.chunks(*id) as i64 - self.shared.free_chunks(*id) as i64;
        Usage {
            chunks: applications.iter().map(held).sum::<i64>() - self.kept_chunks(applications),
            recovery_blocks: self.tables.recovery.len() - self.shared.free_recovery(),
            scheduled: self.ready.len() + self.wheel.len(),
            acknowledgements: self.acks.len(),
            events: self.events.len(),
        }
    }

    /// Free chunks of `applications` that this core keeps for itself.
    pub fn kept_chunks(&self, applications: &[u16]) -> i64 {
        let own = |id: &u16| self.applications.get(usize::from(*id)).and_then(Option::as_ref);
        applications.iter().filter_map(own).map(|own| own.free_chunks() as i64).sum()
    }
}
