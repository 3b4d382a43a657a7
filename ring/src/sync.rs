// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The atomics of `core`, or of loom when the protocols are being model-checked.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
