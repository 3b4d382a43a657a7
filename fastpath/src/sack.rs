// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an acknowledgement says beside its number: SACK and DSACK blocks (RFC 2018, 2883), the timestamp it echoes.

use abi::flow::extend;

/// Blocks that fit into a header (RFC 2018 §3).
pub(crate) const BLOCKS_MAX: usize = 4;

/// The options of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Report {
    /// TSecr, if there is a timestamps option (RFC 7323 §3.2).
    pub(crate) echo: Option<u32>,
    /// Data beyond the acknowledgement that the peer has, in the order in which it said so.
    blocks: [(u64, u64); BLOCKS_MAX],
    count: usize,
    /// Data that the peer received twice.
    pub(crate) duplicate: Option<(u64, u64)>,
}

impl Report {
    pub(crate) fn blocks(&self) -> &[(u64, u64)] {
        self.blocks.get(..self.count).unwrap_or(&[])
    }

    /// From the options of a segment that acknowledges `ack`; what was sent reaches from `una` (before it) to `max`. A
    /// block of what was never sent is left out, and so is one that says nothing.
    pub(crate) fn read(options: &[u8], una: u64, ack: u64, max: u64) -> Self {
        let mut report = Self::default();
        let mut rest = options;
        while let [kind, after @ ..] = rest {
            if *kind == 1 {
                rest = after;
                continue;
            }
            let bytes = after.first().map_or(0, |bytes| usize::from(*bytes));
            let Some((option, next)) = rest.split_at_checked(bytes).filter(|_| *kind != 0 && bytes >= 2)
            else {
                break;
            };
            match option {
                [8, 10, _, _, _, _, a, b, c, d] => report.echo = Some(u32::from_be_bytes([*a, *b, *c, *d])),
                [5, _, blocks @ ..] if report.count == 0 && report.duplicate.is_none() => {
                    report.take_blocks(blocks, una, ack, max);
                }
                _ => {}
            }
            rest = next;
        }
        report
    }

    fn take_blocks(&mut self, bytes: &[u8], una: u64, ack: u64, max: u64) {
        let word = |bytes: &[u8]| bytes.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let mut first = None;
        for (index, block) in bytes.chunks_exact(8).take(BLOCKS_MAX).enumerate() {
            let (start, end) = (extend(word(block), ack), extend(block.get(4..).map_or(0, word), ack));
            if start >= end || end > max {
                continue;
            }
            // RFC 2883 §4: only the first block can tell of a duplicate, by lying below the acknowledgement or within
            // the second block.
            match (index, first) {
                (0, _) => {
                    first = Some((start, end));
                    if end <= ack {
                        // What was acknowledged long ago is of no use.
                        self.duplicate =
                            (end > una.wrapping_sub(u64::from(u32::MAX >> 1))).then_some((start, end));
                        continue;
                    }
                }
                (1, Some((low, high))) if low >= ack.max(start) && high <= end => {
                    self.duplicate = Some((low, high));
                    self.count = 0;
                }
                _ => {}
            }
            if start >= ack && self.count < BLOCKS_MAX {
                self.blocks[self.count] = (start, end);
                self.count += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK: u64 = 0x2_0000_0010;

    fn option(blocks: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 9, 1, 1, 5, 2 + 8 * blocks.len() as u8];
        for (start, end) in blocks {
            bytes.extend((*start as u32).to_be_bytes());
            bytes.extend((*end as u32).to_be_bytes());
        }
        bytes
    }

    fn read(blocks: &[(u64, u64)]) -> Report {
        Report::read(&option(blocks), ACK - 100, ACK, ACK + 1000)
    }

    #[test]
    fn blocks_and_duplicates() {
        let report = read(&[(ACK + 10, ACK + 20), (ACK + 30, ACK + 40)]);
        assert_eq!((report.echo, report.duplicate), (Some(9), None));
        assert_eq!(report.blocks(), [(ACK + 10, ACK + 20), (ACK + 30, ACK + 40)]);
        // Below the acknowledgement, around the wrap of the sequence numbers.
        let report = read(&[(ACK - 40, ACK - 20), (ACK + 30, ACK + 40)]);
        assert_eq!(report.duplicate, Some((ACK - 40, ACK - 20)));
        assert_eq!(report.blocks(), [(ACK + 30, ACK + 40)]);
        // Within the second block.
        let report = read(&[(ACK + 34, ACK + 36), (ACK + 30, ACK + 40), (ACK + 5, ACK + 6)]);
        assert_eq!(report.duplicate, Some((ACK + 34, ACK + 36)));
        assert_eq!(report.blocks(), [(ACK + 30, ACK + 40), (ACK + 5, ACK + 6)]);
    }

    /// RFC 2883 §4: neither a later block around the first one nor one below the acknowledgement that is not the first.
    #[test]
    fn only_the_first_block_tells_of_a_duplicate_and_only_the_second_confirms_it() {
        let (inner, around) = ((ACK + 34, ACK + 36), (ACK + 30, ACK + 40));
        let (half, below) = ((ACK - 5, ACK + 5), (ACK - 40, ACK - 20));
        for blocks in
            [&[inner, half, around][..], &[inner, below, around], &[inner, (ACK + 50, ACK + 60), around]]
        {
            let report = read(blocks);
            assert_eq!(report.duplicate, None, "{blocks:?}");
            assert!(report.blocks().starts_with(&[inner]) && report.blocks().ends_with(&[around]));
        }
        assert_eq!(read(&[around, below]).duplicate, None);
        assert_eq!(read(&[(ACK + 20, ACK + 10), below, around]).duplicate, None, "the first says nothing");
        assert_eq!(read(&[(ACK + 20, ACK + 10), inner, around]).duplicate, None, "the first says nothing");
        assert_eq!(read(&[inner, inner]).duplicate, Some(inner));
    }

    #[test]
    fn what_was_never_sent_is_left_out() {
        let far = (ACK + 500, ACK + 1001);
        assert_eq!(read(&[far, (ACK + 20, ACK + 10), (ACK, ACK)]), read(&[]));
        assert_eq!(read(&[far, (ACK + 30, ACK + 40)]).blocks(), [(ACK + 30, ACK + 40)]);
        assert_eq!(read(&[(ACK - 10, ACK + 10)]).blocks(), [], "half acknowledged");
    }

    #[test]
    fn any_options_are_survived() {
        for seed in 1..=2000u64 {
            let mut random = crate::tests::Random::new(seed);
            let mut bytes = option(&[(ACK + 10, ACK + 20), (ACK + 12, ACK + 40), (ACK - 9, ACK), (1, 2)]);
            for _ in 0..random.below(4) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.next() as u8;
            }
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            let report = Report::read(&bytes, ACK - 100, ACK, ACK + 1000);
            for (start, end) in report.blocks() {
                assert!(*start >= ACK && start < end && *end <= ACK + 1000);
            }
        }
    }
}
