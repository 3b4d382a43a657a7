// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! TCP options. Any bytes are survived: an option that is malformed ends the parse, and what was
//! read before it counts (RFC 9293 MUST-7).

use super::{get_u16, get_u32};

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const TIMESTAMPS: u8 = 8;
const FAST_OPEN: u8 = 34;
/// Largest shift of a window (RFC 7323 §2.3): a larger one counts as this.
pub(crate) const SHIFT_MAX: u8 = 14;

/// Bytes of a fast-open cookie (RFC 7413 §4.1.1), besides none at all.
const COOKIE_MIN_BYTES: usize = 4;
const COOKIE_MAX_BYTES: usize = 16;

/// A fast-open cookie; an empty one asks for a cookie (RFC 7413 §4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cookie {
    bytes: [u8; COOKIE_MAX_BYTES],
    length: u8,
}

impl Cookie {
    /// Asks for one.
    pub(crate) const REQUEST: Self = Self { bytes: [0; COOKIE_MAX_BYTES], length: 0 };

    /// A cookie of these bytes, if their number is one the RFC allows.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        let length = bytes.len();
        let allowed =
            length == 0 || (COOKIE_MIN_BYTES..=COOKIE_MAX_BYTES).contains(&length) && length % 2 == 0;
        let mut cookie = Self::REQUEST;
        cookie.bytes.get_mut(..length).filter(|_| allowed)?.copy_from_slice(bytes);
        cookie.length = length as u8;
        Some(cookie)
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length as usize).unwrap_or_default()
    }

    /// Whether it asks for one.
    pub(crate) fn is_request(&self) -> bool {
        self.length == 0
    }
}

/// The options we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    /// Maximum segment size, bytes (RFC 9293 §3.7.1).
    pub(crate) mss: Option<u16>,
    /// Window shift (RFC 7323 §2).
    pub(crate) window_shift: Option<u8>,
    /// TSval and TSecr (RFC 7323 §3).
    pub(crate) timestamps: Option<(u32, u32)>,
    /// RFC 2018 §2.
    pub(crate) sack_permitted: bool,
    /// RFC 7413 §4.1.1.
    pub(crate) fast_open: Option<Cookie>,
}

impl Options {
    /// Parses the bytes between TCP header and payload.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut options = Self::default();
        let mut rest = bytes;
        loop {
            match rest {
                [] | [END, ..] => return options,
                [NO_OPERATION, tail @ ..] => rest = tail,
                [kind, length, ..] => {
                    let length = *length as usize;
                    let Some(option) = rest.get(..length) else {
                        return options;
                    };
                    // Shorter than kind and length: malformed; zero would loop for ever.
                    if length < 2 {
                        return options;
                    }
                    options.take(*kind, option);
                    rest = rest.get(length..).unwrap_or_default();
                }
                [_] => return options,
            }
        }
    }

    fn take(&mut self, kind: u8, option: &[u8]) {
        match (kind, option.len()) {
            (MSS, 4) => self.mss = get_u16(option, 2),
            (WINDOW_SCALE, 3) => self.window_shift = option.get(2).map(|shift| (*shift).min(SHIFT_MAX)),
            (SACK_PERMITTED, 2) => self.sack_permitted = true,
            (TIMESTAMPS, 10) => {
                self.timestamps = get_u32(option, 2).zip(get_u32(option, 6));
            }
            (FAST_OPEN, _) => self.fast_open = option.get(2..).and_then(Cookie::new),
            _ => {}
        }
    }

    /// Writes the options, padded to a multiple of four; how many bytes.
    pub(crate) fn write(&self, bytes: &mut [u8]) -> usize {
        let mut at = 0usize;
        let mut emit = |option: &[u8]| {
            super::put(bytes, at, option);
            at = at.wrapping_add(option.len());
        };
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            emit(&[MSS, 4, high, low]);
        }
        if let Some((value, echo)) = self.timestamps {
            // SACK-permitted takes the place of the padding in front of the timestamps.
            emit(if self.sack_permitted { &[SACK_PERMITTED, 2] } else { &[NO_OPERATION, NO_OPERATION] });
            emit(&[TIMESTAMPS, 10]);
            emit(&value.to_be_bytes());
            emit(&echo.to_be_bytes());
        } else if self.sack_permitted {
            emit(&[NO_OPERATION, NO_OPERATION, SACK_PERMITTED, 2]);
        }
        if let Some(shift) = self.window_shift {
            emit(&[NO_OPERATION, WINDOW_SCALE, 3, shift]);
        }
        if let Some(cookie) = &self.fast_open {
            emit(&[FAST_OPEN, cookie.length.wrapping_add(2)]);
            emit(cookie.bytes());
            // The length is even: one word of no-operations at most is missing.
            if cookie.length % 4 == 0 {
                emit(&[NO_OPERATION, NO_OPERATION]);
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, SipKey};

    #[test]
    fn what_is_written_is_read() {
        for bits in 0..64u32 {
            let options = Options {
                mss: (bits & 1 != 0).then_some(1460),
                window_shift: (bits & 2 != 0).then_some(7),
                timestamps: (bits & 4 != 0).then_some((0x0102_0304, 0xfffe_fdfc)),
                sack_permitted: bits & 8 != 0,
                fast_open: [None, Cookie::new(&[]), Cookie::new(&[7; 6]), Cookie::new(&[9; 16])]
                    [bits as usize / 16],
            };
            let mut bytes = [0xffu8; 40];
            let length = options.write(&mut bytes);
            assert!(length % 4 == 0 && length <= 40);
            assert_eq!(Options::parse(&bytes[..length]), options);
        }
    }

    #[test]
    fn any_bytes_of_any_length_end() {
        for seed in 0..50u64 {
            let mut random = Random::new(SipKey(seed, 5));
            for length in 0..=40usize {
                for _ in 0..20 {
                    let mut bytes = [0u8; 40];
                    for byte in bytes.iter_mut() {
                        // Small values make kinds and lengths that matter.
                        *byte =
                            if random.below(4) == 0 { random.next() as u8 } else { random.below(12) as u8 };
                    }
                    let options = Options::parse(&bytes[..length]);
                    assert!(options.window_shift.unwrap_or(0) <= SHIFT_MAX, "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn cookies_have_an_even_number_of_bytes() {
        for length in 0..=38usize {
            let bytes = [&[FAST_OPEN, length as u8 + 2][..], &vec![5; length]].concat();
            let good = length == 0 || (4..=16).contains(&length) && length % 2 == 0;
            assert_eq!(Options::parse(&bytes).fast_open.is_some(), good, "{length}");
        }
    }

    #[test]
    fn malformed_lengths_keep_what_came_before() {
        let mss = [2u8, 4, 5, 0xb4];
        for bad in [&[8u8, 0][..], &[8, 1], &[3], &[3, 200, 1], &[8, 10, 1, 2, 3], &[254, 0, 0, 0]] {
            let bytes = [&mss[..], bad].concat();
            assert_eq!(Options::parse(&bytes), Options { mss: Some(1460), ..Options::default() });
        }
        // Wrong length of a known option: ignored, the rest counts.
        assert_eq!(Options::parse(&[2, 3, 9, 4, 2]), Options { sack_permitted: true, ..Options::default() });
        // Nothing counts after the end of the list.
        assert_eq!(Options::parse(&[0, 4, 2]), Options::default());
    }
}
