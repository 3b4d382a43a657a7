// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small segments that wait for more data because the application said that more follows (TCP_CORK, MSG_MORE).

use crate::{
    core::Core,
    flow::Flow,
    port::{Port, Steer},
    private::bit,
    word::Word,
};

/// Longest time a small segment is held back, Linux's for TCP_CORK, microseconds.
const HOLD_US: u32 = 200_000;

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// The application has said that more follows what it wrote so far, or (again) that nothing does.
    #[cold]
    pub(crate) fn hold(&mut self, flow: Flow<'m>, more: bool) {
        let private = &mut self.private[flow.id as usize];
        if !more {
            private.bits &= !bit::HELD;
            return self.schedule(flow);
        }
        private.bits |= bit::HELD;
        if !private.has(bit::IN_HELD) {
            private.bits |= bit::IN_HELD;
            self.held.push((flow.id, self.now_us as u32));
        }
    }

    /// Sends what was held back for long enough. What is written after that is held anew.
    #[cold]
    pub(crate) fn release_held(&mut self) {
        while let Some((id, since)) = self.held.first() {
            if (self.now_us as u32).wrapping_sub(since) < HOLD_US {
                return;
            }
            self.held.pop();
            let Some(private) = self.private.get_mut(id as usize) else {
                continue;
            };
            private.bits &= !bit::IN_HELD;
            if !private.has(bit::HELD) {
                continue;
            }
            let Some(flow) = self.ours(id) else {
                continue;
            };
            let hot = flow.hot;
            let waits = hot.snd_end.get().saturating_sub(hot.snd_nxt.get());
            if waits > 0 {
                self.private[id as usize].bits |= bit::URGENT;
                self.schedule(flow);
            }
            if waits > u64::from(flow.mss().min(hot.snd_wnd.get())) {
                // One segment leaves now. The others wait as long again at most.
                self.private[id as usize].bits |= bit::IN_HELD;
                self.held.push((id, self.now_us as u32));
            }
        }
    }

    /// When the next small segment was held back for long enough.
    pub(crate) fn held_deadline_us(&self) -> Option<u64> {
        let (_, since) = self.held.first()?;
        let waited = (self.now_us as u32).wrapping_sub(since);
        Some(self.now_us + u64::from(HOLD_US.saturating_sub(waited)))
    }
}
