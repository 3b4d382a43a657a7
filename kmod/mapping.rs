// SPDX-License-Identifier: GPL-2.0-only
//! Mapping a region into a process. Each mapping holds a reference to its region, so memory
//! outlives its owner's death for as long as somebody still maps it.

use crate::{memory::{Region, BLOCK_BYTES}, shim};
use kernel::{
    bindings, error::code::*, ffi, mm::virt::{flags, VmaNew}, page::PAGE_SIZE, prelude::*, sync::Arc,
};

#[repr(transparent)]
struct Operations(bindings::vm_operations_struct);
// SAFETY: immutable.
unsafe impl Sync for Operations {}

static OPERATIONS: Operations = Operations(bindings::vm_operations_struct {
    open: Some(open),
    close: Some(close),
    fault: Some(fault),
    huge_fault: Some(huge_fault),
    ..pin_init::zeroed()
});

/// Sets up `vma` as a mapping of `region`; read-only for good unless `writable`. Pages are entered on
/// the first touch or all at once with MAP_POPULATE. A child does not inherit it.
pub(crate) fn map(region: Arc<Region>, vma: &VmaNew, writable: bool) -> Result {
    if vma.flags() & flags::SHARED == 0 || vma.end() - vma.start() > region.bytes() {
        return Err(EINVAL);
    }
    if !writable {
        vma.try_clear_maywrite().map_err(|_| EACCES)?;
    }
    vma.try_clear_mayexec().map_err(|_| EACCES)?;
    vma.set_dontexpand();
    vma.set_dontcopy();
    vma.set_dontdump();
    // SAFETY: the area is being set up; `close` takes the reference back.
    unsafe {
        (*vma.as_ptr()).vm_ops = &raw const OPERATIONS.0;
        (*vma.as_ptr()).vm_private_data = Arc::into_raw(region).cast_mut().cast();
    }
    Ok(())
}

/// The area's region.
///
/// # Safety
/// `vma` was set up by [`map`] and not yet closed.
unsafe fn region<'a>(vma: *mut bindings::vm_area_struct) -> &'a Region {
    // SAFETY: set in `map`, and each area holds a reference.
    unsafe { &*(*vma).vm_private_data.cast::<Region>() }
}

/// The area was split or moved: one more reference.
unsafe extern "C" fn open(vma: *mut bindings::vm_area_struct) {
    // SAFETY: as for `region`; the temporary takes over the existing reference and its copy is
    // what the new area keeps.
    unsafe {
        let existing = Arc::from_raw((*vma).vm_private_data.cast::<Region>());
        let _ = Arc::into_raw(existing.clone());
        let _ = Arc::into_raw(existing);
    }
}

unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
    // SAFETY: the area's own reference.
    drop(unsafe { Arc::from_raw((*vma).vm_private_data.cast::<Region>()) });
}

unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: valid for the call; the area is ours.
    unsafe {
        let at = &(*vmf).__bindgen_anon_1;
        match region(at.vma).page(at.pgoff) {
            Some(page) => {
                shim::tas_shim_get_page(page);
                (*vmf).page = page;
                0
            }
            None => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
        }
    }
}

unsafe extern "C" fn huge_fault(vmf: *mut bindings::vm_fault, order: ffi::c_uint) -> bindings::vm_fault_t {
    let fallback = bindings::vm_fault_reason_VM_FAULT_FALLBACK;
    if order != bindings::HPAGE_PMD_ORDER {
        return fallback;
    }
    // SAFETY: valid for the call; the area is ours.
    unsafe {
        let at = &(*vmf).__bindgen_anon_1;
        let Some((folio, first)) = region(at.vma).folio(at.pgoff) else {
            return fallback;
        };
        let start = (*at.vma).__bindgen_anon_1.__bindgen_anon_1.vm_start;
        let end = (*at.vma).__bindgen_anon_1.__bindgen_anon_1.vm_end;
        // The block must lie inside the area, at an address aligned like it.
        let block = (at.address & !(PAGE_SIZE - 1)).wrapping_sub((at.pgoff - first) * PAGE_SIZE);
        if block % BLOCK_BYTES != 0 || block < start || end - start < BLOCK_BYTES || block > end - BLOCK_BYTES {
            return fallback;
        }
        let write = (*vmf).flags & bindings::fault_flag_FAULT_FLAG_WRITE != 0;
        bindings::vmf_insert_folio_pmd(vmf, folio, write)
    }
}
