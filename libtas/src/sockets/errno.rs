// SPDX-License-Identifier: MIT OR Apache-2.0
//! Error numbers, as the C functions give them.

use std::{fmt, io};

/// A positive errno.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What every socket call of this layer returns.
pub type Result<T> = std::result::Result<T, Errno>;

impl Errno {
    /// The calling thread's errno, after a C function failed.
    pub fn last() -> Self {
        // SAFETY: the location is valid for this thread.
        Self(unsafe { *libc::__errno_location() })
    }
    /// Stores it in the calling thread's errno.
    pub fn set(self) {
        // SAFETY: the location is valid for this thread.
        unsafe { *libc::__errno_location() = self.0 }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", io::Error::from_raw_os_error(self.0), self.0)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Turns the result of a C call that answers -1 into a `Result`.
pub(crate) fn check(result: i64) -> Result<i64> {
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(result)
    }
}
