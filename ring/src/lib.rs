// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
#![no_std]
//! Filled in by the first commits.
