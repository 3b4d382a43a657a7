// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fields of an `rte_mbuf`, at the offsets the C compiler reported.

use crate::*;

macro_rules! field {
    ($(#[$doc:meta])* $get:ident, $set:ident, $type:ty, $offset:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `m` points to an mbuf that nothing else writes meanwhile.
        #[inline(always)]
        pub unsafe fn $get(m: *const rte_mbuf) -> $type {
            // SAFETY: the caller's; the offset is that of this field in C.
            unsafe { m.byte_add($offset as usize).cast::<$type>().read() }
        }

        /// Sets the field of the same name.
        ///
        /// # Safety
        /// `m` points to an mbuf that the caller alone uses.
        #[inline(always)]
        pub unsafe fn $set(m: *mut rte_mbuf, value: $type) {
            // SAFETY: the caller's; the offset is that of this field in C.
            unsafe { m.byte_add($offset as usize).cast::<$type>().write(value) }
        }
    };
}

field!(
    /// Start of the buffer, headroom included.
    buf_addr, set_buf_addr, *mut u8, TAS_MBUF_OFF_BUF_ADDR);
field!(
    /// Bytes from the buffer's start to the data.
    data_off, set_data_off, u16, TAS_MBUF_OFF_DATA_OFF);
field!(
    /// Reference count.
    refcnt, set_refcnt, u16, TAS_MBUF_OFF_REFCNT);
field!(
    /// Segments of the packet, counted in its first mbuf.
    nb_segs, set_nb_segs, u16, TAS_MBUF_OFF_NB_SEGS);
field!(
    /// The port it came from.
    port, set_port, u16, TAS_MBUF_OFF_PORT);
field!(
    /// Offload flags, `TAS_RX_*` and `TAS_TX_*`.
    ol_flags, set_ol_flags, u64, TAS_MBUF_OFF_OL_FLAGS);
field!(
    /// What the driver recognised of the headers.
    packet_type, set_packet_type, u32, TAS_MBUF_OFF_PACKET_TYPE);
field!(
    /// Bytes in all segments.
    pkt_len, set_pkt_len, u32, TAS_MBUF_OFF_PKT_LEN);
field!(
    /// Bytes in this segment.
    data_len, set_data_len, u16, TAS_MBUF_OFF_DATA_LEN);
field!(
    /// VLAN tag, host order.
    vlan_tci, set_vlan_tci, u16, TAS_MBUF_OFF_VLAN_TCI);
field!(
    /// The NIC's RSS hash, valid with `TAS_RX_RSS_HASH`.
    rss_hash, set_rss_hash, u32, TAS_MBUF_OFF_HASH_RSS);
field!(
    /// Size of the buffer, headroom included.
    buf_len, set_buf_len, u16, TAS_MBUF_OFF_BUF_LEN);
field!(
    /// The pool it belongs to.
    pool, set_pool, *mut rte_mempool, TAS_MBUF_OFF_POOL);
field!(
    /// The packet's next segment.
    next, set_next, *mut rte_mbuf, TAS_MBUF_OFF_NEXT);
field!(
    /// Header lengths for transmit offloads, packed as [`tx_offload_bits`] does.
    tx_offload, set_tx_offload, u64, TAS_MBUF_OFF_TX_OFFLOAD);

/// The packed header lengths: layers 2, 3, 4 in bytes, and the segment size
/// (payload bytes per segment) of a TSO packet, else 0.
#[inline(always)]
pub const fn tx_offload_bits(l2_len: u64, l3_len: u64, l4_len: u64, tso_segsz: u64) -> u64 {
    l2_len << RTE_MBUF_L2_LEN_OFS
        | l3_len << RTE_MBUF_L3_LEN_OFS
        | l4_len << RTE_MBUF_L4_LEN_OFS
        | tso_segsz << RTE_MBUF_TSO_SEGSZ_OFS
}

/// First byte of the packet.
///
/// # Safety
/// `m` points to an mbuf with its buffer attached.
#[inline(always)]
pub unsafe fn data(m: *const rte_mbuf) -> *mut u8 {
    // SAFETY: data_off lies within the buffer, an invariant of every mbuf.
    unsafe { buf_addr(m).add(usize::from(data_off(m))) }
}

/// Readies a freshly allocated mbuf for a packet of `len` bytes, as
/// `rte_pktmbuf_reset` does: `next`, `nb_segs` and `refcnt` are right already
/// in a free mbuf.
///
/// # Safety
/// `m` came out of a packet pool's cache or ring and is the caller's alone.
#[inline(always)]
pub unsafe fn reset(m: *mut rte_mbuf, len: u16) {
    // SAFETY: the caller's.
    unsafe {
        set_data_off(m, RTE_PKTMBUF_HEADROOM as u16);
        set_ol_flags(m, 0);
        set_packet_type(m, 0);
        set_pkt_len(m, u32::from(len));
        set_data_len(m, len);
        set_vlan_tci(m, 0);
        set_tx_offload(m, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rust's accessors and the C compiler must agree on every field.
    #[test]
    fn accessors_agree_with_c() {
        #[repr(align(64))]
        struct Raw([u8; TAS_MBUF_SIZE as usize]);
        let mut raw = Raw([0; TAS_MBUF_SIZE as usize]);
        let mut buffer = [0u8; 256];
        let m = raw.0.as_mut_ptr().cast::<rte_mbuf>();
        let mut seen = tas_mbuf_fields {
            ol_flags: 0,
            data: core::ptr::null_mut(),
            pool: core::ptr::null_mut(),
            pkt_len: 0,
            rss_hash: 0,
            data_len: 0,
            nb_segs: 0,
            port: 0,
            refcnt: 0,
            vlan_tci: 0,
            buf_len: 0,
            l2_len: 0,
            l3_len: 0,
            l4_len: 0,
            tso_segsz: 0,
        };
        // SAFETY: `raw` has an mbuf's size and alignment, and all bit patterns
        // are valid for the fields that are read.
        unsafe {
            set_buf_addr(m, buffer.as_mut_ptr());
            set_refcnt(m, 3);
            set_nb_segs(m, 4);
            set_port(m, 5);
            set_rss_hash(m, 6);
            set_buf_len(m, 256);
            set_pool(m, 0x1000 as *mut rte_mempool);
            reset(m, 77);
            set_ol_flags(m, 1 << 54);
            set_vlan_tci(m, 9);
            set_tx_offload(m, tx_offload_bits(14, 20, 32, 1448));
            tas_mbuf_read(m, &mut seen);
            assert_eq!(data(m), buffer.as_mut_ptr().add(RTE_PKTMBUF_HEADROOM as usize));
            assert_eq!(seen.data.cast::<u8>(), data(m));
        }
        assert_eq!((seen.refcnt, seen.nb_segs, seen.port), (3, 4, 5));
        assert_eq!((seen.rss_hash, seen.buf_len, seen.pool as usize), (6, 256, 0x1000));
        assert_eq!((seen.pkt_len, seen.data_len), (77, 77));
        assert_eq!((seen.ol_flags, seen.vlan_tci), (1 << 54, 9));
        let lens = (seen.l2_len, seen.l3_len, seen.l4_len, seen.tso_segsz);
        assert_eq!(lens, (14, 20, 32, 1448));
    }

    /// 64-bit flag constants survive bindgen.
    #[test]
    fn flags_are_whole() {
        assert_eq!(TAS_TX_IP_CKSUM, 1 << 54);
        assert_eq!(TAS_TX_IPV4, 1 << 55);
        assert_eq!(TAS_TX_TCP_CKSUM, 1 << 52);
        assert_eq!(TAS_MBUF_EXTERNAL, 1 << 61);
        assert_eq!(TAS_RX_L4_CKSUM_MASK, TAS_RX_L4_CKSUM_GOOD | TAS_RX_L4_CKSUM_BAD);
    }
}
