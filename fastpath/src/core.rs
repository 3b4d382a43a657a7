// SPDX-License-Identifier: MIT OR Apache-2.0
//! One core: its state, its loop, and what its shell calls.

use crate::{
    config::Config,
    memory::{AttachError, Command, CoreMemory, Tables},
    port::{Batch, NoSteer, Port, Steer},
    shared::Shared,
};
use std::sync::Arc;

/// What one [`Core::poll`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Frames received, steered ones included.
    pub received: u32,
    /// Frames given to the port.
    pub sent: u32,
    /// Ring entries taken, from applications and the slow path.
    pub entries: u32,
}

impl Work {
    /// True if there was nothing to do.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.received | self.sent | self.entries == 0
    }
}

/// One fast-path core. Not shared between threads; its thread owns it and calls [`Self::poll`] in a loop.
pub struct Core<'m, P: Port, S: Steer<P::Packet> = NoSteer> {
    pub(crate) config: Config,
    pub(crate) tables: Tables<'m>,
    pub(crate) memory: CoreMemory<'m>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) port: P,
    pub(crate) steer: S,
    pub(crate) tx: Batch<P::Packet>,
}

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// Starts a core: takes the rings at the positions an earlier process left them, and every flow
    /// whose cold entry is INSTALLED on this core. `now_us` is TCP time ([`abi::clock`]).
    ///
    /// # Errors
    /// A setting out of range, or a region that is too short.
    pub fn new(
        config: Config,
        tables: Tables<'m>,
        memory: CoreMemory<'m>,
        shared: Arc<Shared>,
        port: P,
        steer: S,
        now_us: u64,
    ) -> Result<Self, AttachError> {
        let _ = now_us;
        config.check()?;
        Ok(Self { config, tables, memory, shared, port, steer, tx: Batch::default() })
    }

    /// One iteration of the loop, in bounded time. `now_us` is TCP time and never goes back.
    pub fn poll(&mut self, now_us: u64) -> Work {
        let _ = now_us;
        Work::default()
    }

    /// Changes what the core works on; see [`Command`].
    ///
    /// # Errors
    /// An id above its limit or a region that is too short; nothing was changed then.
    pub fn command(&mut self, command: Command<'m>) -> Result<(), AttachError> {
        let _ = command;
        Ok(())
    }

    /// Calls `wake` with the id of every context that sleeps and has got something since the last call.
    pub fn drain_wakes(&mut self, wake: impl FnMut(u16)) {
        let _ = wake;
    }

    /// True if the slow path sleeps and has got something since the last call: send it a wake-up.
    pub fn slow_path_needs_wake(&mut self) -> bool {
        false
    }

    /// True if the core has nothing to do before [`Self::next_deadline_us`] unless something arrives.
    pub fn may_sleep(&self) -> bool {
        true
    }

    /// TCP time at which the core must be polled even if nothing arrives; `None`: never.
    pub fn next_deadline_us(&self) -> Option<u64> {
        None
    }

    /// Announces that the core is about to sleep, then looks at every ring once more. True: sleep, until
    /// the port or the core's eventfd wakes it or [`Self::next_deadline_us`] comes, then call
    /// [`Self::finish_sleep`]. False: something is there, poll again. (The port's own queue is the shell's to re-check.)
    pub fn prepare_sleep(&mut self) -> bool {
        true
    }

    /// Awake again: the time since the last poll counts as run time. Also to be called when the shell
    /// decided not to sleep after [`Self::prepare_sleep`] said true.
    pub fn finish_sleep(&mut self, now_us: u64) {
        let _ = now_us;
    }

    /// The core stops for good (an orderly end of the process): marks it as not running.
    pub fn stop(&mut self) {}

    /// The port, to ask it for its own things.
    pub fn port_mut(&mut self) -> &mut P {
        &mut self.port
    }
}
