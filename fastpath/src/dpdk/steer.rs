// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames handed from core to core where the port cannot spread flows: one bounded
//! single-producer single-consumer queue for each ordered pair of cores.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*};
use std::sync::Arc;

use super::port::DpdkPacket;
use super::wake::CoreWake;
use crate::port::{Batch, Steer};

/// Frames in one queue: a few bursts; more would only add delay.
const ENTRIES: usize = 256;
const MASK: usize = ENTRIES - 1;

/// A queue of packet pointers. Each index on a cache line of its own.
struct Queue {
    head: Line,
    tail: Line,
    slots: [AtomicUsize; ENTRIES],
}

#[repr(align(64))]
struct Line(AtomicU32);

impl Queue {
    fn new() -> Self {
        Self {
            head: Line(AtomicU32::new(0)),
            tail: Line(AtomicU32::new(0)),
            slots: [const { AtomicUsize::new(0) }; ENTRIES],
        }
    }

    /// Producer.
    fn push(&self, packet: DpdkPacket) -> Result<(), DpdkPacket> {
        let tail = self.tail.0.load(Relaxed);
        if tail.wrapping_sub(self.head.0.load(Acquire)) as usize >= ENTRIES {
            return Err(packet);
        }
        if let Some(slot) = self.slots.get(tail as usize & MASK) {
            slot.store(packet.into_word(), Relaxed);
        }
        self.tail.0.store(tail.wrapping_add(1), Release);
        Ok(())
    }

    /// Consumer.
    fn pop(&self) -> Option<DpdkPacket> {
        let head = self.head.0.load(Relaxed);
        if head == self.tail.0.load(Acquire) {
            return None;
        }
        let word = self.slots.get(head as usize & MASK)?.load(Relaxed);
        self.head.0.store(head.wrapping_add(1), Release);
        // SAFETY: pushed by into_word, and taken once: only the consumer moves `head`.
        unsafe { DpdkPacket::from_word(word) }
    }

    fn is_empty(&self) -> bool {
        self.head.0.load(Relaxed) == self.tail.0.load(Acquire)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// All queues of a process.
pub(super) struct SteerFabric {
    cores: usize,
    /// Index: sender * cores + receiver.
    queues: Vec<Queue>,
}

impl SteerFabric {
    /// For `cores` cores.
    pub(super) fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self { cores, queues: (0..cores * cores).map(|_| Queue::new()).collect() })
    }

    fn queue(&self, from: usize, to: usize) -> Option<&Queue> {
        if from >= self.cores || to >= self.cores {
            return None;
        }
        self.queues.get(from * self.cores + to)
    }
}

/// One core's end of the fabric.
pub(super) struct CoreSteer {
    fabric: Arc<SteerFabric>,
    core: usize,
    wakes: Arc<Vec<CoreWake>>,
    /// The sender to begin with next time, so that none starves.
    next: usize,
}

impl CoreSteer {
    /// For core `core`; `wakes` rouses the others.
    pub(super) fn new(fabric: Arc<SteerFabric>, core: usize, wakes: Arc<Vec<CoreWake>>) -> Self {
        Self { fabric, core, wakes, next: 0 }
    }
}

impl Steer<DpdkPacket> for CoreSteer {
    fn offer(&mut self, core: usize, packet: DpdkPacket) -> Result<(), DpdkPacket> {
        let Some(queue) = self.fabric.queue(self.core, core) else {
            return Err(packet);
        };
        queue.push(packet)?;
        if let Some(wake) = self.wakes.get(core) {
            wake.after_push();
        }
        Ok(())
    }

    fn take(&mut self, into: &mut Batch<DpdkPacket>, limit: usize) -> usize {
        let cores = self.fabric.cores;
        if cores == 1 {
            return 0;
        }
        let mut added = 0;
        for from in (self.next..cores).chain(0..self.next) {
            let Some(queue) = self.fabric.queue(from, self.core) else {
                continue;
            };
            while into.len() < limit && into.room() > 0 {
                let Some(packet) = queue.pop() else { break };
                if into.push(packet).is_ok() {
                    added += 1;
                }
            }
        }
        self.next = if self.next + 1 < cores { self.next + 1 } else { 0 };
        added
    }

    fn is_ready(&self) -> bool {
        (0..self.fabric.cores)
            .any(|from| self.fabric.queue(from, self.core).is_some_and(|queue| !queue.is_empty()))
    }
}
