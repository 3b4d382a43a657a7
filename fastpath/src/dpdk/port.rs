// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Port`] over one queue pair of a DPDK port, and its packets.

use std::cell::Cell;
use std::mem::forget;
use std::ptr::{null_mut, NonNull};

use anyhow::{Context, Result};
use dpdk_sys::burst::{RxBurst, TxBurst};
use dpdk_sys::pool::PoolCache;
use dpdk_sys::*;

use super::device::Device;
use super::ipv4::header_checksum;
use super::vlan;
use crate::port::{Batch, Capabilities, Packet, Port, RxChecksum, BATCH_MAX};
use crate::vlan::TAG_BYTES;

/// Bursts in a row that a port may refuse whole before the first frame is given up: a link that
/// is down, or a frame the driver will never take, must not stop the core for good.
const REFUSALS_MAX: u32 = 4096;

/// EtherType of IPv6.
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// Bytes of an IPv6 header.
const IPV6_BYTES: u8 = 40;

thread_local! {
    /// The mempool cache of this thread: where dropped packets go.
    static CACHE: Cell<Option<PoolCache>> = const { Cell::new(None) };
}

/// One frame in one mbuf.
#[repr(transparent)]
pub struct DpdkPacket(NonNull<rte_mbuf>);

// SAFETY: an mbuf belongs to whoever holds the pointer; mempools serve many threads.
unsafe impl Send for DpdkPacket {}

impl DpdkPacket {
    #[inline(always)]
    fn mbuf(&self) -> *mut rte_mbuf {
        self.0.as_ptr()
    }

    /// Gives up ownership without freeing, as a pointer-sized word.
    #[inline]
    pub(super) fn into_word(self) -> usize {
        let word = self.mbuf() as usize;
        forget(self);
        word
    }

    /// Takes ownership back.
    ///
    /// # Safety
    /// `word` came from [`Self::into_word`] and is used once.
    #[inline]
    pub(super) unsafe fn from_word(word: usize) -> Option<Self> {
        NonNull::new(word as *mut rte_mbuf).map(Self)
    }
}

impl Drop for DpdkPacket {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: we own the mbuf; the cache, where there is one, is this thread's.
        unsafe {
            match CACHE.get() {
                Some(cache) => cache.free(self.mbuf()),
                None => tas_pktmbuf_free(self.mbuf()),
            }
        }
    }
}

impl Packet for DpdkPacket {
    #[inline]
    fn data(&self) -> &[u8] {
        // SAFETY: data_len bytes from the data's start are within the buffer, which we own.
        unsafe {
            std::slice::from_raw_parts(mbuf::data(self.mbuf()), usize::from(mbuf::data_len(self.mbuf())))
        }
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe {
            std::slice::from_raw_parts_mut(mbuf::data(self.mbuf()), usize::from(mbuf::data_len(self.mbuf())))
        }
    }

    #[inline]
    fn capacity(&self) -> usize {
        // SAFETY: we own the mbuf.
        unsafe { usize::from(mbuf::buf_len(self.mbuf()).saturating_sub(mbuf::data_off(self.mbuf()))) }
    }

    #[inline]
    fn set_len(&mut self, len: usize) {
        let len = len.min(self.capacity()) as u16;
        // SAFETY: we own the mbuf, and the length is within its buffer.
        unsafe {
            mbuf::set_data_len(self.mbuf(), len);
            mbuf::set_pkt_len(self.mbuf(), u32::from(len));
        }
    }

    #[inline]
    fn checksum(&self) -> RxChecksum {
        // SAFETY: we own the mbuf.
        let flags = unsafe { mbuf::ol_flags(self.mbuf()) };
        let ip = flags & TAS_RX_IP_CKSUM_MASK;
        let l4 = flags & TAS_RX_L4_CKSUM_MASK;
        if l4 == TAS_RX_L4_CKSUM_BAD || ip == TAS_RX_IP_CKSUM_BAD {
            return RxChecksum::Bad;
        }
        // NONE: the sum in the frame is not filled in, but the data's integrity was verified (two
        // ends of a virtio link in one host).
        if l4 != TAS_RX_L4_CKSUM_GOOD && l4 != TAS_RX_L4_CKSUM_NONE {
            return RxChecksum::Unknown;
        }
        if ip == TAS_RX_IP_CKSUM_GOOD || ip == TAS_RX_IP_CKSUM_NONE {
            return RxChecksum::Good;
        }
        without_header_checksum(self.data())
    }

    #[inline]
    fn request_tx_checksum(&mut self, l2_bytes: u8, l3_bytes: u8, l4_bytes: u8) {
        let lengths = mbuf::tx_offload_bits(l2_bytes.into(), l3_bytes.into(), l4_bytes.into(), 0);
        let ip = if l3_bytes == IPV6_BYTES { TAS_TX_IPV6 } else { TAS_TX_IPV4 | TAS_TX_IP_CKSUM };
        // SAFETY: we own the mbuf.
        unsafe {
            mbuf::set_tx_offload(self.mbuf(), lengths);
            mbuf::set_ol_flags(self.mbuf(), ip | TAS_TX_TCP_CKSUM);
        }
    }

    #[inline]
    fn clear_tx_offload(&mut self) {
        // SAFETY: we own the mbuf.
        unsafe {
            mbuf::set_ol_flags(self.mbuf(), 0);
            mbuf::set_tx_offload(self.mbuf(), 0);
        }
    }

    #[inline]
    fn prefetch(&self) {
        // SAFETY: we own the mbuf; a prefetch has no effect but on the cache.
        prefetch_line(unsafe { mbuf::data(self.mbuf()) });
    }
}

/// One queue pair. Stays in the thread that made it.
pub struct DpdkPort {
    rx: RxBurst,
    tx: TxBurst,
    cache: PoolCache,
    capabilities: Capabilities,
    /// The port fills in TCP checksums but not the IPv4 header's.
    ip_checksum_in_software: bool,
    frame_bytes_max: usize,
    /// Frames found by [`Self::look`], not yet received by the core.
    found: Batch<DpdkPacket>,
    refusals: u32,
    /// Frames dropped because they came in several buffers or were refused too often.
    dropped: u64,
    /// The VLAN served: all others' frames are dropped.
    vlan: Option<u16>,
    /// The port puts the tags on.
    inserts_tags: bool,
    /// Frames of other VLANs dropped since the core asked.
    foreign: u64,
}

impl DpdkPort {
    /// The queue pair `queue` of `device`, for the calling thread, which is registered with EAL.
    ///
    /// # Errors
    /// The thread is not registered, or the driver has no burst functions.
    pub fn new(device: &Device, queue: u16) -> Result<Self> {
        // SAFETY: the device is started and outlives its cores' ports (the shell joins them first);
        // the pool is the device's.
        unsafe {
            let cache = PoolCache::of_this_thread(device.pool).context("thread has no mempool cache")?;
            CACHE.set(Some(cache));
            Ok(Self {
                rx: RxBurst::new(device.port, queue).context("driver without receive function")?,
                tx: TxBurst::new(device.port, queue).context("driver without transmit function")?,
                cache,
                capabilities: Capabilities {
                    tx_checksum: device.tx_tcp_checksum,
                    steer_in_software: device.queues > 1 && !device.rss,
                },
                ip_checksum_in_software: !device.tx_ip_checksum,
                frame_bytes_max: usize::from(device.mtu_bytes) + 14,
                found: Batch::default(),
                refusals: 0,
                dropped: 0,
                vlan: None,
                inserts_tags: false,
                foreign: 0,
            }
            .serving(device.vlan, device.inserts_tags))
        }
    }

    /// Serves one VLAN.
    fn serving(mut self, vlan: Option<u16>, inserts_tags: bool) -> Self {
        if vlan.is_some() {
            self.frame_bytes_max += TAG_BYTES;
        }
        self.vlan = vlan;
        self.inserts_tags = inserts_tags;
        self
    }

    /// Treats the port as one that fills in all checksums, whatever it said: for measurements over a port of memory
    /// whose other end does not look at them.
    pub fn leave_tx_checksums(&mut self) {
        self.capabilities.tx_checksum = true;
        self.ip_checksum_in_software = false;
    }

    /// Looks for frames without giving them to the core; true if there are some. For the moment
    /// between arming the port's interrupt and sleeping.
    pub(super) fn look(&mut self) -> bool {
        if self.found.is_empty() {
            let mut found = std::mem::take(&mut self.found);
            self.burst(&mut found, BATCH_MAX);
            self.found = found;
        }
        !self.found.is_empty()
    }

    /// Frames dropped by the port itself.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    #[inline]
    fn burst(&mut self, into: &mut Batch<DpdkPacket>, limit: usize) -> usize {
        let mut pointers = [null_mut::<rte_mbuf>(); BATCH_MAX];
        let wanted = limit.saturating_sub(into.len()).min(into.room());
        // SAFETY: `pointers` has room for `wanted`, at most BATCH_MAX; this thread alone uses the queue.
        let received = unsafe { self.rx.receive(pointers.as_mut_ptr(), wanted as u16) };
        if self.vlan.is_some() {
            self.keep_ours(&mut pointers, received);
        }
        let mut added = 0;
        for pointer in pointers.iter().take(usize::from(received)) {
            let Some(pointer) = NonNull::new(*pointer) else {
                continue;
            };
            let packet = DpdkPacket(pointer);
            // SAFETY: the driver gave us the mbuf. Larger than a frame may be (an aggregate of a
            // virtual port): dropped here.
            if unsafe { mbuf::nb_segs(pointer.as_ptr()) } != 1 {
                self.dropped += 1;
                continue;
            }
            if into.push(packet).is_ok() {
                added += 1;
            }
        }
        added
    }

    /// Takes the tags off the first `received` frames. Those of other VLANs are dropped; a priority tag names none. Frames in
    /// several buffers are left to the caller, which drops them.
    #[cold]
    fn keep_ours(&mut self, pointers: &mut [*mut rte_mbuf], received: u16) {
        for slot in pointers.iter_mut().take(usize::from(received)) {
            let Some(pointer) = NonNull::new(*slot) else {
                continue;
            };
            // SAFETY: the driver gave us the mbuf, and its tag is looked for in one segment only.
            let id = unsafe {
                if mbuf::nb_segs(pointer.as_ptr()) != 1 {
                    continue;
                }
                vlan::strip(pointer.as_ptr())
            };
            if !id.is_some_and(|id| id == 0 || Some(id) == self.vlan) {
                drop(DpdkPacket(pointer));
                *slot = null_mut();
                self.foreign += 1;
            }
        }
    }

    /// Puts tags on frames that are about to leave.
    #[cold]
    fn put_tags(&self, id: u16, frames: &[*mut rte_mbuf]) {
        for &frame in frames {
            // SAFETY: the batch's frames, which we own, each in one segment.
            unsafe {
                if self.inserts_tags {
                    vlan::request(frame, id);
                } else {
                    vlan::insert(frame, id);
                }
            }
        }
    }

    /// Drops frames at the front that no port would take.
    fn drop_unsendable(&mut self, batch: &mut Batch<DpdkPacket>) -> usize {
        let bad =
            |packet: &DpdkPacket| packet.data().is_empty() || packet.data().len() > self.frame_bytes_max;
        let count = batch.iter().take_while(|packet| bad(packet)).count();
        batch.remove_front(count);
        self.dropped += count as u64;
        count
    }

    #[cold]
    fn refused(&mut self, batch: &mut Batch<DpdkPacket>) -> usize {
        self.refusals += 1;
        if self.refusals < REFUSALS_MAX {
            return 0;
        }
        self.refusals = 0;
        self.dropped += 1;
        batch.remove_front(1);
        1
    }
}

impl Port for DpdkPort {
    type Packet = DpdkPacket;

    #[inline]
    fn receive(&mut self, into: &mut Batch<DpdkPacket>, limit: usize) -> usize {
        if self.found.is_empty() {
            return self.burst(into, limit);
        }
        let mut moved = 0;
        while moved < self.found.len() && into.len() < limit && into.room() > 0 {
            let Some(packet) = self.found.take(moved) else {
                break;
            };
            if let Err(packet) = into.push(packet) {
                drop(packet);
                break;
            }
            moved += 1;
        }
        self.found.remove_front(moved);
        moved
    }

    #[inline]
    fn allocate(&mut self) -> Option<DpdkPacket> {
        // SAFETY: in the cache's thread; length 0 fits.
        NonNull::new(unsafe { self.cache.alloc(0) }).map(DpdkPacket)
    }

    fn transmit(&mut self, batch: &mut Batch<DpdkPacket>) -> usize {
        let mut pointers = [null_mut::<rte_mbuf>(); BATCH_MAX];
        let mut count = 0usize;
        for (slot, packet) in pointers.iter_mut().zip(batch.iter()) {
            let bytes = packet.data().len();
            if bytes == 0 || bytes > self.frame_bytes_max {
                break;
            }
            if self.ip_checksum_in_software {
                fill_ip_checksum(packet);
            }
            *slot = packet.mbuf();
            count += 1;
        }
        if count == 0 {
            return self.drop_unsendable(batch);
        }
        if let Some(id) = self.vlan {
            self.put_tags(id, &pointers[..count]);
        }
        // SAFETY: `count` packets, owned by the batch; this thread alone uses the queue.
        let sent = usize::from(unsafe { self.tx.transmit(pointers.as_mut_ptr(), count as u16) }).min(count);
        if sent == 0 {
            return self.refused(batch);
        }
        self.refusals = 0;
        // The driver owns them now.
        batch.take_front(sent, forget);
        sent
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    #[inline]
    fn take_foreign(&mut self) -> u64 {
        std::mem::take(&mut self.foreign)
    }

    #[inline]
    fn prefetch<T>(line: &T) {
        prefetch_line((line as *const T).cast());
    }
}

impl Drop for DpdkPort {
    fn drop(&mut self) {
        self.found.clear();
        CACHE.set(None);
    }
}

/// The port has verified TCP's checksum and nothing else (virtio): the IPv4 header has one more, IPv6 has none.
#[inline]
fn without_header_checksum(frame: &[u8]) -> RxChecksum {
    match header_checksum(frame) {
        Some(0) => RxChecksum::Good,
        Some(_) => RxChecksum::Bad,
        None if frame.get(12..14) == Some(&ETHERTYPE_IPV6) => RxChecksum::Good,
        None => RxChecksum::Unknown,
    }
}

/// Does in software what the port cannot: the IPv4 header's checksum of a packet that asks for
/// offload. Repeating it does no harm.
#[inline]
fn fill_ip_checksum(packet: &DpdkPacket) {
    let m = packet.mbuf();
    // SAFETY: we own the mbuf, and nothing else refers to its data.
    unsafe {
        let flags = mbuf::ol_flags(m);
        if flags & TAS_TX_IP_CKSUM == 0 {
            return;
        }
        mbuf::set_ol_flags(m, flags & !TAS_TX_IP_CKSUM);
        let frame = std::slice::from_raw_parts_mut(mbuf::data(m), usize::from(mbuf::data_len(m)));
        super::ipv4::set_header_checksum(frame);
    }
}

#[inline(always)]
fn prefetch_line(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
