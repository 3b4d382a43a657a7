// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wire: two rings of DPDK's between TAS's port and the clients' end.

use anyhow::{ensure, Context, Result};
use dpdk_sys::{
    burst::{RxBurst, TxBurst},
    mbuf,
    pool::PoolCache,
    rte_eth_conf, rte_eth_dev_configure, rte_eth_dev_start, rte_eth_from_rings, rte_eth_rx_queue_setup,
    rte_eth_tx_queue_setup, rte_mbuf, rte_pktmbuf_pool_create, rte_ring_create, tas_pktmbuf_free,
    RING_F_SC_DEQ, RING_F_SP_ENQ, TAS_RX_IP_CKSUM_GOOD, TAS_RX_L4_CKSUM_GOOD,
};
use fastpath::dpdk::{Device, DeviceRequest};
use std::{ffi::CString, ptr::null_mut};

/// Frames a ring holds: more than the flows of one slice of a round.
const RING_FRAMES: u32 = 1 << 12;
/// Packets of the clients.
const POOL_PACKETS: u32 = (1 << 13) - 1;

fn request(name: &str) -> DeviceRequest {
    DeviceRequest {
        name: Some(name.to_owned()),
        queues: 1,
        mtu_bytes: None,
        tx_checksums: false,
        rx_checksums: false,
        vlan: None,
        interrupts: false,
    }
}

/// The wire between TAS's device and the clients' end. With `verified`, frames to TAS carry the flags that a NIC
/// sets when it found both checksums right.
pub(crate) fn make(verified: bool) -> Result<(Device, Wire)> {
    // SAFETY: EAL runs; the rings live as long as the process.
    let peer = unsafe {
        let mut rings = [null_mut(), null_mut()];
        for (ring, name) in rings.iter_mut().zip(["to-tas", "from-tas"]) {
            let name = CString::new(name)?;
            *ring = rte_ring_create(name.as_ptr(), RING_FRAMES, -1, RING_F_SP_ENQ | RING_F_SC_DEQ);
            ensure!(!ring.is_null(), "no memory for a ring");
        }
        let [mut to_tas, mut from_tas] = rings;
        let tas = rte_eth_from_rings(c"tas".as_ptr(), &mut to_tas, 1, &mut from_tas, 1, 0);
        let peer = rte_eth_from_rings(c"peer".as_ptr(), &mut from_tas, 1, &mut to_tas, 1, 0);
        ensure!(tas >= 0 && peer >= 0, "no port over the rings");
        peer as u16
    };
    Ok((Device::start(&request("net_ring_tas"))?, Wire::new(peer, verified)?))
}

/// The clients' end.
pub(crate) struct Wire {
    rx: RxBurst,
    tx: TxBurst,
    cache: PoolCache,
    /// `ol_flags` of frames to TAS.
    flags: u64,
}

impl Wire {
    fn new(port: u16, verified: bool) -> Result<Self> {
        // SAFETY: EAL runs, this thread is its main lcore; the port was just made and lives as long as the process.
        unsafe {
            let pool = rte_pktmbuf_pool_create(c"clients".as_ptr(), POOL_PACKETS, 64, 0, 2048 + 128, -1);
            ensure!(!pool.is_null(), "no memory for the clients' packets");
            let configuration: rte_eth_conf = std::mem::zeroed();
            let ok = rte_eth_dev_configure(port, 1, 1, &configuration) == 0
                && rte_eth_rx_queue_setup(port, 0, 256, 0, std::ptr::null(), pool) == 0
                && rte_eth_tx_queue_setup(port, 0, 256, 0, std::ptr::null()) == 0
                && rte_eth_dev_start(port) == 0;
            ensure!(ok, "the clients' port does not start");
            Ok(Self {
                rx: RxBurst::new(port, 0).context("no receive function")?,
                tx: TxBurst::new(port, 0).context("no transmit function")?,
                cache: PoolCache::of_this_thread(pool).context("no mempool cache")?,
                flags: if verified { TAS_RX_IP_CKSUM_GOOD | TAS_RX_L4_CKSUM_GOOD } else { 0 },
            })
        }
    }

    /// Puts a frame on the wire to TAS.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the mbuf is ours until it is sent; its buffer holds a frame.
        unsafe {
            let mut packet: *mut rte_mbuf = self.cache.alloc(frame.len() as u16);
            ensure!(!packet.is_null(), "the clients' pool is empty");
            mbuf::set_ol_flags(packet, self.flags);
            std::ptr::copy_nonoverlapping(frame.as_ptr(), mbuf::data(packet), frame.len());
            ensure!(self.tx.transmit(&mut packet, 1) == 1, "the wire is full");
        }
        Ok(())
    }

    /// Takes a frame from TAS off the wire and shows it to `read`; false if there is none.
    pub(crate) fn receive(&self, read: impl FnOnce(&[u8]) -> Result<()>) -> Result<bool> {
        let mut packet: *mut rte_mbuf = null_mut();
        // SAFETY: a received mbuf is ours; its data is data_len bytes.
        unsafe {
            if self.rx.receive(&mut packet, 1) == 0 {
                return Ok(false);
            }
            let bytes = std::slice::from_raw_parts(mbuf::data(packet), usize::from(mbuf::data_len(packet)));
            let result = read(bytes);
            // It is of TAS's pool.
            tas_pktmbuf_free(packet);
            result.map(|()| true)
        }
    }
}
