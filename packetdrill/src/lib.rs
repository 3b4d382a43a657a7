// SPDX-License-Identifier: MIT OR Apache-2.0
//! An interpreter of the packetdrill language, in virtual time.
//!
//! A script plays the peer of one simulated host: [`sim::Host`], which runs the real slow path, the real
//! fast path and, through the sockets layer, the real `libtas`. [`parse`] turns text into a [`Script`];
//! [`run`] runs it. What is supported, and how it differs from Google's packetdrill, is in
//! `docs/packetdrill.md`.

mod expression;
mod parse;
mod run;
mod script;
mod wire;

pub use parse::{parse, ParseError};
pub use run::{run, Mismatch};
pub use script::Script;
