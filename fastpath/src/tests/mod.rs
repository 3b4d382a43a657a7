// SPDX-License-Identifier: MIT OR Apache-2.0
//! The core's behaviour, seen by its peer, its application and the slow path.

mod receive;
