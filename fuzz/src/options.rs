// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP options: the slow path's reading and writing, the fast path's timestamps, and its reading of SACK and DSACK.

use crate::model::{padded, read_options, Options};
use arbitrary::Arbitrary;
use fastpath::testing::parts::{read_report, Report};
use slowpath::testing as slow;

/// What the corpus covers.
pub const COVERS: &[&str] = &["slowpath/src/wire/options.rs", "fastpath/src/sack.rs"];

/// Most option bytes of a header.
const OPTIONS_MAX: usize = 40;
/// SND.UNA, in the upper half of its 32-bit window, so that some blocks wrap.
const UNA: u64 = 0x1_ffff_ff00;

/// One step; the bytes it leaves are read.
#[allow(missing_docs)]
#[derive(Debug, Clone, Arbitrary)]
pub enum Operation {
    Mss(u16),
    Shift(u8),
    SackPermitted,
    Timestamps(u32, u32),
    /// Blocks relative to the acknowledgement.
    Sack(Vec<(i16, i16)>),
    /// A block of any 32-bit edges.
    FarBlock(u32, u32),
    NoOperation(u8),
    End,
    Unknown {
        kind: u8,
        bytes: u8,
    },
    Raw(u8),
    Damage {
        at: u8,
        value: u8,
    },
    Truncate(u8),
    Clear,
    /// Reads what the slow path writes.
    Write {
        mss: Option<u16>,
        shift: Option<u8>,
        timestamps: Option<(u32, u32)>,
        sack: bool,
    },
    /// What is acknowledged, and what was sent.
    Numbers {
        acked: u16,
        flight: u16,
    },
    /// A cookie of any number of bytes (RFC 7413).
    FastOpen {
        bytes: u8,
        value: u8,
    },
    /// As [`Operation::Write`], with a cookie.
    WriteFastOpen {
        mss: u16,
        timestamps: bool,
        bytes: u8,
    },
}

/// Runs the operations.
pub fn check(operations: &[Operation]) {
    let mut bytes = Vec::new();
    let (mut ack, mut max) = (UNA + 100, UNA + 60_000);
    for operation in operations {
        let start = bytes.len();
        match operation {
            Operation::Mss(mss) => bytes.extend([2, 4, (mss >> 8) as u8, *mss as u8]),
            Operation::Shift(shift) => bytes.extend([3, 3, *shift]),
            Operation::SackPermitted => bytes.extend([4, 2]),
            Operation::Timestamps(value, echo) => {
                bytes.extend([8, 10]);
                bytes.extend(value.to_be_bytes());
                bytes.extend(echo.to_be_bytes());
            }
            Operation::Sack(blocks) => {
                let blocks = &blocks[..blocks.len().min(5)];
                bytes.extend([5, (2 + 8 * blocks.len()) as u8]);
                for (from, to) in blocks {
                    for edge in [from, to] {
                        bytes.extend((ack.wrapping_add_signed((*edge).into()) as u32).to_be_bytes());
                    }
                }
            }
            Operation::FarBlock(from, to) => {
                bytes.extend([5, 10]);
                bytes.extend(from.to_be_bytes());
                bytes.extend(to.to_be_bytes());
            }
            Operation::NoOperation(count) => bytes.extend(vec![1; usize::from(count % 8)]),
            Operation::End => bytes.push(0),
            Operation::Unknown { kind, bytes: more } => {
                bytes.extend([*kind, *more]);
                bytes.extend(vec![0xee; usize::from(*more).saturating_sub(2)]);
            }
            Operation::Raw(byte) => bytes.push(*byte),
            Operation::Damage { at, value } => {
                if let Some(byte) = bytes.get_mut(usize::from(*at)) {
                    *byte = *value;
                }
            }
            Operation::Truncate(to) => bytes.truncate(usize::from(*to)),
            Operation::Clear => bytes.clear(),
            Operation::Write { mss, shift, timestamps, sack } => {
                let options = slow::Options {
                    mss: *mss,
                    window_shift: shift.map(|shift| shift % 15),
                    timestamps: *timestamps,
                    sack_permitted: *sack,
                    fast_open: None,
                };
                written(&options);
            }
            Operation::FastOpen { bytes: more, value } => {
                bytes.extend([34, more % 20 + 2]);
                bytes.extend(vec![*value; usize::from(more % 20)]);
            }
            Operation::WriteFastOpen { mss, timestamps, bytes } => {
                let lengths = [0, 4, 6, 8, 10, 12, 14, 16];
                let options = slow::Options {
                    mss: Some(*mss),
                    window_shift: Some(7),
                    timestamps: timestamps.then_some((1, 2)),
                    sack_permitted: true,
                    fast_open: Some(padded(&vec![*bytes; lengths[usize::from(bytes % 8)]])),
                };
                written(&options);
            }
            Operation::Numbers { acked, flight } => {
                ack = UNA + u64::from(*acked);
                max = ack + u64::from(*flight);
            }
        }
        if bytes.len() > OPTIONS_MAX {
            // What does not fit was never there.
            bytes.truncate(if start <= OPTIONS_MAX { start } else { OPTIONS_MAX });
        }
        let model = read_options(&bytes);
        assert_eq!(slow::Options::parse(&bytes), model.of_slow_path());
        check_report(&model, &read_report(&bytes, UNA, ack, max), ack, max);
    }
}

/// What is written is whole words, fits a header, and reads as what it was.
fn written(options: &slow::Options) {
    let mut bytes = [0xff; OPTIONS_MAX];
    let length = options.write(&mut bytes);
    assert!(length % 4 == 0 && length <= OPTIONS_MAX);
    assert_eq!(slow::Options::parse(&bytes[..length]), *options);
    assert!(bytes[length..].iter().all(|byte| *byte == 0xff), "wrote past its end");
}

type Block = (u64, u64);

/// SACK blocks are what the peer said of data in flight, a duplicate is what it said first (RFC 2018, 2883).
fn check_report(model: &Options, report: &Report, ack: u64, max: u64) {
    assert_eq!(report.echo, model.timestamps.map(|(_, echo)| echo));
    let position = |edge: u32| ack.wrapping_add_signed((edge.wrapping_sub(ack as u32) as i32).into());
    let lists: Vec<Vec<_>> = model
        .blocks
        .iter()
        .map(|list| list.iter().take(4).map(|(from, to)| (position(*from), position(*to))))
        .map(|list| list.map(|block| (block.0 < block.1 && block.1 <= max).then_some(block)).collect())
        .collect();
    // The first option that says anything counts.
    let said = lists.iter().map(|list| blocks_of(list, ack)).find(|said| *said != (None, vec![]));
    assert_eq!((report.duplicate, report.blocks.clone()), said.unwrap_or_default());
}

/// What the blocks of one option say (`None`: nothing): of a duplicate, and of what is beyond the acknowledgement.
fn blocks_of(list: &[Option<Block>], ack: u64) -> (Option<Block>, Vec<Block>) {
    let mut ahead: Vec<_> = list.iter().flatten().copied().filter(|(from, _)| *from >= ack).collect();
    let duplicate = match (list.first().copied().flatten(), list.get(1).copied().flatten()) {
        // Below the acknowledgement; what was acknowledged long ago is left out.
        (Some(first), _) if first.1 <= ack => {
            Some(first).filter(|(_, to)| *to > UNA - u64::from(u32::MAX >> 1))
        }
        // Within the second block, and no other.
        (Some(first), Some(second)) if first.0 >= ack.max(second.0) && first.1 <= second.1 => {
            Some(ahead.remove(0))
        }
        _ => None,
    };
    (duplicate, ahead)
}
