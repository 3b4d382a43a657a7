// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! ioctl numbers of `/dev/tas` and of socket files: `_IOWR(TAS_IOCTL_MAGIC, op, Message)`.

use crate::message::{Op, MESSAGE_BYTES};

/// The magic byte. 0xB8 is not in use in `Documentation/userspace-api/ioctl/ioctl-number.rst`
/// between 0x00 and 0x5f.
pub const TAS_IOCTL_MAGIC: u32 = 0xB8;

const READ_WRITE: u32 = 3;

/// ioctl number of an operation.
pub const fn number(op: Op) -> u32 {
    READ_WRITE << 30 | (MESSAGE_BYTES as u32) << 16 | TAS_IOCTL_MAGIC << 8 | op as u32
}

/// Operation of an ioctl number.
pub const fn operation(number: u32) -> Option<Op> {
    if number >> 8 != READ_WRITE << 22 | (MESSAGE_BYTES as u32) << 8 | TAS_IOCTL_MAGIC {
        return None;
    }
    Op::from_u32(number & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_round_trips() {
        for &op in Op::ALL {
            assert_eq!(operation(number(op)), Some(op));
        }
        assert_eq!(operation(number(Op::Bind) ^ (1 << 16)), None);
    }
}
