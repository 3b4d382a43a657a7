// SPDX-License-Identifier: MIT OR Apache-2.0
//! What did not go through TAS: counted always, explained once per reason on standard error.

use super::real;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a socket is Linux's after all, or a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The slow path could not be reached, or refused.
    NotAttached,
    /// The slow path refused a new socket.
    NoSocket,
    /// bind() or connect() named an address that TAS does not serve.
    AddressNotServed,
    /// IPV6_V6ONLY where the instance has no IPv6.
    Ipv6,
    /// A descriptor number beyond the table, or inside the range of a vfork child.
    Descriptor,
    /// A socket of the parent process was used after fork (shared mode is not there yet).
    Inherited,
}

const REASONS: usize = 6;

static COUNTS: [AtomicU64; REASONS] = [const { AtomicU64::new(0) }; REASONS];

/// How often each reason occurred, in the order of [`Reason`].
pub fn counts() -> [u64; REASONS] {
    std::array::from_fn(|index| COUNTS[index].load(Ordering::Relaxed))
}

/// Counts `reason`; the first time in a process, writes `text` to standard error.
pub(crate) fn count(reason: Reason, text: impl FnOnce() -> String) {
    if COUNTS[reason as usize].fetch_add(1, Ordering::Relaxed) == 0 {
        say(&text());
    }
}

/// Writes a line to standard error, in one piece and without buffers of ours.
pub(crate) fn say(text: &str) {
    let line = format!("tas: {text}\n");
    // SAFETY: the line is readable for its length. Nothing can be done if nobody listens.
    unsafe { real::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}

/// A child begins with counts of its own, and explains again.
pub(crate) fn restart() {
    COUNTS.iter().for_each(|count| count.store(0, Ordering::Relaxed));
}
