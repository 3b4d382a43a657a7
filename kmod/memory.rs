// SPDX-License-Identifier: GPL-2.0-only
//! Regions of memory that the module allocates and others map: tables, rings, payload.

use crate::shim;
use abi::region::Region as Name;
use core::{ptr::NonNull, sync::atomic::AtomicU64};
use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT, bindings, error::code::*, page::PAGE_SIZE, prelude::*,
    sync::Arc,
};

/// Pages of a block that one page-table entry can map.
pub(crate) const BLOCK_PAGES: usize = 1 << bindings::HPAGE_PMD_ORDER;
/// Bytes of such a block.
pub(crate) const BLOCK_BYTES: usize = BLOCK_PAGES * PAGE_SIZE;

/// Whose memory it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charge {
    /// The host's: tables of an instance, set up by a privileged process.
    Host,
    /// The calling process's memory cgroup. At its limit the allocation fails; it never
    /// calls the out-of-memory killer.
    Caller,
}

impl Charge {
    /// For single pages and for bookkeeping.
    fn gfp(self) -> bindings::gfp_t {
        let zeroed = bindings::__GFP_ZERO | bindings::__GFP_NOWARN;
        match self {
            Self::Host => bindings::GFP_KERNEL | zeroed,
            Self::Caller => bindings::GFP_KERNEL_ACCOUNT | zeroed | NORETRY,
        }
    }
    fn flags(self) -> kernel::alloc::Flags {
        match self {
            Self::Host => GFP_KERNEL,
            Self::Caller => GFP_KERNEL_ACCOUNT,
        }
    }
}

const NORETRY: bindings::gfp_t = 1 << bindings::___GFP_NORETRY_BIT;

/// Zeroed memory, in 2 MiB blocks where they are to be had. Freed when the last reference goes:
/// those of the module's tables and one for every mapping in a process.
pub(crate) struct Region {
    name: Name,
    /// One per 4 KiB; each holds a reference (the first page of a huge block for all of it).
    pages: KVVec<*mut bindings::page>,
    /// One per complete 2 MiB: it is a single compound page.
    huge: KVec<bool>,
    /// The kernel's own view of it.
    view: Option<NonNull<u8>>,
}

// SAFETY: pages are reference-counted kernel objects; the view is only reached through atomics.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Allocates `bytes`, rounded up to pages. With `view` the kernel itself can reach it.
    pub(crate) fn new(name: Name, bytes: usize, charge: Charge, view: bool) -> Result<Arc<Self>> {
        let count = bytes.checked_add(PAGE_SIZE - 1).ok_or(ENOMEM)? / PAGE_SIZE;
        let mut region = Self { name, pages: KVVec::new(), huge: KVec::new(), view: None };
        region.pages.reserve(count, charge.flags())?;
        while region.pages.len() < count {
            let missing = count - region.pages.len();
            if missing < BLOCK_PAGES {
                region.add_pages(missing, charge)?;
            } else if region.add_huge(charge)? {
                region.huge.push(true, charge.flags())?;
            } else {
                region.add_pages(BLOCK_PAGES, charge)?;
                region.huge.push(false, charge.flags())?;
            }
        }
        if view {
            let count = u32::try_from(count).map_err(|_| ENOMEM)?;
            // SAFETY: `count` valid pages, which live as long as `region`.
            let start = unsafe { shim::tas_shim_map_pages(region.pages.as_mut_ptr(), count) };
            region.view = Some(NonNull::new(start).ok_or(ENOMEM)?);
        }
        Ok(Arc::new(region, GFP_KERNEL)?)
    }

    /// A block of 2 MiB; false if there is none to be had.
    fn add_huge(&mut self, charge: Charge) -> Result<bool> {
        // SAFETY: FFI; may sleep.
        let folio = unsafe { shim::tas_shim_huge_folio(charge.gfp() | NORETRY) };
        if folio.is_null() {
            return Ok(false);
        }
        for index in 0..BLOCK_PAGES {
            // SAFETY: the folio has that many pages.
            let page = unsafe { shim::tas_shim_page_of(folio, index) };
            if let Err(error) = self.pages.push(page, charge.flags()) {
                // Reserved by `new`, so this does not happen; keep the books right anyway.
                if index == 0 {
                    // SAFETY: the reference from the allocation.
                    unsafe { shim::tas_shim_put_page(page) };
                }
                return Err(error.into());
            }
        }
        Ok(true)
    }

    fn add_pages(&mut self, count: usize, charge: Charge) -> Result {
        for _ in 0..count {
            // SAFETY: FFI; may sleep.
            let page = unsafe { bindings::alloc_pages(charge.gfp(), 0) };
            if page.is_null() {
                return Err(ENOMEM);
            }
            if let Err(error) = self.pages.push(page, charge.flags()) {
                // SAFETY: the reference from the allocation.
                unsafe { shim::tas_shim_put_page(page) };
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Bytes, whole pages.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.len() * PAGE_SIZE
    }

    /// The page at page `pgoff` of the device's mmap offsets, if it is in this region.
    pub(crate) fn page(&self, pgoff: usize) -> Option<*mut bindings::page> {
        self.pages.get(self.index(pgoff)?).copied()
    }

    /// The compound page that holds page `pgoff`, if it is in one, and where it begins.
    pub(crate) fn folio(&self, pgoff: usize) -> Option<(*mut bindings::folio, usize)> {
        let index = self.index(pgoff)?;
        let first = index & !(BLOCK_PAGES - 1);
        if !*self.huge.get(first / BLOCK_PAGES)? {
            return None;
        }
        let page = *self.pages.get(first)?;
        Some((page.cast(), pgoff - (index - first)))
    }

    fn index(&self, pgoff: usize) -> Option<usize> {
        pgoff.checked_sub((self.name.offset() / PAGE_SIZE as u64) as usize)
    }

    /// Table entries at `offset` bytes, of the kernel's view.
    ///
    /// # Safety
    /// The result is not used after `self` is gone, whatever its lifetime says. `T` is made of
    /// atomics.
    pub(crate) unsafe fn table<'m, T: Sync>(&self, offset: usize, count: usize) -> Result<&'m [T]> {
        let needed = count.checked_mul(core::mem::size_of::<T>()).ok_or(EINVAL)?;
        let end = offset.checked_add(needed).ok_or(EINVAL)?;
        let view = self.view.ok_or(EINVAL)?;
        if end > self.bytes() || offset % core::mem::align_of::<T>() != 0 {
            return Err(EINVAL);
        }
        // SAFETY: inside the view, which is page-aligned and mapped as long as `self`.
        Ok(unsafe { ring::table(view.add(offset), count) })
    }

    /// Ring words at `offset` bytes.
    ///
    /// # Safety
    /// As for [`Self::table`].
    pub(crate) unsafe fn words<'m>(&self, offset: usize, bytes: usize) -> Result<&'m [AtomicU64]> {
        // SAFETY: the caller's contract.
        unsafe { self.table(offset, bytes / 8) }
    }

    /// Bytes at `offset` that are only copied.
    ///
    /// # Safety
    /// As for [`Self::table`].
    pub(crate) unsafe fn shared_bytes<'m>(&self, offset: usize, bytes: usize) -> Result<ring::SharedBytes<'m>> {
        let view = self.view.ok_or(EINVAL)?;
        // SAFETY: the view is mapped as long as `self`; Rust references into it are to atomics.
        let all = unsafe { ring::SharedBytes::new(view, self.bytes()) };
        all.slice(offset, bytes).ok_or(EINVAL)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(view) = self.view {
            // SAFETY: from `tas_shim_map_pages`; nobody uses it any more.
            unsafe { shim::tas_shim_unmap_pages(view.as_ptr()) };
        }
        for (index, page) in self.pages.iter().enumerate() {
            let in_huge = self.huge.get(index / BLOCK_PAGES).copied().unwrap_or(false);
            if !in_huge || index % BLOCK_PAGES == 0 {
                // SAFETY: the reference from the allocation.
                unsafe { shim::tas_shim_put_page(*page) };
            }
        }
    }
}
