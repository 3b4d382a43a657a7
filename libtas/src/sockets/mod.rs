// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sockets layer: Linux's socket calls over the [low-level API](crate::lowlevel).
//!
//! A TAS socket is a real descriptor, so numbers, `dup`, close-on-exec and the end of the process
//! are the kernel's. [`find`] says, without a lock, which descriptors are ours; every call on one
//! of those has its function here, every other call goes to the C library ([`real`]).
//!
//! * [`table`]: descriptor number → name of an object. `slab`: name → object, generation checked.
//! * `engine`: all sockets and epoll instances, behind one lock with short critical sections. Payload is
//!   copied outside it.
//! * `stream`, `epoll`, [`options`], [`address`]: their state and rules, free of system calls.
//! * `wait`, `bell`: blocking, and how threads wake each other.
//! * `process`, `fork`: the attachment, made by the first TCP socket, and children.
//! * [`open`], [`accept`], [`receive`], [`send`], [`sockopt`], [`descriptors`], [`poll`], [`epoll_calls`]: the calls.
//!
//! Sockets are *exclusive*: one process. A child of fork gets an error on what it inherited, may
//! close it, and opens its own.

pub mod accept;
pub mod address;
mod bell;
pub mod descriptors;
mod engine;
mod epoll;
pub mod epoll_calls;
pub mod errno;
pub mod fast_open;
mod fork;
pub mod open;
pub mod options;
pub mod poll;
mod process;
pub mod real;
pub mod receive;
pub mod report;
pub mod send;
mod slab;
pub mod sockopt;
mod stream;
pub mod table;
mod urgent;
mod wait;

pub use errno::{Errno, Result};
pub use process::{attach_to, set_fresh_ticks};
pub use table::{Entry, Token};

/// What `fd` is, if it is ours. In a child of fork the parent's sockets are [`Entry::Foreign`].
#[inline]
pub fn find(fd: i32) -> Option<Entry> {
    process::find(fd)
}

/// The answer to a call on a socket inherited through fork: counted, said once.
pub fn inherited<T>() -> Result<T> {
    report::count(report::Reason::Inherited, || {
        "a TAS socket was used in a child process; sockets shared between processes are not served yet".into()
    });
    Err(Errno(libc::EOPNOTSUPP))
}
