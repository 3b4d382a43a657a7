// SPDX-License-Identifier: MIT OR Apache-2.0
//! One memory region of an instance: a sealed memfd that other processes map, or plain heap
//! memory for everything that runs in one process.

use nix::{
    fcntl::{fallocate, fcntl, open, FallocateFlags, FcntlArg, OFlag, SealFlag},
    sys::{
        memfd::{memfd_create, MFdFlags},
        stat::{fchmod, Mode},
    },
    unistd::ftruncate,
};
use ring::SharedBytes;
use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

/// Alignment and granularity of a region.
const PAGE_BYTES: usize = 4096;

/// Where the memory of an instance comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// Zeroed memory of this process alone; everything in one process (simulator, benchmarks, tests).
    Heap,
    /// A sealed memfd per region, to be passed to other processes.
    Memfd,
    /// As `Memfd`, but pages come as they are touched, of all regions (simulators, which make thousands of instances).
    Sparse,
}

enum Backing {
    Heap { _mapping: memmap2::MmapRaw },
    Memfd { file: OwnedFd, _mapping: memmap2::MmapRaw },
}

/// Who may write a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// This process alone: the memfd refuses every other writable mapping, for ever.
    Daemon,
    /// Whoever is handed a writable descriptor.
    Shared,
}

/// The ABI's table structs: made of atomics only, any bytes are one.
///
/// # Safety
/// Implement it only for such types.
pub unsafe trait TableEntry: Sync {}
// SAFETY: an atomic.
unsafe impl TableEntry for AtomicU64 {}
// SAFETY: atomics only, see abi.
unsafe impl TableEntry for abi::flow::HotFlow {}
// SAFETY: atomics only, see abi.
unsafe impl TableEntry for abi::flow::ColdFlow {}
// SAFETY: atomics only, see abi.
unsafe impl TableEntry for abi::adjacency::Adjacency {}
// SAFETY: atomics only, see abi.
unsafe impl TableEntry for abi::recovery::RecoveryBlock {}
// SAFETY: atomics only, see abi.
unsafe impl TableEntry for abi::clock::ClockPage {}
// SAFETY: atomics only, see abi.
unsafe impl TableEntry for abi::context::ContextHeader {}
// SAFETY: atomics only, see abi.
unsafe impl TableEntry for abi::core_status::CoreStatus {}

/// A zeroed region, page-aligned, that lives until dropped.
pub struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    backing: Backing,
}

// SAFETY: the region is only reached through atomics and bounded copies.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// A region of `bytes` (rounded up to a page). `name` shows in `/proc/PID/maps`. With
    /// `populate` the pages are allocated now, so that nobody waits for them later.
    ///
    /// # Errors
    /// ENOMEM, or what `memfd_create`, `ftruncate`, `fallocate` and `mmap` report.
    pub fn new(
        kind: MemoryKind,
        name: &str,
        bytes: usize,
        writers: Writers,
        populate: bool,
    ) -> io::Result<Self> {
        let bytes = bytes
            .max(1)
            .checked_next_multiple_of(PAGE_BYTES)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        match kind {
            MemoryKind::Heap => Self::heap(bytes),
            MemoryKind::Memfd => Self::memfd(name, bytes, writers, populate),
            MemoryKind::Sparse => Self::memfd(name, bytes, writers, false),
        }
    }

    /// Anonymous pages rather than an allocation: they are zero without being touched.
    fn heap(bytes: usize) -> io::Result<Self> {
        let mapping = memmap2::MmapRaw::from(memmap2::MmapOptions::new().len(bytes).map_anon()?);
        let start =
            NonNull::new(mapping.as_mut_ptr()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { start, bytes, backing: Backing::Heap { _mapping: mapping } })
    }

    fn memfd(name: &str, bytes: usize, writers: Writers, populate: bool) -> io::Result<Self> {
        let name = CString::new(name)?;
        let file = memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        // A descriptor passed read-only must not be re-opened for writing through /proc/self/fd.
        fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let length = i64::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        ftruncate(&file, length)?;
        if populate {
            fallocate(&file, FallocateFlags::empty(), 0, length)?;
        }
        let mapping = memmap2::MmapOptions::new().len(bytes).map_raw(&file)?;
        let mut seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        if writers == Writers::Daemon {
            seals |= libc::F_SEAL_FUTURE_WRITE;
        }
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::from_bits_retain(seals)))?;
        let start =
            NonNull::new(mapping.as_mut_ptr()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { start, bytes, backing: Backing::Memfd { file, _mapping: mapping } })
    }

    /// Bytes of the region.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// A region is never empty.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Address of the first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// `count` table entries at `offset` bytes. `T` must be one of the ABI's table structs (atomics
    /// only). `None` if out of bounds or misaligned.
    pub fn table<T: TableEntry>(&self, offset: usize, count: usize) -> Option<&[T]> {
        let needed = count.checked_mul(size_of::<T>())?;
        if offset.checked_add(needed)? > self.bytes || offset & (align_of::<T>() - 1) != 0 {
            return None;
        }
        // SAFETY: in bounds, aligned (the region is page-aligned), mapped as long as `self`;
        // `TableEntry` types are made of atomics.
        Some(unsafe { ring::table(self.start.add(offset), count) })
    }

    /// `count` ring words at `offset` bytes.
    pub fn words(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        self.table(offset, count)
    }

    /// All of the region as bytes that are only copied.
    pub fn bytes(&self) -> SharedBytes<'_> {
        // SAFETY: mapped and writable as long as `self`; Rust references into it are to atomics.
        unsafe { SharedBytes::new(self.start, self.bytes) }
    }

    /// A descriptor to pass on: writable, or one that can only be mapped read-only. Heap memory has
    /// none (ENOTSUP).
    ///
    /// # Errors
    /// What `dup` and `open` report.
    pub fn descriptor(&self, writable: bool) -> io::Result<OwnedFd> {
        let Backing::Memfd { file, .. } = &self.backing else {
            return Err(io::Error::from_raw_os_error(libc::ENOTSUP));
        };
        if writable {
            return file.try_clone();
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn both_kinds_are_zeroed_bounded_and_shared() {
        for kind in [MemoryKind::Heap, MemoryKind::Memfd] {
            let memory = Memory::new(kind, "test", 5000, Writers::Shared, true).unwrap();
            assert_eq!(memory.len(), 8192);
            let words = memory.words(4096, 512).unwrap();
            assert!(words.iter().all(|word| word.load(Relaxed) == 0));
            words[0].store(7, Relaxed);
            let mut bytes = [0; 8];
            assert!(memory.bytes().read(4096, &mut bytes));
            assert_eq!(u64::from_le_bytes(bytes), 7);
            assert!(memory.words(4096, 513).is_none());
            assert!(memory.words(4, 1).is_none());
            assert!(memory.words(usize::MAX, 1).is_none());
        }
    }

    #[test]
    fn a_read_only_descriptor_cannot_be_mapped_for_writing() {
        let shared = Memory::new(MemoryKind::Memfd, "test", 4096, Writers::Shared, false).unwrap();
        let read_only = shared.descriptor(false).unwrap();
        assert!(memmap2::MmapOptions::new().len(4096).map_raw(&read_only).is_err());
        assert!(memmap2::MmapOptions::new().len(4096).map_raw_read_only(&read_only).is_ok());
        let writable = shared.descriptor(true).unwrap();
        assert!(memmap2::MmapOptions::new().len(4096).map_raw(&writable).is_ok());
        assert!(ftruncate(&writable, 8192).is_err() && ftruncate(&writable, 0).is_err());
    }

    #[test]
    fn a_region_of_the_daemon_refuses_other_writers_even_when_handed_out() {
        let own = Memory::new(MemoryKind::Memfd, "test", 4096, Writers::Daemon, false).unwrap();
        let handed = own.descriptor(true).unwrap();
        assert!(memmap2::MmapOptions::new().len(4096).map_raw(&handed).is_err());
        own.words(0, 1).unwrap()[0].store(9, Relaxed);
        let view = memmap2::MmapOptions::new().len(4096).map_raw_read_only(&handed).unwrap();
        // SAFETY: mapped, aligned.
        assert_eq!(unsafe { *view.as_ptr().cast::<u64>() }, 9);
    }
}
