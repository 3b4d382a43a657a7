// SPDX-License-Identifier: MIT OR Apache-2.0
//! One stream on the wire. Positions count bytes from the first after the SYN.

use crate::segment::Segment;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Half {
    /// Its SYN was sent.
    pub(crate) open: bool,
    pub(crate) iss: u32,
    /// What its SYN offered.
    pub(crate) shift: Option<u8>,
    pub(crate) mss: u16,
    pub(crate) timestamps: bool,
    pub(crate) sack: bool,
    /// Window of its SYN.
    pub(crate) syn_window: i64,
    /// End of what was sent.
    pub(crate) end: i64,
    /// Position of the FIN, once sent.
    pub(crate) fin: Option<i64>,
    /// What was delivered without a gap, the FIN included; and what was beyond a gap.
    pub(crate) prefix: i64,
    beyond: Vec<(i64, i64)>,
    /// Right edge of the window as the receiver advertised it at most, and as the sender can know.
    pub(crate) edge_sent: i64,
    pub(crate) edge_known: i64,
    pub(crate) last_timestamp: Option<u32>,
    /// Highest acknowledgement that reached the sender.
    pub(crate) acked: i64,
    bytes: Vec<u8>,
    has_gaps: bool,
    /// Bytes sent beyond what the rate allows at this moment, and when that was counted.
    excess: u64,
    excess_at_us: u64,
}

/// Pacing credit that a late sender may use up at once, microseconds.
const CREDIT_US: u64 = 50;

/// A stream that is not checked is followed over gaps of so many bytes: more than any window.
const FOLLOW_BYTES: i64 = 1 << 20;

impl Half {
    /// Its SYN was sent.
    pub(crate) fn begin(&mut self, syn: &Segment) {
        *self = Self {
            open: true,
            iss: syn.seq,
            shift: syn.window_shift,
            mss: syn.mss.unwrap_or(536),
            timestamps: syn.timestamps.is_some(),
            sack: syn.sack_permitted,
            syn_window: i64::from(syn.window),
            ..Self::default()
        };
    }

    /// Position of a sequence number.
    pub(crate) fn relative(&self, seq: u32) -> i64 {
        let near = self.iss.wrapping_add(1).wrapping_add(self.end as u32);
        self.end + i64::from(seq.wrapping_sub(near) as i32)
    }

    /// Whether a number is of a stream that has just begun here.
    pub(crate) fn begins_near(&self, seq: u32) -> bool {
        (0..FOLLOW_BYTES).contains(&self.relative(seq))
    }

    /// The sender heard an acknowledgement with a window, if it is of what was sent.
    pub(crate) fn acknowledged(&mut self, ack: u32, window_bytes: i64) {
        let ack = self.relative(ack);
        if (0..=self.end + 1).contains(&ack) {
            self.acked = self.acked.max(ack);
            self.edge_known = self.edge_known.max(ack + window_bytes);
        }
    }

    /// Sequence number of a position.
    pub(crate) fn sequence(&self, position: i64) -> u32 {
        self.iss.wrapping_add(1).wrapping_add(position as u32)
    }

    /// A segment that is not checked was sent: where the stream ends now.
    pub(crate) fn follow(&mut self, segment: &Segment) {
        let end = self.relative(segment.seq) + segment.payload_bytes as i64;
        if self.open && (self.end..self.end + FOLLOW_BYTES).contains(&end) {
            self.end = end;
        }
    }

    /// `start..end` reached the other host.
    pub(crate) fn deliver(&mut self, start: i64, end: i64) {
        if start > self.prefix {
            self.beyond.push((start, end));
            return;
        }
        self.prefix = self.prefix.max(end);
        while let Some(index) = self.beyond.iter().position(|(start, _)| *start <= self.prefix) {
            let (_, end) = self.beyond.swap_remove(index);
            self.prefix = self.prefix.max(end);
        }
    }

    /// The receiver has everything, the FIN included: its window means nothing any more.
    pub(crate) fn is_all_delivered(&self) -> bool {
        self.fin.is_some_and(|fin| self.prefix > fin)
    }

    /// Whether the bytes at `start` are those that were there before; keeps new ones.
    pub(crate) fn repeats(&mut self, start: i64, payload: &[u8]) -> bool {
        let start = start as usize;
        if start > self.bytes.len() {
            // Only after a kill; from here on nothing is known of what was skipped.
            self.has_gaps = true;
            self.bytes.resize(start, 0);
        }
        let known = (self.bytes.len() - start).min(payload.len());
        if !self.has_gaps && self.bytes[start..start + known] != payload[..known] {
            return false;
        }
        self.bytes.extend_from_slice(&payload[known..]);
        true
    }

    /// Whether `bytes` more keep to `rate` (bytes per second), counting from the last such call.
    pub(crate) fn within_rate(&mut self, now_us: u64, bytes: u64, rate: u64, mtu: u64) -> bool {
        // Two per cent for the rounding of the time per byte.
        let drained = (now_us - self.excess_at_us) * (rate + rate / 50) / 1_000_000;
        self.excess = self.excess.saturating_sub(drained) + bytes;
        self.excess_at_us = now_us;
        // One frame may always begin; wheel slots and the world's own steps are of microseconds.
        self.excess <= rate * (CREDIT_US + 10) / 1_000_000 + 2 * (mtu + 14)
    }

    /// A new fast path begins to pace anew.
    pub(crate) fn forget_rate(&mut self) {
        self.excess = 0;
    }
}
