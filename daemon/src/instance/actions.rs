// SPDX-License-Identifier: MIT OR Apache-2.0
//! Between the stack and the rings: what the fast path reports goes in, what the stack wants done is
//! carried out.

use super::{plane::FrameBuffer, Instance, Wake};
use abi::{
    kernel_ring::to_slow,
    limits::{KERNEL_RING_ENTRIES, PACKET_SLOT_BYTES},
};
use slowpath::Action;

/// Time after which a full ring is tried again, microseconds.
const RETRY_US: u64 = 500;

impl Instance {
    /// Takes at most one ring full of entries from each core.
    pub(super) fn receive(&mut self, now_us: u64) {
        let cores = self.plane.as_ref().map_or(0, |plane| plane.cores.len());
        let mut frame: FrameBuffer = [0; PACKET_SLOT_BYTES as usize];
        for core in 0..cores {
            for _ in 0..KERNEL_RING_ENTRIES {
                if !self.receive_one(now_us, core, &mut frame) {
                    break;
                }
                // The stack's queues are short: empty them as they fill.
                self.carry_out(now_us);
            }
            if let Some(end) = self.plane.as_mut().and_then(|plane| plane.cores.get_mut(core)) {
                end.commit();
            }
        }
    }

    fn receive_one(&mut self, now_us: u64, core: usize, frame: &mut FrameBuffer) -> bool {
        let Some(plane) = &mut self.plane else { return false };
        let Some((entry, bytes)) = plane.cores.get_mut(core).and_then(|end| end.pop(frame)) else { return false };
        let core = core as u32;
        if entry.op == to_slow::PACKET {
            plane.stack.handle_packet(now_us, core, entry.reason, &mut frame[..bytes]);
        } else {
            plane.stack.handle_report(now_us, core, entry);
            self.count_report(&entry);
        }
        true
    }

    /// Carries out everything the stack wants done.
    pub(super) fn carry_out(&mut self, _now_us: u64) {
        self.flush_cores();
        self.flush_contexts();
        let mut frame: FrameBuffer = [0; PACKET_SLOT_BYTES as usize];
        while let Some(action) = self.next_action(&mut frame) {
            match action {
                Action::ToFast { core, entry } => {
                    let end = self.plane.as_mut().and_then(|plane| plane.cores.get_mut(core as usize));
                    if end.is_some_and(|end| end.push(entry, &frame)) {
                        self.queue_wake(Wake::Core(core));
                    }
                }
                Action::Notify { context, event } => self.notify(context, event),
                Action::ApplicationDrained { application } => self.application_drained(application),
            }
        }
    }

    fn next_action(&mut self, frame: &mut FrameBuffer) -> Option<Action> {
        let plane = self.plane.as_mut()?;
        if plane.is_congested() {
            return None;
        }
        plane.stack.poll_action(frame)
    }

    fn flush_cores(&mut self) {
        let Some(plane) = self.plane.as_mut().filter(|plane| plane.has_backlog()) else { return };
        let woken: Vec<usize> =
            plane.cores.iter_mut().enumerate().filter_map(|(core, end)| end.flush().then_some(core)).collect();
        for core in woken {
            self.queue_wake(Wake::Core(core as u32));
        }
    }

    /// The stack's next timer, or the next try at a full ring.
    pub(super) fn next_deadline(&self, now_us: u64) -> Option<u64> {
        let plane = self.plane.as_ref()?;
        if plane.has_input() {
            return Some(now_us);
        }
        // Without a fast path nobody empties a core's ring.
        let stuck = plane.has_backlog() && self.fast.is_some();
        let retry = (stuck || self.overflowing).then(|| now_us.saturating_add(RETRY_US));
        match (plane.stack.next_deadline(), retry) {
            (Some(timer), Some(retry)) => Some(timer.min(retry)),
            (timer, retry) => timer.or(retry),
        }
    }
}
