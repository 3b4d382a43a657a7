// SPDX-License-Identifier: MIT OR Apache-2.0
//! Between the stack and the rings: what the fast path reports goes in, what the stack wants done is
//! carried out.

use super::{
    plane::{self, Plane, Pushed},
    Instance, Wake,
};
use abi::{
    kernel_ring::{to_slow, KernelEntry},
    limits::KERNEL_RING_ENTRIES,
};
use slowpath::Action;

impl Instance {
    /// Takes at most one ring full of entries from each core.
    pub(super) fn receive(&mut self, now_us: u64) {
        let cores = self.plane.as_ref().map_or(0, |plane| plane.cores.len());
        for core in 0..cores {
            for _ in 0..KERNEL_RING_ENTRIES {
                if !self.receive_one(now_us, core) {
                    break;
                }
                // The stack's queues are short: empty them as they fill.
                self.carry_out();
            }
            if let Some(end) = self.plane.as_mut().and_then(|plane| plane.cores.get_mut(core)) {
                end.commit();
            }
        }
    }

    fn receive_one(&mut self, now_us: u64, core: usize) -> bool {
        let Some(Plane { cores, received, stack, .. }) = &mut self.plane else {
            return false;
        };
        let Some((entry, bytes)) = cores.get_mut(core).and_then(|end| end.pop(received)) else {
            return false;
        };
        let core = core as u32;
        if entry.op == to_slow::PACKET {
            stack.handle_packet(now_us, core, entry.reason, &mut received[..bytes]);
        } else {
            stack.handle_report(now_us, core, entry);
        }
        true
    }

    /// Carries out everything the stack wants done.
    pub(super) fn carry_out(&mut self) {
        let next = |plane: &mut Plane| plane.stack.poll_action(&mut plane.frame);
        while let Some(action) = self.plane.as_mut().and_then(next) {
            let (pushed, wake) = match action {
                Action::ToFast { core, entry } => (self.push_to_core(core, entry), Wake::Core(core)),
                Action::Notify { context, event } => (self.notify(context, event), Wake::Context(context)),
                Action::ApplicationDrained { application } => {
                    self.application_drained(application);
                    continue;
                }
            };
            match pushed {
                Pushed::Yes => {}
                Pushed::Wake => self.queue_wake(wake),
                Pushed::Full => {
                    if let Some(plane) = &mut self.plane {
                        plane.stack.keep_action();
                    }
                }
            }
        }
    }

    fn push_to_core(&mut self, core: u32, entry: KernelEntry) -> Pushed {
        // Without a fast path a frame would only be late when one comes.
        if self.fast.is_none() && plane::has_frame(&entry) {
            return Pushed::Yes;
        }
        let Some(Plane { cores, frame, .. }) = &mut self.plane else {
            return Pushed::Yes;
        };
        cores.get_mut(core as usize).map_or(Pushed::Yes, |end| end.push(entry, frame))
    }

    /// The stack's next timer.
    pub(super) fn next_deadline(&self, now_us: u64) -> Option<u64> {
        let plane = self.plane.as_ref()?;
        if plane.has_input() {
            Some(now_us)
        } else {
            plane.stack.next_deadline()
        }
    }
}
