// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts EAL without huge pages and sends packets through a port made of an
//! in-process ring: the whole of the hot interface, as any user.

use std::ffi::{c_char, CString};
use std::ptr::null_mut;

use dpdk_sys::burst::{RxBurst, TxBurst};
use dpdk_sys::pool::PoolCache;
use dpdk_sys::*;

const PACKETS: usize = 10_000;
const BURST: usize = 16;
const POOL_SIZE: u32 = 1023;

fn start_eal() {
    let words = [
        "dpdk-sys-test",
        "--no-huge",
        "-m",
        "64",
        "--no-pci",
        "--no-telemetry",
        "--iova-mode=va",
        "--log-level=3",
        "--vdev=net_null0",
        "--no-shconf",
    ];
    let owned: Vec<CString> = words.iter().map(|word| CString::new(*word).unwrap()).collect();
    let mut arguments: Vec<*mut c_char> = owned.iter().map(|word| word.as_ptr().cast_mut()).collect();
    // SAFETY: EAL keeps no pointer to the vector; the strings live as long as `owned`.
    let parsed = unsafe { rte_eal_init(arguments.len() as i32, arguments.as_mut_ptr()) };
    assert_eq!(parsed, words.len() as i32 - 1, "EAL refused: errno {}", unsafe { tas_errno() });
    std::mem::forget(owned);
}

/// A port whose transmit queue is its receive queue.
unsafe fn ring_port(pool: *mut rte_mempool) -> u16 {
    unsafe {
        let ring = rte_ring_create(c"loop".as_ptr(), 256, 0, RING_F_SP_ENQ | RING_F_SC_DEQ);
        assert!(!ring.is_null());
        let port = rte_eth_from_rings(c"loop".as_ptr(), &ring, 1, &ring, 1, 0);
        assert!(port >= 0);
        let port = port as u16;
        let conf: rte_eth_conf = std::mem::zeroed();
        assert_eq!(rte_eth_dev_configure(port, 1, 1, &conf), 0);
        assert_eq!(rte_eth_rx_queue_setup(port, 0, 256, 0, std::ptr::null(), pool), 0);
        assert_eq!(rte_eth_tx_queue_setup(port, 0, 256, 0, std::ptr::null()), 0);
        assert_eq!(rte_eth_dev_start(port), 0);
        port
    }
}

#[test]
fn packets_go_round() {
    start_eal();
    // SAFETY: one thread, EAL's main lcore, does everything below.
    unsafe {
        // The drivers linked statically registered themselves: --vdev found one.
        assert_eq!(rte_eth_dev_count_avail(), 1);
        let pool = rte_pktmbuf_pool_create(c"pool".as_ptr(), POOL_SIZE, 64, 0, 2048 + 128, -1);
        assert!(!pool.is_null());
        let cache = PoolCache::of_this_thread(pool).unwrap();
        let port = ring_port(pool);
        let rx = RxBurst::new(port, 0).unwrap();
        let tx = TxBurst::new(port, 0).unwrap();

        let mut batch = [null_mut::<rte_mbuf>(); BURST];
        let mut sequence = 0u64;
        for _ in 0..PACKETS / BURST {
            for slot in &mut batch {
                *slot = cache.alloc(64);
                assert!(!slot.is_null());
                mbuf::data(*slot).cast::<u64>().write_unaligned(sequence);
                sequence += 1;
            }
            assert_eq!(tx.transmit(batch.as_mut_ptr(), BURST as u16), BURST as u16);
            let got = rx.receive(batch.as_mut_ptr(), BURST as u16);
            assert_eq!(usize::from(got), BURST);
            for (index, m) in batch.iter().enumerate() {
                let value = mbuf::data(*m).cast::<u64>().read_unaligned();
                assert_eq!(value, sequence - (BURST - index) as u64);
                assert_eq!((mbuf::pkt_len(*m), mbuf::data_len(*m)), (64, 64));
                cache.free(*m);
            }
        }

        // Every buffer can be had, none twice, and then none; and all come back.
        let mut held = Vec::new();
        loop {
            let m = cache.alloc(1);
            if m.is_null() {
                break;
            }
            held.push(m);
        }
        assert_eq!(held.len(), POOL_SIZE as usize);
        held.sort();
        held.dedup();
        assert_eq!(held.len(), POOL_SIZE as usize);
        for m in held {
            cache.free(m);
        }
        assert_eq!(rte_mempool_avail_count(pool), POOL_SIZE);
        assert_eq!(rte_eth_dev_stop(port), 0);
        rte_eal_cleanup();
    }
}
