// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain readings of what several targets need.

use slowpath::testing as slow;

/// Two bytes at `at`, network order.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Four bytes at `at`, network order.
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Sum of 16-bit words in ones' complement (RFC 1071): all ones if a checksum among them is right. Words that are all
/// zero sum to zero.
pub(crate) fn ones_sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What options say (RFC 9293 §3.2): the last of each kind that has its right length, up to the end of the list or the
/// first that cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) mss: Option<u16>,
    pub(crate) shift: Option<u8>,
    pub(crate) sack_permitted: bool,
    pub(crate) timestamps: Option<(u32, u32)>,
    /// A cookie of as many bytes as there may be (RFC 7413 §4.1.1).
    pub(crate) fast_open: Option<Vec<u8>>,
    pub(crate) sack: bool,
    /// The edges of each SACK option.
    pub(crate) blocks: Vec<Vec<(u32, u32)>>,
}

/// Reads them.
pub(crate) fn read_options(bytes: &[u8]) -> Options {
    let mut options = Options::default();
    let mut at = 0;
    while at < bytes.len() && bytes[at] != 0 {
        if bytes[at] == 1 {
            at += 1;
            continue;
        }
        let length = bytes.get(at + 1).map_or(0, |length| usize::from(*length));
        if length < 2 || at + length > bytes.len() {
            break;
        }
        let value = &bytes[at + 2..at + length];
        match (bytes[at], value.len()) {
            (2, 2) => options.mss = be16(value, 0),
            (3, 1) => options.shift = Some(value[0]),
            (4, 0) => options.sack_permitted = true,
            (5, _) => {
                options.sack = true;
                let edges =
                    value.chunks_exact(8).map(|block| (be32(block, 0).unwrap(), be32(block, 4).unwrap()));
                options.blocks.push(edges.collect());
            }
            (8, 8) => options.timestamps = be32(value, 0).zip(be32(value, 4)),
            (34, bytes) => {
                let good = bytes == 0 || (bytes % 2 == 0 && (4..=16).contains(&bytes));
                options.fast_open = good.then(|| value.to_vec());
            }
            _ => {}
        }
        at += length;
    }
    options
}

/// A cookie as the slow path says it.
pub(crate) fn padded(cookie: &[u8]) -> ([u8; 16], usize) {
    let mut bytes = [0; 16];
    bytes[..cookie.len()].copy_from_slice(cookie);
    (bytes, cookie.len())
}

impl Options {
    /// As the slow path says it.
    pub(crate) fn of_slow_path(&self) -> slow::Options {
        slow::Options {
            mss: self.mss,
            // RFC 7323 §2.3.
            window_shift: self.shift.map(|shift| shift.min(14)),
            timestamps: self.timestamps,
            sack_permitted: self.sack_permitted,
            fast_open: self.fast_open.as_ref().map(|cookie| padded(cookie)),
        }
    }
}
