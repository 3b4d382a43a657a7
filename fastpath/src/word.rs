// SPDX-License-Identifier: MIT OR Apache-2.0
//! Relaxed access to the words of shared tables, in fewer letters.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A shared word that one side writes.
pub(crate) trait Word {
    /// Its plain type.
    type Value;
    /// Reads it.
    fn get(&self) -> Self::Value;
    /// Writes it.
    fn set(&self, value: Self::Value);
    /// Writes it after everything written before: what a restarted fast path relies on.
    fn commit(&self, value: Self::Value);
}

impl Word for AtomicU32 {
    type Value = u32;
    #[inline(always)]
    fn get(&self) -> u32 {
        self.load(Ordering::Relaxed)
    }
    #[inline(always)]
    fn set(&self, value: u32) {
        self.store(value, Ordering::Relaxed);
    }
    #[inline(always)]
    fn commit(&self, value: u32) {
        self.store(value, Ordering::Release);
    }
}

impl Word for AtomicU64 {
    type Value = u64;
    #[inline(always)]
    fn get(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
    #[inline(always)]
    fn set(&self, value: u64) {
        self.store(value, Ordering::Relaxed);
    }
    #[inline(always)]
    fn commit(&self, value: u64) {
        self.store(value, Ordering::Release);
    }
}
