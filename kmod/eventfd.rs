// SPDX-License-Identifier: GPL-2.0-only
//! Eventfds: how the module wakes a fast-path core or an application thread.

use core::ptr::NonNull;
use kernel::{bindings, error::{code::*, from_err_ptr}, prelude::*};

/// A reference to an eventfd of a process.
pub(crate) struct EventFd(NonNull<bindings::eventfd_ctx>);

// SAFETY: reference-counted and locks itself.
unsafe impl Send for EventFd {}
// SAFETY: as above.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// From a descriptor of the calling process. EBADF or EINVAL if it is not an eventfd.
    pub(crate) fn from_descriptor(descriptor: u32) -> Result<Self> {
        let descriptor = i32::try_from(descriptor).map_err(|_| EBADF)?;
        // SAFETY: FFI; any number is fine.
        let context = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(descriptor) })?;
        NonNull::new(context).map(Self).ok_or(EBADF)
    }

    /// Adds one and wakes whoever reads or polls it. Does not sleep.
    pub(crate) fn signal(&self) {
        // SAFETY: we hold a reference.
        unsafe { bindings::eventfd_signal_mask(self.0.as_ptr(), 0) }
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: the reference from `from_descriptor`.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) }
    }
}
