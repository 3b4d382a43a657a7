// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The sleep/wake protocol.

use crate::sync::{fence, AtomicU32, Ordering};

/// A flag by which a consumer that is about to sleep asks its producers for a wake-up.
///
/// Consumer: [`arm`](Self::arm), look at *every* ring once more, sleep only if all are empty,
/// [`disarm`](Self::disarm). Producer: push, then [`take`](Self::take) (or [`is_armed`](Self::is_armed)
/// where it may only read), and send the wake-up if that is true.
///
/// Either the producer's push comes before the consumer's second look, which then finds the
/// entry, or the consumer's store comes before the producer's load, which then sees the flag: the
/// fences order each side's store before its load (Dekker).
#[derive(Clone, Copy)]
pub struct WakeFlag<'m>(&'m AtomicU32);

impl<'m> WakeFlag<'m> {
    /// Over a shared word.
    pub fn new(word: &'m AtomicU32) -> Self {
        Self(word)
    }

    /// Consumer: asks for a wake-up. Look at every ring again after this.
    #[inline]
    pub fn arm(&self) {
        self.0.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Consumer: awake again.
    #[inline]
    pub fn disarm(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Producer, after a push: true if a wake-up must be sent; at most one producer is told.
    #[inline]
    pub fn take(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) != 0 && self.0.swap(0, Ordering::Relaxed) != 0
    }

    /// Producer without write access, after a push: true if a wake-up must be sent.
    #[inline]
    pub fn is_armed(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) != 0
    }
}
