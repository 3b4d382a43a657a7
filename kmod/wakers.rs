// SPDX-License-Identifier: GPL-2.0-only
//! Who can be woken without taking the instance's lock.

use crate::eventfd::EventFd;
use kernel::{error::code::*, new_spinlock, prelude::*, sync::{Arc, SpinLock}};

/// Eventfds by number.
#[pin_data]
pub(crate) struct Wakers {
    #[pin]
    slots: SpinLock<KVVec<Option<Arc<EventFd>>>>,
}

impl Wakers {
    pub(crate) fn new(count: u32) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            slots <- new_spinlock!({
                let mut slots = KVVec::with_capacity(count as usize, GFP_KERNEL)?;
                for _ in 0..count {
                    slots.push(None, GFP_KERNEL)?;
                }
                slots
            }),
        })
    }

    /// Whom to wake as number `id` from now on.
    pub(crate) fn set(&self, id: u32, waker: Option<Arc<EventFd>>) {
        let old = match self.slots.lock().get_mut(id as usize) {
            Some(slot) => core::mem::replace(slot, waker),
            None => waker,
        };
        drop(old); // not under the lock: it may be the last reference
    }

    /// Wakes number `id`. ENOENT: nobody is registered under it.
    pub(crate) fn wake(&self, id: u32) -> Result {
        self.slots.lock().get(id as usize).and_then(|slot| slot.as_ref()).ok_or(ENOENT)?.signal();
        Ok(())
    }

    /// Forgets everybody.
    pub(crate) fn clear(&self) {
        let count = self.slots.lock().len();
        for id in 0..count {
            self.set(id as u32, None);
        }
    }
}
