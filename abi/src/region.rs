// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Names of the memory regions and the mmap offset that selects one on `/dev/tas`.

use crate::{context::ring_bytes, kernel_ring::KERNEL_WORDS, limits::*};

/// A region that can be mapped. With the kernel it is an mmap offset ([`Region::offset`]); with the
/// daemon it is asked for by a MAP call that passes a sealed memfd.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegionKind {
    /// [`crate::clock::ClockPage`], one page, read-only.
    Clock = 1,
    /// Array of [`crate::flow::HotFlow`]; fast path only.
    FlowHot = 2,
    /// Array of [`crate::flow::ColdFlow`]; fast path, read-only.
    FlowCold = 3,
    /// Array of [`crate::adjacency::Adjacency`]; fast path, read-only.
    Adjacencies = 4,
    /// Array of [`crate::recovery::RecoveryBlock`]; fast path only.
    Recovery = 5,
    /// Kernel rings of core `index`; fast path only. See [`KernelRingLayout`].
    KernelRings = 6,
    /// One [`crate::core_status::CoreStatus`] page per core; written by the fast path, read-only
    /// to others.
    CoreStatus = 7,
    /// Region of context `index`; its application and the fast path.
    Context = 8,
    /// Buffer maps of application `index`; `offset` selects the segment.
    Maps = 9,
    /// Chunks of application `index`; `offset` selects the segment.
    Pool = 10,
}

impl RegionKind {
    /// From its number.
    pub const fn from_u32(value: u32) -> Option<Self> {
        Some(match value {
            1 => Self::Clock,
            2 => Self::FlowHot,
            3 => Self::FlowCold,
            4 => Self::Adjacencies,
            5 => Self::Recovery,
            6 => Self::KernelRings,
            7 => Self::CoreStatus,
            8 => Self::Context,
            9 => Self::Maps,
            10 => Self::Pool,
            _ => return None,
        })
    }
}

/// A region, or a segment of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// What it is.
    pub kind: RegionKind,
    /// Core, context or application id; zero for the others.
    pub index: u32,
    /// Byte offset within the region: a multiple of the segment size for maps and pools, else 0.
    pub byte_offset: u32,
}

const KIND_SHIFT: u32 = 56;
const INDEX_SHIFT: u32 = 32;
const INDEX_MASK: u64 = 0x00ff_ffff;

impl Region {
    /// The whole of a region that has no segments.
    pub const fn whole(kind: RegionKind, index: u32) -> Self {
        Self { kind, index, byte_offset: 0 }
    }
    /// The mmap offset that names it: kind in bits 56.., index in bits 32..56, byte offset below.
    pub const fn offset(self) -> u64 {
        (self.kind as u64) << KIND_SHIFT
            | (self.index as u64 & INDEX_MASK) << INDEX_SHIFT
            | self.byte_offset as u64
    }
    /// From an mmap offset.
    pub const fn from_offset(offset: u64) -> Option<Self> {
        match RegionKind::from_u32((offset >> KIND_SHIFT) as u32) {
            Some(kind) => Some(Self {
                kind,
                index: ((offset >> INDEX_SHIFT) & INDEX_MASK) as u32,
                byte_offset: offset as u32,
            }),
            None => None,
        }
    }
}

/// Where things are in a core's kernel ring region, in bytes. Both rings come first; how large the packet slots behind
/// them are follows from the instance's MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelRingLayout {
    slot_bytes: u32,
}

impl KernelRingLayout {
    /// Ring from the slow path.
    pub const TO_FAST: usize = 0;
    /// Ring to the slow path.
    pub const TO_SLOW: usize = 128 * 1024;
    /// Packet slots of the ring from the slow path.
    pub const TO_FAST_SLOTS: usize = 256 * 1024;

    /// Of an instance with this MTU.
    #[inline]
    pub const fn of(mtu_bytes: u32) -> Self {
        Self { slot_bytes: if mtu_bytes > ETHERNET_MTU { JUMBO_SLOT_BYTES } else { PACKET_SLOT_BYTES } }
    }
    /// Bytes of a packet slot.
    #[inline]
    pub const fn slot_bytes(self) -> usize {
        self.slot_bytes as usize
    }
    /// Offset, within the slots of its ring, of the slot that belongs to the entry at `position`.
    #[inline]
    pub const fn slot(self, position: u64) -> usize {
        (position as usize & (KERNEL_RING_ENTRIES as usize).wrapping_sub(1)).wrapping_mul(self.slot_bytes())
    }
    /// Bytes of one direction's slots.
    pub const fn slots_bytes(self) -> usize {
        (KERNEL_RING_ENTRIES as usize).wrapping_mul(self.slot_bytes())
    }
    /// Packet slots of the ring to the slow path.
    pub const fn to_slow_slots(self) -> usize {
        Self::TO_FAST_SLOTS.wrapping_add(self.slots_bytes())
    }
    /// Bytes of the region.
    pub const fn bytes(self) -> usize {
        self.to_slow_slots().wrapping_add(self.slots_bytes())
    }
}

const _: () = assert!(ring_bytes(KERNEL_RING_ENTRIES, KERNEL_WORDS) <= KernelRingLayout::TO_SLOW);

/// Recovery blocks of an instance with `flows` flows.
pub const fn recovery_blocks(flows: u32) -> u32 {
    let blocks = flows / RECOVERY_PER_FLOWS;
    if blocks < 64 {
        64
    } else {
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_a_frame_and_lie_side_by_side() {
        for mtu_bytes in [MTU_MIN, ETHERNET_MTU, ETHERNET_MTU + 1, MTU_MAX] {
            let layout = KernelRingLayout::of(mtu_bytes);
            assert!(layout.slot_bytes() >= (mtu_bytes + FRAME_OVERHEAD_BYTES) as usize);
            assert_eq!(layout.slot(0), 0);
            assert_eq!(layout.slot(u64::from(KERNEL_RING_ENTRIES) * 7 + 1), layout.slot_bytes());
            assert_eq!(layout.slot(u64::MAX) + layout.slot_bytes(), layout.slots_bytes());
            assert_eq!(layout.bytes() - layout.to_slow_slots(), layout.slots_bytes());
        }
        assert_eq!(KernelRingLayout::of(ETHERNET_MTU).bytes(), (256 << 10) + (4 << 20));
    }

    #[test]
    fn offsets_round_trip() {
        let region = Region { kind: RegionKind::Pool, index: 0x1234, byte_offset: 0x20_0000 };
        assert_eq!(Region::from_offset(region.offset()), Some(region));
        assert_eq!(Region::from_offset(0), None);
        assert_eq!(Region::from_offset(99 << 56), None);
    }
}
