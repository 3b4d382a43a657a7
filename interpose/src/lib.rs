// SPDX-License-Identifier: MIT OR Apache-2.0
//! `libtas_interpose.so`: preloaded, it takes the C library's socket calls and hands those on TAS
//! descriptors to [`tas::sockets`]. No state lives here.
//!
//! Every function looks its descriptor up (two loads for one that is not ours) and goes on to the
//! C library's own function unless it is ours. Symbols are resolved at first use, without a lock.
//! Calls that this library itself makes on its own files come through here like any other and are
//! found not to be ours.

// The functions are public by name, to the dynamic linker.
#![allow(unreachable_pub)]

mod answer;
mod data;
mod descriptors;
mod epoll;
mod fortified;
mod poll;
mod setup;
