// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection's numbers: the script counts the host's sequence numbers and timestamps from its own
//! start, the wire from the host's.

use crate::wire::{flag, Segment, TcpOption};

/// Half of the time in which a timestamp of a millisecond a tick wraps around: farther apart two of
/// them have no order.
const HALF_WRAP_US: u64 = 1000 << 31;

/// Most data of a SYN.
const SYN_DATA_MAX: u32 = 1460;

/// A connection between the host and the peer that the script plays.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) remote_port: u16,
    pub(super) local_port: u16,
    /// The host's initial sequence number, and what the script calls it.
    start: Option<(u32, u32)>,
    /// The peer's.
    remote_start: Option<u32>,
    /// The host has acknowledged it.
    remote_confirmed: bool,
    /// The peer sent a SYN with another number: the host may begin anew.
    restarted: bool,
    /// TSval of the host: the script's and the wire's, in order of appearance.
    timestamps: Vec<(u32, u32)>,
    /// When the last of them was sent.
    stamped_at_us: u64,
    /// What the application wrote.
    pub(super) written: Vec<u8>,
    /// Bytes the application read.
    pub(super) read: usize,
}

/// The bytes a peer sends and `write(…, ..., n)` writes: told by their position in the stream, and
/// with a period that no segment size has.
pub(super) fn pattern(position: usize) -> u8 {
    (position % 251) as u8 ^ 0x5a
}

impl Connection {
    pub(super) fn new(remote_port: u16, local_port: u16) -> Self {
        Self { remote_port, local_port, ..Self::default() }
    }

    /// What is added to a number of the script for the wire.
    fn shift(&self) -> u32 {
        self.start.map_or(0, |(wire, script)| wire.wrapping_sub(script))
    }

    /// A number of the host's, as on the wire.
    pub(super) fn to_wire(&self, script: u32) -> u32 {
        script.wrapping_add(self.shift())
    }

    /// What the peer sends, as on the wire.
    pub(super) fn outgoing(&mut self, script: &Segment) -> Segment {
        let mut segment = script.clone();
        if script.flags & flag::SYN != 0 && script.flags & flag::RST == 0 {
            self.restarted |= self.remote_start.is_some_and(|start| start != script.seq);
            if !self.remote_confirmed {
                self.remote_start = Some(script.seq);
            }
        }
        if script.flags & flag::ACK != 0 {
            segment.ack = self.to_wire(script.ack);
        }
        for option in &mut segment.options {
            match option {
                TcpOption::Timestamps(_, echo) => *echo = self.echo(*echo),
                TcpOption::Sack(blocks) => {
                    for (left, right) in blocks {
                        (*left, *right) = (left.wrapping_add(self.shift()), right.wrapping_add(self.shift()));
                    }
                }
                _ => {}
            }
        }
        segment
    }

    /// A TSecr of the script's: what it was on the wire, or as far from the first as it is written.
    fn echo(&self, script: u32) -> u32 {
        if let Some((_, wire)) = self.timestamps.iter().rev().find(|(known, _)| *known == script) {
            return *wire;
        }
        match self.timestamps.first() {
            Some((first, wire)) if script != 0 => wire.wrapping_add(script.wrapping_sub(*first)),
            _ => script,
        }
    }

    /// The payload of a segment from the peer.
    pub(super) fn payload(&self, script: &Segment) -> Vec<u8> {
        let start = self.remote_start.unwrap_or(0).wrapping_add(1);
        // Data on a SYN lies behind it.
        let seq = script.seq.wrapping_add(u32::from(script.flags & flag::SYN != 0));
        let first = seq.wrapping_sub(start) as usize;
        (0..script.bytes as usize).map(|index| pattern(first.wrapping_add(index))).collect()
    }

    /// Looks at a segment of the host's that is compared with `script`.
    pub(super) fn notice(&mut self, wire: &Segment, script: &Segment) {
        let syn = wire.flags & flag::SYN != 0;
        if syn && (self.start.is_none() || (self.restarted && wire.flags & flag::ACK != 0)) {
            self.start = Some((wire.seq, script.seq));
            self.restarted = false;
            self.remote_confirmed = false;
            self.timestamps.clear();
        }
        if wire.flags & (flag::ACK | flag::RST) == flag::ACK && !self.remote_confirmed {
            self.remote_confirmed = true;
            // Data of the peer's SYN may be acknowledged with it (RFC 7413).
            let known = self.remote_start.is_some_and(|start| {
                let taken = wire.ack.wrapping_sub(start.wrapping_add(1));
                taken <= SYN_DATA_MAX
            });
            if syn && !known {
                self.remote_start = Some(wire.ack.wrapping_sub(1));
            }
        }
    }

    /// A segment of the host's in the script's numbers, timestamps as they are.
    pub(super) fn incoming(&self, wire: &Segment) -> Segment {
        let mut segment = wire.clone();
        // A RST in answer to something without ACK has number zero (RFC 9293 §3.10.7.1).
        let refusal = wire.flags & (flag::RST | flag::ACK) == flag::RST | flag::ACK && wire.seq == 0;
        if !refusal {
            segment.seq = wire.seq.wrapping_sub(self.shift());
        }
        segment
    }

    /// Compares a TSval with what the script says, and remembers both. `tick_us`, unless zero: how long
    /// a unit of the script's is.
    pub(super) fn stamp(
        &mut self,
        script: u32,
        wire: u32,
        at_us: u64,
        tick_us: u64,
        tolerance_us: u64,
    ) -> Result<(), String> {
        let passed = at_us.saturating_sub(self.stamped_at_us);
        if let Some((last_script, last_wire)) = self.timestamps.last().filter(|_| passed < HALF_WRAP_US) {
            let (script_step, wire_step) = (script.wrapping_sub(*last_script), wire.wrapping_sub(*last_wire));
            if (wire_step as i32) < 0 {
                return Err("the timestamp is older than the one before".to_owned());
            }
            if script_step != 0 && (wire_step == 0) != ((script_step as i32) < 0) {
                return Err(format!("the timestamp is {wire_step} units after the one before"));
            }
            if tick_us != 0 && (u64::from(script_step) * tick_us).abs_diff(passed) > tolerance_us + tick_us {
                return Err(format!("the timestamp before was sent {passed} us ago"));
            }
        }
        self.timestamps.push((script, wire));
        self.stamped_at_us = at_us;
        Ok(())
    }

    /// Compares the payload of a segment of the host's, at `seq` on the wire, with what was written.
    pub(super) fn check_payload(&self, seq: u32, payload: &[u8]) -> Result<(), String> {
        let Some((start, _)) = self.start.filter(|_| !payload.is_empty()) else {
            return Ok(());
        };
        let first = seq.wrapping_sub(start.wrapping_add(1)) as usize;
        match self.written.get(first..first + payload.len()) {
            Some(written) if written == payload => Ok(()),
            Some(_) => Err("the payload is not what was written".to_owned()),
            None => Err(format!("a payload beyond the {} bytes written", self.written.len())),
        }
    }
}
