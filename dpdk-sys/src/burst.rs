// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receive and transmit bursts straight into the driver: the function and its
//! queue pointer are read once from `rte_eth_fp_ops` and kept.

use core::ffi::c_void;
use core::ptr::addr_of;

use crate::{rte_eth_fp_ops, rte_mbuf};

type BurstFn = unsafe extern "C" fn(*mut c_void, *mut *mut rte_mbuf, u16) -> u16;

/// A driver's receive function with the queue it serves.
///
/// Read it after the port was started: starting and stopping a port exchange
/// the functions. Receive callbacks (`rte_eth_add_rx_callback`) are not run.
#[derive(Clone, Copy)]
pub struct RxBurst {
    function: BurstFn,
    queue: *mut c_void,
}

impl RxBurst {
    /// The receive function of a started port; `None` where the driver has
    /// none.
    ///
    /// # Safety
    /// `port` is a started port and `queue` one of its receive queues.
    pub unsafe fn new(port: u16, queue: u16) -> Option<Self> {
        // SAFETY: fp_ops has RTE_MAX_ETHPORTS entries, a valid port is below;
        // data has an entry for every configured queue.
        unsafe {
            let ops = addr_of!(rte_eth_fp_ops).cast::<rte_eth_fp_ops>().add(usize::from(port));
            let function = (*ops).rx_pkt_burst?;
            Some(Self { function, queue: *(*ops).rxq.data.add(usize::from(queue)) })
        }
    }

    /// Receives up to `capacity` packets into `packets`; how many came.
    ///
    /// # Safety
    /// `packets` has room for `capacity` pointers; the port is still started;
    /// no other thread uses this queue.
    #[inline(always)]
    pub unsafe fn receive(self, packets: *mut *mut rte_mbuf, capacity: u16) -> u16 {
        // SAFETY: the caller's.
        unsafe { (self.function)(self.queue, packets, capacity) }
    }
}

/// A driver's transmit function with the queue it serves; see [`RxBurst`].
#[derive(Clone, Copy)]
pub struct TxBurst {
    function: BurstFn,
    queue: *mut c_void,
}

impl TxBurst {
    /// The transmit function of a started port.
    ///
    /// # Safety
    /// `port` is a started port and `queue` one of its transmit queues.
    pub unsafe fn new(port: u16, queue: u16) -> Option<Self> {
        // SAFETY: as in RxBurst::new.
        unsafe {
            let ops = addr_of!(rte_eth_fp_ops).cast::<rte_eth_fp_ops>().add(usize::from(port));
            let function = (*ops).tx_pkt_burst?;
            Some(Self { function, queue: *(*ops).txq.data.add(usize::from(queue)) })
        }
    }

    /// Hands `count` packets to the driver; the first so many of them, as the
    /// result says, are now the driver's.
    ///
    /// # Safety
    /// `packets` holds `count` valid packets of the caller's; the port is
    /// still started; no other thread uses this queue.
    #[inline(always)]
    pub unsafe fn transmit(self, packets: *mut *mut rte_mbuf, count: u16) -> u16 {
        // SAFETY: the caller's.
        unsafe { (self.function)(self.queue, packets, count) }
    }
}
