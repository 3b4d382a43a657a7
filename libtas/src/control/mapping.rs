// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mapping of shared memory that ends with its value, and a reserved range of addresses.

use crate::sys;
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
};

/// Mapped shared memory, page-aligned, unmapped on drop. It is not inherited by a forked child.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    /// It covers part of a reservation, and gives the addresses back to it.
    within_reservation: bool,
    process: u32,
}

// SAFETY: a mapping is an address range that any thread may use; access goes through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes` of `descriptor` from `offset`, shared. With `at`, exactly there, replacing a
    /// part of a [`Mapping::reserve`]d range, which must be dropped later than this value.
    ///
    /// # Errors
    /// What `mmap(2)` reports; EINVAL when `bytes` is zero.
    pub fn new(
        descriptor: BorrowedFd<'_>,
        offset: u64,
        bytes: usize,
        writable: bool,
        at: Option<usize>,
    ) -> io::Result<Self> {
        // Populated now: nobody faults on the data path.
        Self::shared(descriptor, offset, bytes, writable, at, libc::MAP_POPULATE)
    }

    /// As [`Self::new`], but pages come as they are touched: for simulators, which make thousands of mappings.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn sparse(
        descriptor: BorrowedFd<'_>,
        bytes: usize,
        writable: bool,
        at: Option<usize>,
    ) -> io::Result<Self> {
        Self::shared(descriptor, 0, bytes, writable, at, 0)
    }

    fn shared(
        descriptor: BorrowedFd<'_>,
        offset: u64,
        bytes: usize,
        writable: bool,
        at: Option<usize>,
        populate: libc::c_int,
    ) -> io::Result<Self> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let flags = libc::MAP_SHARED | populate | if at.is_some() { libc::MAP_FIXED } else { 0 };
        let start = map(at.unwrap_or(0), bytes, protection, flags, descriptor.as_raw_fd(), offset)?;
        let mapping = Self { start, bytes, within_reservation: at.is_some(), process: sys::process_id() };
        // SAFETY: the range was just mapped by us. A child that wrote here would write its parent's data.
        if unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(mapping)
    }

    /// Private zeroed memory of `bytes`: what tests use in place of a slow path's.
    ///
    /// # Errors
    /// What `mmap(2)` reports.
    pub fn anonymous(bytes: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let start = map(0, bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)?;
        Ok(Self { start, bytes, within_reservation: false, process: sys::process_id() })
    }

    /// Reserves `bytes` of addresses at a multiple of `alignment` (a power of two), without memory.
    ///
    /// # Errors
    /// What `mmap(2)` reports.
    pub fn reserve(bytes: usize, alignment: usize) -> io::Result<Self> {
        let whole = bytes.checked_add(alignment).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let first = map(0, whole, libc::PROT_NONE, flags, -1, 0)?;
        let skip = first.as_ptr().align_offset(alignment);
        // SAFETY: `skip` is below `alignment`, so the start stays within the range.
        let start = unsafe { first.add(skip) };
        unmap(first, skip);
        // SAFETY: `skip + bytes` is within `whole`.
        unmap(unsafe { start.add(bytes) }, whole - skip - bytes);
        Ok(Self { start, bytes, within_reservation: false, process: sys::process_id() })
    }

    /// The first byte.
    #[inline]
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether the mapping is empty; it never is.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The first byte at `offset`, or None unless `bytes` more are within the mapping.
    #[inline]
    pub fn at(&self, offset: usize, bytes: usize) -> Option<NonNull<u8>> {
        if offset > self.bytes || bytes > self.bytes - offset {
            return None;
        }
        // SAFETY: `offset` was checked to be within the mapping.
        Some(unsafe { self.start.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // A forked child does not have the mapping; these addresses may be something else there.
        if sys::process_id() != self.process {
            return;
        }
        if self.within_reservation {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
            let _ = map(self.start.as_ptr() as usize, self.bytes, libc::PROT_NONE, flags, -1, 0);
        } else {
            unmap(self.start, self.bytes);
        }
    }
}

fn map(
    at: usize,
    bytes: usize,
    protection: i32,
    flags: i32,
    descriptor: i32,
    offset: u64,
) -> io::Result<NonNull<u8>> {
    let at = at as *mut libc::c_void;
    // SAFETY: without MAP_FIXED a new range is chosen; with it the caller owns the range.
    let start = unsafe { libc::mmap(at, bytes, protection, flags, descriptor, offset as libc::off_t) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

fn unmap(start: NonNull<u8>, bytes: usize) {
    if bytes > 0 {
        // SAFETY: the caller mapped exactly this range and nothing refers to it any more.
        unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn maps_into_a_reservation_and_gives_the_range_back() {
        let file = nix::sys::memfd::memfd_create(c"test", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&file, 4 << 20).unwrap();
        let range = Mapping::reserve(8 << 20, 2 << 20).unwrap();
        assert_eq!(range.start().as_ptr() as usize % (2 << 20), 0);
        let at = range.at(2 << 20, 2 << 20).unwrap().as_ptr() as usize;
        let part = Mapping::new(file.as_fd(), 2 << 20, 2 << 20, true, Some(at)).unwrap();
        assert_eq!(part.start().as_ptr() as usize, at);
        // SAFETY: just mapped writable.
        unsafe { part.start().as_ptr().write(7) };
        let mut byte = [0u8];
        nix::sys::uio::pread(&file, &mut byte, 2 << 20).unwrap();
        assert_eq!(byte, [7]);
        drop(part);
        assert!(range.at(8 << 20, 1).is_none());
    }
}
