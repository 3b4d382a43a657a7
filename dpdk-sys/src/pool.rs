// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocation and release of mbufs through the calling thread's mempool
//! cache: a stack of pointers, no call into C until it runs empty or full.

use crate::*;

/// The cache of one thread in one packet pool.
///
/// Not `Send`: the cache belongs to the thread's lcore id.
#[derive(Clone, Copy)]
pub struct PoolCache {
    pool: *mut rte_mempool,
    cache: *mut rte_mempool_cache,
}

impl PoolCache {
    /// The calling thread's cache in `pool`; `None` when the thread has no
    /// lcore id (register it first) or the pool no caches.
    ///
    /// # Safety
    /// `pool` is a packet pool that outlives the value; the value stays in
    /// this thread.
    pub unsafe fn of_this_thread(pool: *mut rte_mempool) -> Option<Self> {
        // SAFETY: the caller's.
        let cache = unsafe { tas_mempool_cache(pool, tas_lcore_id()) };
        if cache.is_null() {
            return None;
        }
        Some(Self { pool, cache })
    }

    /// The pool the cache belongs to.
    pub fn pool(self) -> *mut rte_mempool {
        self.pool
    }

    #[inline(always)]
    fn len(self) -> *mut u32 {
        self.cache.cast::<u8>().wrapping_add(TAS_CACHE_OFF_LEN as usize).cast()
    }

    #[inline(always)]
    fn flush_threshold(self) -> u32 {
        let field = self.cache.cast::<u8>().wrapping_add(TAS_CACHE_OFF_FLUSHTHRESH as usize);
        // SAFETY: the offset of a 32-bit field of the live cache.
        unsafe { field.cast::<u32>().read() }
    }

    #[inline(always)]
    fn objects(self) -> *mut *mut rte_mbuf {
        self.cache.cast::<u8>().wrapping_add(TAS_CACHE_OFF_OBJS as usize).cast()
    }

    /// An mbuf of `len` bytes, its contents whatever they were; null when the
    /// pool is exhausted.
    ///
    /// # Safety
    /// In the thread the cache belongs to; `len` fits the pool's buffers.
    #[inline(always)]
    pub unsafe fn alloc(self, len: u16) -> *mut rte_mbuf {
        // SAFETY: len objects are on the stack; only this thread touches it.
        unsafe {
            let mut held = self.len().read();
            if held == 0 {
                if tas_mempool_cache_refill(self.pool, self.cache) != 0 {
                    return core::ptr::null_mut();
                }
                held = self.len().read();
            }
            let top = held.wrapping_sub(1);
            let m = self.objects().add(top as usize).read();
            self.len().write(top);
            mbuf::reset(m, len);
            m
        }
    }

    /// Gives an mbuf back. One that is chained, shared, of another pool or
    /// with a foreign buffer goes the long way through DPDK.
    ///
    /// # Safety
    /// In the thread the cache belongs to; `m` is the caller's and not used
    /// again.
    #[inline(always)]
    pub unsafe fn free(self, m: *mut rte_mbuf) {
        // SAFETY: the caller's; objs has room for twice the largest size, and
        // the stack never grows past the threshold, which is 1.5 times it.
        unsafe {
            let plain = mbuf::refcnt(m) == 1
                && mbuf::nb_segs(m) == 1
                && mbuf::pool(m) == self.pool
                && mbuf::ol_flags(m) & (TAS_MBUF_INDIRECT | TAS_MBUF_EXTERNAL) == 0;
            if !plain {
                tas_pktmbuf_free(m);
                return;
            }
            mbuf::set_next(m, core::ptr::null_mut());
            let held = self.len().read();
            self.objects().add(held as usize).write(m);
            self.len().write(held.wrapping_add(1));
            if held.wrapping_add(1) >= self.flush_threshold() {
                tas_mempool_cache_spill(self.pool, self.cache);
            }
        }
    }
}
