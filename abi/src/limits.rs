// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Limits, each with its reason.

/// Fast-path cores of one instance. The original's 16; a core needs rings in every context.
pub const CORES_MAX: u32 = 16;
/// Flows of an instance when the operator says nothing: the original's table.
pub const FLOWS_DEFAULT: u32 = 131_072;
/// Most flows an instance may be configured for: 256 B each make 1 GiB of tables.
pub const FLOWS_MAX: u32 = 4_194_304;
/// Contexts (application threads) of one instance; the identifier is 16 bits in the flow's owner.
pub const CONTEXTS_MAX: u32 = 4096;
/// Applications of one instance; the identifier is 16 bits in the flow's owner.
pub const APPLICATIONS_MAX: u32 = 1024;
/// Next hops known at a time.
pub const ADJACENCIES_MAX: u32 = 1024;
/// Routes of one instance.
pub const ROUTES_MAX: u32 = 64;
/// Entries of each ring between a context and a fast-path core: 32 KiB per ring.
pub const CONTEXT_RING_ENTRIES: u32 = 1024;
/// Entries that a core takes from one context's ring in one loop: others must get their turn.
pub const CONTEXT_ENTRIES_PER_LOOP: u32 = 32;
/// log2 of the contexts that a core looks at in one loop; with more, they take turns.
pub const CONTEXTS_PER_LOOP_SHIFT: u32 = 5;
/// Entries of the ring from the slow path to a context.
pub const KERNEL_EVENT_ENTRIES: u32 = 256;
/// Entries of each ring between the slow path and a fast-path core.
pub const KERNEL_RING_ENTRIES: u32 = 1024;
/// Bytes of the packet slot that belongs to each kernel ring entry: one standard Ethernet frame.
pub const PACKET_SLOT_BYTES: u32 = 2048;
/// Bytes of a packet slot of an instance whose MTU is larger than [`ETHERNET_MTU`]: one frame of [`MTU_MAX`]. A core's
/// rings then take 18 MiB instead of 4.
pub const JUMBO_SLOT_BYTES: u32 = 9216;
/// Loss-recovery blocks: one for every eighth flow, as losses are rare and short.
pub const RECOVERY_PER_FLOWS: u32 = 8;
/// MTU of standard Ethernet, and the default: larger ones cost memory in every packet slot and buffer.
pub const ETHERNET_MTU: u32 = 1500;
/// Largest MTU served: what hosts with jumbo frames have. A frame must fit a packet slot.
pub const MTU_MAX: u32 = 9000;
/// Smallest MTU served (RFC 791).
pub const MTU_MIN: u32 = 576;
/// Smallest MTU of a link that carries IPv6 (RFC 8200 §5).
pub const IPV6_MTU_MIN: u32 = 1280;
/// Ethernet header and a VLAN tag: bytes of a frame beyond the MTU.
pub const FRAME_OVERHEAD_BYTES: u32 = 14 + 4;
const _: () = assert!(ETHERNET_MTU + FRAME_OVERHEAD_BYTES <= PACKET_SLOT_BYTES);
const _: () = assert!(MTU_MAX + FRAME_OVERHEAD_BYTES <= JUMBO_SLOT_BYTES);
/// Bytes of an instance's name, zero-padded.
pub const INSTANCE_NAME_BYTES: usize = 16;
