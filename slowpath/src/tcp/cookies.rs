// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! SYN cookies (RFC 4987 §3.6): what a half-open connection would remember travels in the sequence
//! number of our SYN-ACK and in the low bits of its timestamp, and comes back with the ACK.
//!
//! The layout is Linux's, but for the distance of the indices: the top byte of the sequence number hides a clock of
//! 67 s, the rest the index of the peer's MSS; six bits of the timestamp hold window shift, SACK and ECN. A peer without
//! timestamps gets neither of those three. Keys change every nine minutes and never repeat.

use crate::{lookup::Tuple, random::SipKey};

/// MSS values a cookie can hold: the largest that is not above the peer's counts. The last is of jumbo frames, over IPv6.
const MSS_TABLE: [u16; 8] = [48, 256, 536, 1220, 1380, 1440, 1460, 8940];
/// One tick of the cookies' clock: 2^26 µs, 67 s.
const TICK_SHIFT: u32 = 26;
/// Ticks during which a cookie is good, the running one included: one to two minutes.
const TICKS_VALID: u32 = 2;
/// Ticks of one key: 2^3, nine minutes.
const KEY_SHIFT: u32 = 3;
/// How long after a listener sent its last cookie an ACK may be one, microseconds.
pub(crate) const LIFE_US: u64 = (TICKS_VALID as u64) << TICK_SHIFT;
/// Bits of a timestamp that hold options.
const STAMP_MASK: u32 = 63;
const STAMP_NO_SHIFT: u32 = 15;
const STAMP_SACK: u32 = 16;
const STAMP_ECN: u32 = 32;
/// Low part of the sequence number: the MSS's index, blinded.
const DATA_MASK: u32 = 0x00ff_ffff;
/// What lies between the indices, 2^24 over the golden ratio: with neighbours an ACK of our FIN, one more than the cookie,
/// would be the answer to another cookie, and open a connection again that is over.
const INDEX_STEP: u32 = 0x009e_3779;

/// Options of a SYN that a timestamp can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamped {
    pub(crate) window_shift: Option<u8>,
    pub(crate) sack: bool,
    pub(crate) ecn: bool,
}

/// Ticks of the cookies' clock at TCP time `now_us`.
pub(crate) const fn ticks(now_us: u64) -> u32 {
    (now_us >> TICK_SHIFT) as u32
}

/// Two blinding values of a four-tuple and a SYN's number in one tick.
fn blinds(secret: &SipKey, tuple: &Tuple, irs: u32, tick: u32) -> (u32, u32) {
    let period = u64::from(tick >> KEY_SHIFT);
    let key =
        SipKey(secret.hash([period, 0x7461_735f_636f_6f30]), secret.hash([period, 0x7461_735f_636f_6f31]));
    let hash = tuple.hash_with(&key, tick);
    let hash = key.hash([hash, irs as u64]);
    (hash as u32, (hash >> 32) as u32)
}

/// The sequence number of a SYN-ACK in answer to a SYN numbered `irs` that announced `mss`.
pub(crate) fn make(secret: &SipKey, tuple: &Tuple, irs: u32, mss: u16, tick: u32) -> u32 {
    let index = MSS_TABLE.iter().rposition(|entry| *entry <= mss).unwrap_or(0) as u32;
    let (whole, low) = blinds(secret, tuple, irs, tick);
    whole.wrapping_add(irs).wrapping_add(tick << 24).wrapping_add(data(low, index))
}

/// The low part that stands for `index`.
fn data(low: u32, index: u32) -> u32 {
    low.wrapping_add(index.wrapping_mul(INDEX_STEP)) & DATA_MASK
}

/// The MSS that `cookie` was made with, if it is one of ours, for this connection, and not too old.
pub(crate) fn check(secret: &SipKey, tuple: &Tuple, irs: u32, cookie: u32, tick: u32) -> Option<u16> {
    (0..TICKS_VALID).find_map(|age| {
        let tick = tick.wrapping_sub(age);
        let (whole, low) = blinds(secret, tuple, irs, tick);
        let rest = cookie.wrapping_sub(whole).wrapping_sub(irs).wrapping_sub(tick << 24);
        let (_, mss) = (0..).zip(MSS_TABLE).find(|(index, _)| data(low, *index) == rest)?;
        Some(mss)
    })
}

/// A timestamp not later than `value` whose low bits hold `options`.
pub(crate) fn stamp(value: u32, options: &Stamped) -> u32 {
    let shift = options.window_shift.map_or(STAMP_NO_SHIFT, u32::from);
    let sack = if options.sack { STAMP_SACK } else { 0 };
    let ecn = if options.ecn { STAMP_ECN } else { 0 };
    let bits = shift & STAMP_NO_SHIFT | sack | ecn;
    let stamped = value & !STAMP_MASK | bits;
    if bits > value & STAMP_MASK {
        stamped.wrapping_sub(STAMP_MASK.wrapping_add(1))
    } else {
        stamped
    }
}

/// The options in a timestamp made by [`stamp`].
pub(crate) fn unstamp(value: u32) -> Stamped {
    let shift = value & STAMP_NO_SHIFT;
    Stamped {
        window_shift: (shift != STAMP_NO_SHIFT).then_some(shift as u8),
        sack: value & STAMP_SACK != 0,
        ecn: value & STAMP_ECN != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{random::Random, wire::address::Address};

    /// An address of either family, by turns.
    fn address(random: &mut Random, seed: u64) -> Address {
        let words = [(); 4].map(|()| random.next() as u32);
        if seed % 2 == 0 {
            Address::v4(words[0])
        } else {
            Address::v6(words)
        }
    }

    const SECRET: SipKey = SipKey(11, 12);

    #[test]
    fn a_cookie_is_good_for_its_connection_and_its_time_only() {
        for seed in 0..200u64 {
            std::println!("seed {seed}");
            let mut random = Random::new(SipKey(seed, 1));
            let tuple =
                Tuple::new(address(&mut random, seed), 80, address(&mut random, seed), random.next() as u16);
            let (irs, tick) = (random.next() as u32, random.next() as u32);
            let mss = 48 + random.below(if seed % 2 == 0 { 2000 } else { 10_000 }) as u16;
            let cookie = make(&SECRET, &tuple, irs, mss, tick);
            for age in 0..TICKS_VALID {
                let found = check(&SECRET, &tuple, irs, cookie, tick.wrapping_add(age)).unwrap();
                assert!(
                    found <= mss && (mss < 1460 || found >= 1460) && (mss < 8940 || found == 8940),
                    "{mss} {found}"
                );
            }
            for age in TICKS_VALID..300 {
                assert_eq!(check(&SECRET, &tuple, irs, cookie, tick.wrapping_add(age)), None, "age {age}");
            }
            assert_eq!(check(&SECRET, &tuple, irs.wrapping_add(1), cookie, tick), None);
            // What acknowledges data or a FIN besides is no cookie.
            for more in 1..3000 {
                assert_eq!(check(&SECRET, &tuple, irs, cookie.wrapping_add(more), tick), None);
            }
            assert_eq!(check(&SipKey(11, 13), &tuple, irs, cookie, tick), None);
            let other = Tuple { ports: tuple.ports ^ 1, ..tuple };
            assert_eq!(check(&SECRET, &other, irs, cookie, tick), None);
            if let ([first, rest @ ..], false) = (tuple.remote.words(), tuple.remote.is_v4()) {
                let [a, b, c] = rest;
                let other = Tuple { remote: Address::v6([first ^ 1, a, b, c]), ..tuple };
                assert_eq!(
                    check(&SECRET, &other, irs, cookie, tick),
                    None,
                    "every bit of the address counts"
                );
            }
        }
    }

    #[test]
    fn guesses_fail() {
        let tuple = Tuple::new(Address::v4(1), 2, Address::v4(3), 4);
        let mut random = Random::new(SipKey(9, 9));
        let hits = (0..200_000).filter(|_| check(&SECRET, &tuple, 77, random.next() as u32, 1000).is_some());
        assert!(hits.count() <= 1, "one in 2^28 is expected");
    }

    #[test]
    fn keys_change() {
        let tuple = Tuple::new(Address::v4(1), 2, Address::v4(3), 4);
        let (first, second) = (1u32 << KEY_SHIFT, 2u32 << KEY_SHIFT);
        let difference = make(&SECRET, &tuple, 0, 1460, second) ^ make(&SECRET, &tuple, 0, 1460, first);
        assert_ne!(difference & DATA_MASK, 0);
        // Across the change an old cookie is still good.
        let old = make(&SECRET, &tuple, 0, 1460, second - 1);
        assert_eq!(check(&SECRET, &tuple, 0, old, second), Some(1460));
    }

    #[test]
    fn stamps_round_trip_and_never_lie_ahead() {
        for shift in [None, Some(0), Some(7), Some(14)] {
            for bits in 0..4 {
                let options = Stamped { window_shift: shift, sack: bits & 1 != 0, ecn: bits & 2 != 0 };
                for value in [0u32, 1, 63, 64, 1000, u32::MAX, u32::MAX - 63] {
                    let stamped = stamp(value, &options);
                    assert_eq!(unstamp(stamped), options);
                    assert!(value.wrapping_sub(stamped) <= 127, "{value} {stamped}");
                }
            }
        }
    }
}
