// SPDX-License-Identifier: GPL-2.0-only
//! Error numbers between the stack and the kernel.

use kernel::{error::Error, prelude::*};

/// The stack's positive errno as the kernel's error.
pub(crate) fn from_stack(errno: slowpath::Errno) -> Error {
    i32::try_from(errno.0).map_or(EINVAL, |number| Error::from_errno(-number))
}
