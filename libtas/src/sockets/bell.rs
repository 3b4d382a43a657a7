// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bell per thread: how a thread that took events wakes the one that waits for them.

use super::{fork, real};
use crate::sys;
use std::{
    cell::RefCell,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
};

/// An eventfd and whether it was written.
#[derive(Debug)]
pub(crate) struct Bell {
    event: OwnedFd,
    rung: AtomicBool,
}

impl Bell {
    fn new() -> std::io::Result<Self> {
        Ok(Self { event: sys::eventfd()?, rung: AtomicBool::new(false) })
    }

    /// Wakes its thread; many rings before it looks are one.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // An eventfd that cannot be written is readable already.
            let _ = sys::eventfd_signal(self.event.as_fd());
        }
    }

    /// Its thread, awake again. Look at what you wait for after this.
    pub(crate) fn answer(&self) {
        if self.rung.load(Ordering::Acquire) {
            let mut count = 0u64;
            // SAFETY: eight bytes are writable; the eventfd does not block.
            let read = unsafe { real::read(self.event.as_raw_fd(), (&raw mut count).cast(), 8) };
            // Nothing to read: the ringer is between its two steps, its write comes yet.
            if read == 8 {
                self.rung.store(false, Ordering::Release);
            }
        }
    }

    /// Readable after a ring.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

thread_local! {
    /// The thread's bell and the process it was made in.
    static MINE: RefCell<Option<(u32, Arc<Bell>)>> = const { RefCell::new(None) };
}

/// The calling thread's bell; made at first use, anew in a child process.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub(crate) fn mine() -> std::io::Result<Arc<Bell>> {
    MINE.with(|mine| {
        let mut mine = mine.borrow_mut();
        match &*mine {
            Some((process, bell)) if *process == fork::owner() => Ok(bell.clone()),
            _ => {
                let bell = Arc::new(Bell::new()?);
                *mine = Some((fork::owner(), bell.clone()));
                Ok(bell)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(bell: &Bell) -> bool {
        let mut set = [libc::pollfd { fd: bell.descriptor(), events: libc::POLLIN, revents: 0 }];
        sys::ppoll(&mut set, Some(0)).unwrap() == 1
    }

    #[test]
    fn rings_once_until_answered() {
        let bell = mine().unwrap();
        assert!(Arc::ptr_eq(&bell, &mine().unwrap()));
        bell.ring();
        bell.ring();
        assert!(is_readable(&bell));
        bell.answer();
        assert!(!is_readable(&bell));
        bell.ring();
        assert!(is_readable(&bell));
        bell.answer();
    }
}
