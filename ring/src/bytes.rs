// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Views of a shared mapping: tables of atomics, ring words, plain bytes.

use core::{marker::PhantomData, ptr::NonNull, slice};

/// The `count` elements of a table at `start`.
///
/// # Safety
/// `start` is aligned for `T` and points to `count` elements of mapped memory that stays mapped for
/// `'m`; everyone who writes to it does so in whole aligned words. `T` is made of atomics only
/// (the ABI's table structs are).
pub unsafe fn table<'m, T: Sync>(start: NonNull<u8>, count: usize) -> &'m [T] {
    // SAFETY: the caller's contract.
    unsafe { slice::from_raw_parts(start.as_ptr().cast::<T>(), count) }
}

/// The `count` ring words at `start`.
///
/// # Safety
/// As for [`table`].
pub unsafe fn words<'m>(start: NonNull<u8>, count: usize) -> &'m [core::sync::atomic::AtomicU64] {
    // SAFETY: the caller's contract.
    unsafe { table(start, count) }
}

/// Payload bytes in shared memory. The other side may write them at any time, so they are only
/// ever copied, never borrowed.
#[derive(Clone, Copy)]
pub struct SharedBytes<'m> {
    start: NonNull<u8>,
    len: usize,
    mapping: PhantomData<&'m [u8]>,
}

// SAFETY: access is by copy; a concurrent writer can change what is copied, which callers expect.
unsafe impl Send for SharedBytes<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes<'_> {}

impl<'m> SharedBytes<'m> {
    /// The `len` bytes at `start`.
    ///
    /// # Safety
    /// They are mapped, readable and writable for `'m`, and not otherwise borrowed by Rust code.
    pub unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len, mapping: PhantomData }
    }

    /// Bytes in the view.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if the view has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the byte at `offset` if `count` bytes from there are inside.
    #[inline]
    fn at(&self, offset: usize, count: usize) -> Option<*mut u8> {
        let end = offset.checked_add(count)?;
        if end > self.len {
            return None;
        }
        // SAFETY: `offset <= len`, inside the view.
        Some(unsafe { self.start.as_ptr().add(offset) })
    }

    /// Copies out. False, and nothing copied, if out of bounds.
    #[inline]
    pub fn read(&self, offset: usize, into: &mut [u8]) -> bool {
        match self.at(offset, into.len()) {
            // SAFETY: `at` checked the bounds; `into` is private memory and does not overlap.
            Some(from) => unsafe {
                core::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len());
                true
            },
            None => false,
        }
    }

    /// Copies in. False, and nothing copied, if out of bounds.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) -> bool {
        match self.at(offset, from.len()) {
            // SAFETY: `at` checked the bounds; `from` is private memory and does not overlap.
            Some(into) => unsafe {
                core::ptr::copy_nonoverlapping(from.as_ptr(), into, from.len());
                true
            },
            None => false,
        }
    }

    /// The part of `len` bytes at `offset`.
    #[inline]
    pub fn slice(&self, offset: usize, len: usize) -> Option<SharedBytes<'m>> {
        let start = NonNull::new(self.at(offset, len)?)?;
        Some(SharedBytes { start, len, mapping: PhantomData })
    }

    /// The `count` 32-bit atomics at `offset` (which is a multiple of four).
    #[inline]
    pub fn atomics_u32(&self, offset: usize, count: usize) -> Option<&'m [core::sync::atomic::AtomicU32]> {
        let start = NonNull::new(self.at(offset, count.checked_mul(4)?)?)?;
        if start.as_ptr() as usize & 3 != 0 {
            return None;
        }
        // SAFETY: in bounds and aligned; the mapping outlives `'m` by the contract of `new`.
        Some(unsafe { table(start, count) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn copies_are_bounded() {
        let mut memory = std::vec![0u8; 64];
        let start = NonNull::new(memory.as_mut_ptr()).unwrap();
        // SAFETY: `memory` outlives the view and is not touched meanwhile.
        let bytes = unsafe { SharedBytes::new(start, 64) };
        assert!(bytes.write(60, &[1, 2, 3, 4]));
        assert!(!bytes.write(61, &[1, 2, 3, 4]));
        assert!(!bytes.write(usize::MAX, &[1]));
        let mut out = [0; 4];
        assert!(bytes.read(60, &mut out));
        assert_eq!(out, [1, 2, 3, 4]);
        assert!(bytes.slice(60, 5).is_none());
        assert_eq!(bytes.slice(8, 8).unwrap().len(), 8);
        assert!(bytes.atomics_u32(64, 1).is_none());
    }
}
