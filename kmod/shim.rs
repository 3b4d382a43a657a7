// SPDX-License-Identifier: GPL-2.0-only
//! Declarations of `shim.c`, and of exported kernel functions that the bindings lack.

use kernel::{bindings, ffi};

// Kernel structs are only passed on by pointer.
#[allow(improper_ctypes)]
unsafe extern "C" {
    /// A compound page of 2 MiB, or null.
    pub(crate) fn tas_shim_huge_folio(gfp: bindings::gfp_t) -> *mut bindings::folio;
    /// Takes a reference to a page.
    pub(crate) fn tas_shim_get_page(page: *mut bindings::page);
    /// Gives a reference back; frees the page (or the compound page) with the last.
    pub(crate) fn tas_shim_put_page(page: *mut bindings::page);
    /// Page `index` of a compound page.
    pub(crate) fn tas_shim_page_of(folio: *mut bindings::folio, index: usize) -> *mut bindings::page;
    /// A contiguous kernel mapping of the pages, or null. May sleep.
    pub(crate) fn tas_shim_map_pages(pages: *mut *mut bindings::page, count: ffi::c_uint) -> *mut u8;
    /// Undoes `tas_shim_map_pages`. May sleep.
    pub(crate) fn tas_shim_unmap_pages(address: *const u8);
    /// Pages that can be had without swapping, an estimate.
    pub(crate) fn tas_shim_available_pages() -> usize;
    /// The TSC, ordered after earlier loads.
    pub(crate) fn tas_shim_tsc() -> u64;
    /// Lets others run.
    pub(crate) fn tas_shim_cond_resched();
    /// Copies the command name of the current task, zero-padded.
    pub(crate) fn tas_shim_command(into: *mut u8, bytes: ffi::c_uint) -> ffi::c_int;
    /// Sets up the context of a pseudo file system. ENOMEM.
    pub(crate) fn tas_shim_init_sockfs(
        context: *mut bindings::fs_context,
        operations: *const bindings::dentry_operations,
    ) -> ffi::c_int;
    /// Name of a socket's dentry, whose private data is the socket's id.
    pub(crate) fn tas_shim_socket_name(
        dentry: *mut bindings::dentry,
        buffer: *mut ffi::c_char,
        bytes: ffi::c_int,
    ) -> *mut ffi::c_char;
}
