// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pure parts of a core, for the models of `fuzz/`: what a frame and its options say, and the scoreboard.

use crate::{parse, sack, scoreboard, RxChecksum};
use abi::recovery::RecoveryBlock;
use std::ops::Range;

/// A segment as the fast path reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// Our port and the peer's.
    pub ports: (u16, u16),
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK.
    pub ack: u32,
    /// TSval.
    pub ts_value: Option<u32>,
    /// A SACK option is there.
    pub sack: bool,
    /// SEG.WND, not scaled.
    pub window: u16,
    /// Where the payload is in the frame.
    pub payload: Range<usize>,
    /// TCP flags.
    pub flags: u8,
    /// ECN field of the IP header.
    pub ecn: u8,
}

/// Parses a frame.
///
/// # Errors
/// The name of the verdict if it is not a segment for the fast path.
pub fn parse(frame: &[u8], checksum: RxChecksum) -> Result<Parsed, String> {
    let mut segment = parse::Segment::default();
    let verdict = format!("{:?}", parse::parse(frame, checksum, &mut segment));
    if !verdict.starts_with("Tcp") {
        return Err(verdict);
    }
    let start = usize::from(segment.payload_offset);
    Ok(Parsed {
        ports: ((segment.ports >> 16) as u16, segment.ports as u16),
        seq: segment.seq,
        ack: segment.ack,
        ts_value: segment.timestamps.then_some(segment.ts_value),
        sack: segment.sack,
        window: segment.window,
        payload: start..start + usize::from(segment.payload_bytes),
        flags: segment.flags,
        ecn: segment.ecn,
    })
}

/// What the options of an acknowledgement say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// TSecr.
    pub echo: Option<u32>,
    /// Data beyond the acknowledgement that the peer has.
    pub blocks: Vec<(u64, u64)>,
    /// Data that the peer received twice.
    pub duplicate: Option<(u64, u64)>,
}

/// Reads the options of a segment that acknowledges `ack`; what was sent reaches from `una` to `max`.
pub fn read_report(options: &[u8], una: u64, ack: u64, max: u64) -> Report {
    let report = sack::Report::read(options, una, ack, max);
    Report { echo: report.echo, blocks: report.blocks().to_vec(), duplicate: report.duplicate }
}

/// What an acknowledgement delivered; see `scoreboard.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Bytes that were not known to be delivered before.
    pub bytes: u64,
    /// End of the last of them that were sent only once, or zero.
    pub once_end: u64,
    /// When the latest retransmission among them was sent.
    pub resent_us: Option<u32>,
}

/// A sender's scoreboard. What it knows is in the block that [`Self::store`] fills.
pub struct Scoreboard {
    board: scoreboard::Board,
    delivered: scoreboard::Delivered,
}

impl Scoreboard {
    /// Nothing known of what was sent from `una` on.
    pub fn empty(una: u64) -> Self {
        Self { board: scoreboard::Board::empty(una), delivered: scoreboard::Delivered::default() }
    }
    /// From a block with any content.
    pub fn load(block: &RecoveryBlock, una: u64, max: u64) -> Self {
        Self { board: scoreboard::Board::load(block, una, max), ..Self::empty(una) }
    }
    /// Into a block.
    pub fn store(&self, block: &RecoveryBlock) {
        self.board.store(block);
    }
    /// An acknowledgement with its blocks, at `now_us`; what was sent again within `min_age_us` is not what arrived.
    pub fn acknowledge(
        &mut self,
        ack: u64,
        blocks: &[(u64, u64)],
        now_us: u32,
        min_age_us: u32,
    ) -> Delivered {
        self.delivered = scoreboard::Delivered::default();
        self.board.acknowledge(ack, &mut self.delivered, (now_us, min_age_us));
        for (start, end) in blocks {
            self.board.sack(*start, *end, &mut self.delivered, (now_us, min_age_us));
        }
        let scoreboard::Delivered { bytes, once_end, resent_us, .. } = self.delivered;
        Delivered { bytes, once_end, resent_us }
    }
    /// What the last acknowledgement overtook is due in `window_us`.
    pub fn overtake(&mut self, now_us: u32, window_us: u32) {
        self.board.overtake(&self.delivered, now_us, window_us);
    }
    /// What is due counts as lost; how many bytes.
    pub fn detect(&mut self, now_us: u32, at_once: bool) -> u64 {
        self.board.detect(now_us, at_once)
    }
    /// When the next range is due.
    pub fn due_us(&self, now_us: u32) -> Option<u32> {
        self.board.due_us(now_us)
    }
    /// A range was sent again.
    pub fn resend(&mut self, start: u64, end: u64, now_us: u32, max: u64) {
        self.board.resend(start, end, now_us, max);
    }
    /// A timeout.
    pub fn lose_all(&mut self, max: u64, forget: bool) {
        self.board.lose_all(max, forget);
    }
    /// A tail loss probe is to be sent.
    pub fn lose(&mut self, start: u64, end: u64) -> bool {
        self.board.lose(start, end)
    }
    /// Nothing had been lost.
    pub fn forgive(&mut self) {
        self.board.forgive();
    }
    /// The first range to be sent again.
    pub fn first_lost(&self) -> Option<(u64, u64)> {
        self.board.first_lost()
    }
    /// Bytes that the peer has, that count as lost, and that are in flight if everything up to `nxt` was sent.
    pub fn bytes(&self, nxt: u64) -> (u64, u64, u64) {
        (self.board.sacked_bytes(), self.board.lost_bytes(), self.board.pipe(nxt))
    }
    /// Ranges that the peer has; whether it took back what it had; whether something is lost or sent again.
    pub fn facts(&self) -> (usize, bool, bool) {
        (self.board.sacked_ranges(), self.board.is_reneged(), self.board.has_losses())
    }
}
