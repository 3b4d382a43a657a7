// SPDX-License-Identifier: MIT OR Apache-2.0
//! The low-level API against a slow path and a fast path that the test plays itself, in memory.

mod data;
mod fake;
mod property;
mod threads;
mod urgent;
mod waiting;
