// SPDX-License-Identifier: MIT OR Apache-2.0
//! Segments of no flow, before the slow path works on them. It answers a bounded number a second with RST and refuses
//! the rest; what is beyond that bound, and expected by nobody, is refused here, for less than an accepted segment costs.

use crate::{
    core::Core,
    ipv6, lookup,
    parse::{flag, parse, Segment, Verdict},
    port::{Port, RxChecksum, Steer},
};

/// Segments that nobody expects handed to the slow path, per millisecond: what it answers (its limit is 20,000 a second).
const PER_MS: u64 = 20;
/// So many may come at once after silence: what the peers of a host that was restarted send.
const BURST: u64 = 1000;
/// Four-tuples remembered as a power of two: those of a second of ordinary connection set-up.
const REMEMBERED: usize = 4096;
/// Segments that a remembered four-tuple may send before it is remembered again: an initial window, and what is
/// retransmitted. Without a bound its owner could flood.
const ALLOWED: u64 = 64;

/// What a core knows of segments without a flow.
pub(crate) struct Strangers {
    /// Upper half of the hash of a four-tuple from which segments are expected, and how many more.
    expected: Box<[u64; REMEMBERED]>,
    tokens: u64,
    refilled_ms: u64,
}

impl Strangers {
    pub(crate) fn new() -> Self {
        Self { expected: Box::new([0; REMEMBERED]), tokens: BURST, refilled_ms: 0 }
    }

    fn index(hash: u64) -> usize {
        hash as usize & (REMEMBERED - 1)
    }

    /// Segments of this four-tuple are to be expected: the slow path sent it something, or its flow has just ended.
    pub(crate) fn expect(&mut self, hash: u64) {
        self.expected[Self::index(hash)] = hash >> 32 << 32 | ALLOWED;
    }

    /// Whether the slow path is to see a segment of no flow. `opens`: it is a SYN, for which listeners have limits of
    /// their own (RFC 4987).
    pub(crate) fn admit(&mut self, hash: u64, opens: bool, now_us: u64) -> bool {
        if opens {
            return true;
        }
        let entry = &mut self.expected[Self::index(hash)];
        if *entry >> 32 == hash >> 32 && *entry & 0xffff_ffff > 0 {
            *entry -= 1;
            return true;
        }
        let now_ms = now_us >> 10;
        if now_ms != self.refilled_ms {
            let passed = now_ms.saturating_sub(self.refilled_ms).min(BURST);
            self.tokens = (self.tokens + passed * PER_MS).min(BURST);
            self.refilled_ms = now_ms;
        }
        let allowed = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        allowed
    }
}

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// The slow path sends a frame: its receiver may answer. A RST is not answered.
    pub(crate) fn expect_answer(&mut self, frame: &[u8]) {
        let mut segment = Segment::default();
        let verdict = parse(frame, RxChecksum::Good, &mut segment);
        if segment.flags & flag::RST != 0 {
            return;
        }
        // As the receiver's segments will look from here.
        let (key, ports) = (self.config.hash_key, segment.ports.rotate_left(16));
        let hash = match verdict {
            Verdict::Tcp => lookup::hash(key, segment.local_ip, segment.remote_ip, ports),
            Verdict::Tcp6 => ipv6::hash(key, &ipv6::addresses(frame).turned(), ports),
            _ => return,
        };
        self.strangers.expect(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_limited_and_what_is_expected_passes() {
        let mut strangers = Strangers::new();
        let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let now_us = 5 << 20;
        let passed = (0..100_000).filter(|number| strangers.admit(hash(*number), false, now_us)).count();
        assert_eq!(passed as u64, BURST);
        let passed = (0..100_000).filter(|at| strangers.admit(hash(*at), false, now_us + at * 10)).count();
        assert!((19_000..21_000).contains(&passed), "{passed} in a second");
        strangers.expect(hash(7));
        let now_us = now_us + 1_000_000;
        let passed = (0..100).filter(|_| strangers.admit(hash(7), false, now_us)).count() as u64;
        assert!((ALLOWED..=ALLOWED + 2 * PER_MS).contains(&passed), "{passed}");
        assert!(strangers.admit(hash(8), true, now_us), "a SYN");
    }
}
