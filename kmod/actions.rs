// SPDX-License-Identifier: GPL-2.0-only
//! Carrying out what the stack wants done.

use crate::{instance::Instance, state::State};
use slowpath::Action;

/// Actions carried out under one hold of the lock.
const BUDGET: usize = 512;

impl Instance {
    /// Carries out what the stack wants done. True if there is more that can be done at once.
    pub(crate) fn carry_out(&self, state: &mut State) -> bool {
        let mut more = true;
        for _ in 0..BUDGET {
            let State { stack, out_frame, .. } = &mut *state;
            let Some(action) = stack.poll_action(out_frame) else {
                more = false;
                break;
            };
            if !self.carry_out_one(state, action) {
                state.stack.keep_action();
            }
        }
        self.wake_cores(state);
        more
    }

    /// False: the ring is full.
    fn carry_out_one(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::ToFast { core, entry } => {
                let State { cores, out_frame, .. } = &mut *state;
                cores.get_mut(core as usize).is_none_or(|rings| rings.push(entry, out_frame))
            }
            Action::Notify { context, event } => {
                let context = state.contexts.get_mut(context).filter(|context| context.is_live());
                let done = context.is_none_or(|context| context.notify(event));
                if let Some(socket) = state.sockets.get(event.socket) {
                    socket.wake();
                }
                done
            }
            Action::ApplicationDrained { application } => {
                self.application_drained(state, application);
                true
            }
        }
    }

    fn wake_cores(&self, state: &mut State) {
        for (core, rings) in state.cores.iter_mut().enumerate() {
            if rings.flush() {
                // A core that registered no eventfd only sleeps for a time.
                let _ = self.core_wakers.wake(core as u32);
            }
        }
    }

    /// After a control call: carries out what follows from it, and calls the worker if it sleeps
    /// beyond the next timer.
    pub(crate) fn settle(&self, state: &mut State) {
        let more = self.carry_out(state);
        let until_us = state.stack.next_deadline().unwrap_or(u64::MAX);
        if more || until_us < self.sleeps_until_us.load(core::sync::atomic::Ordering::Relaxed) {
            self.call_worker();
        }
    }
}
