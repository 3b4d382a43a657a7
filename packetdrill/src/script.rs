// SPDX-License-Identifier: MIT OR Apache-2.0
//! A script as the parser leaves it.

use crate::wire::{Ecn, Segment};

/// A script: options and commands that configure the host, then events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Script {
    /// `--name=value` lines: name and value.
    pub options: Vec<(String, String)>,
    /// Events in the order of the text.
    pub events: Vec<Event>,
}

/// Something that happens, or is to happen, at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Line of the script, from 1.
    pub line: usize,
    /// When.
    pub time: Time,
    /// What.
    pub action: Action,
}

/// When an event happens. Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Counted from the event before, not from the start of the script.
    pub relative: bool,
    /// `*`: whenever.
    pub any: bool,
    /// Earliest.
    pub from_us: u64,
    /// Latest; the same as `from_us` without `~`.
    pub to_us: u64,
    /// `...`: when a blocking call returns.
    pub returns_us: Option<u64>,
}

/// What an event is.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// `<`: the peer sends a segment.
    Send(PacketSpec),
    /// `>`: the host is to send a segment.
    Expect(PacketSpec),
    /// `<` with `icmp`: an ICMP error comes.
    Icmp(IcmpSpec),
    /// A system call and its result.
    Call(Call),
    /// A command between backticks.
    Command(String),
    /// `%{ … }%`.
    Code(String),
}

/// A segment as written, with the script's numbers, and what of it matters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PacketSpec {
    /// The numbers of the script.
    pub segment: Segment,
    /// `win` was written.
    pub has_window: bool,
    /// `<...>`: any options.
    pub any_options: bool,
    /// Congestion mark written.
    pub ecn: Option<EcnSpec>,
    /// `[port N]`: the peer's port.
    pub port: Option<u16>,
    /// `[badsum]`: the TCP checksum is wrong.
    pub bad_checksum: bool,
    /// `[ipopt]`: the IPv4 header carries options (no-operations).
    pub ip_options: bool,
}

/// A congestion mark as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EcnSpec {
    /// Exactly this codepoint.
    Is(Ecn),
    /// ECT(0) or ECT(1).
    Capable,
}

/// An ICMP error.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IcmpSpec {
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// MTU of "fragmentation needed".
    pub mtu: u16,
    /// Sequence number and payload bytes of the segment quoted; the next one of ours if missing.
    pub quoted: Option<(u32, u32)>,
    /// `[port N]`.
    pub port: Option<u16>,
}

/// A system call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Name.
    pub name: String,
    /// Arguments.
    pub arguments: Vec<Argument>,
    /// Expected result; `None` for `?`.
    pub result: Option<i64>,
    /// Expected errno, when the result is -1.
    pub errno: Option<i32>,
}

/// An argument of a system call.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// `...`
    Any,
    /// A number, or constants joined by `|`.
    Number(i64),
    /// A string.
    Text(Vec<u8>),
    /// `[a, b]`
    List(Vec<Argument>),
    /// `{name=a, …}`
    Fields(Vec<(String, Argument)>),
}
