// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tags of the one VLAN that TAS serves (IEEE 802.1Q): taken off received frames and put on those that leave, by
//! the port where it can, else here. The core sees none of them.

use dpdk_sys::*;

use crate::vlan::{ETHERTYPE, ID_MASK, TAG_BYTES};

/// Bytes of the two MAC addresses, behind which a tag stands.
const ADDRESSES_BYTES: usize = 12;

/// Takes the tag off a received frame, unless the port did: the VLAN it names (0 in a priority tag), `None` if there
/// is none.
///
/// # Safety
/// `m` is the caller's, a frame in one segment.
pub(super) unsafe fn strip(m: *mut rte_mbuf) -> Option<u16> {
    // SAFETY: the caller's; data_len bytes from the data's start are within the buffer.
    unsafe {
        if mbuf::ol_flags(m) & TAS_RX_VLAN_STRIPPED != 0 {
            return Some(mbuf::vlan_tci(m) & ID_MASK);
        }
        let length = mbuf::data_len(m);
        let frame = std::slice::from_raw_parts_mut(mbuf::data(m), usize::from(length));
        let tag = frame.get(ADDRESSES_BYTES..ADDRESSES_BYTES + TAG_BYTES)?;
        if tag[..2] != ETHERTYPE {
            return None;
        }
        let id = u16::from_be_bytes([tag[2], tag[3]]) & ID_MASK;
        frame.copy_within(..ADDRESSES_BYTES, TAG_BYTES);
        // The tag was within the frame, so neither field goes out of the buffer.
        mbuf::set_data_off(m, mbuf::data_off(m) + TAG_BYTES as u16);
        mbuf::set_data_len(m, length - TAG_BYTES as u16);
        mbuf::set_pkt_len(m, u32::from(length) - TAG_BYTES as u32);
        Some(id)
    }
}

/// Asks the port to put a tag on.
///
/// # Safety
/// `m` is the caller's; the port has the offload.
pub(super) unsafe fn request(m: *mut rte_mbuf, id: u16) {
    // SAFETY: the caller's.
    unsafe {
        mbuf::set_vlan_tci(m, id);
        mbuf::set_ol_flags(m, mbuf::ol_flags(m) | TAS_TX_VLAN);
    }
}

/// Puts a tag on a frame that is about to leave. A frame that has one stays as it is: the port had no room for it before.
///
/// # Safety
/// `m` is the caller's, a frame in one segment.
pub(super) unsafe fn insert(m: *mut rte_mbuf, id: u16) {
    // SAFETY: the caller's; there is headroom for the tag, so that the longer frame is within the buffer.
    unsafe {
        let (offset, length) = (mbuf::data_off(m), mbuf::data_len(m));
        let frame = std::slice::from_raw_parts(mbuf::data(m), usize::from(length));
        let fits = usize::from(length) >= ADDRESSES_BYTES + 2 && offset >= TAG_BYTES as u16;
        if !fits || frame[ADDRESSES_BYTES..ADDRESSES_BYTES + 2] == ETHERTYPE {
            return;
        }
        mbuf::set_data_off(m, offset - TAG_BYTES as u16);
        mbuf::set_data_len(m, length + TAG_BYTES as u16);
        mbuf::set_pkt_len(m, u32::from(length) + TAG_BYTES as u32);
        let frame = std::slice::from_raw_parts_mut(mbuf::data(m), usize::from(length) + TAG_BYTES);
        frame.copy_within(TAG_BYTES..TAG_BYTES + ADDRESSES_BYTES, 0);
        frame[ADDRESSES_BYTES..ADDRESSES_BYTES + 2].copy_from_slice(&ETHERTYPE);
        frame[ADDRESSES_BYTES + 2..ADDRESSES_BYTES + TAG_BYTES].copy_from_slice(&id.to_be_bytes());
        if mbuf::ol_flags(m) & TAS_TX_TCP_CKSUM != 0 {
            // The checksums' headers begin behind the tag.
            let longer = mbuf::tx_offload_bits(TAG_BYTES as u64, 0, 0, 0);
            mbuf::set_tx_offload(m, mbuf::tx_offload(m) + longer);
        }
    }
}
