// SPDX-License-Identifier: MIT OR Apache-2.0
//! Noticing that this process is a child: by a page that the kernel wipes in a child of fork
//! (MADV_WIPEONFORK), whichever system call made it, and by the process id for children of vfork,
//! which run in our own memory and must leave it as it is.

use crate::sys;
use std::{
    ptr,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

const MAGIC: u32 = 0x7461_7331;
/// One page, the smallest unit of madvise.
const PAGE_BYTES: usize = 4096;

static MARK: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
static OWNER: AtomicU32 = AtomicU32::new(0);
static FORKS: AtomicU64 = AtomicU64::new(0);

extern "C" fn before_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Marks this process as the one that owns what is in memory. Called once per process, by the
/// first call that creates anything.
pub(crate) fn mark() {
    let mut page = MARK.load(Ordering::Acquire);
    if page.is_null() {
        page = allocate();
        if page.is_null() {
            return;
        }
        MARK.store(page, Ordering::Release);
        // SAFETY: the handler may run in any thread that forks.
        unsafe { libc::pthread_atfork(Some(before_fork), None, None) };
    }
    OWNER.store(sys::process_id(), Ordering::Relaxed);
    // SAFETY: the page is never unmapped.
    unsafe { (*page).store(MAGIC, Ordering::Release) };
}

fn allocate() -> *mut AtomicU32 {
    // SAFETY: a fresh anonymous mapping; the advice concerns that mapping only.
    unsafe {
        let page = libc::mmap(
            ptr::null_mut(),
            PAGE_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return ptr::null_mut();
        }
        libc::madvise(page, PAGE_BYTES, libc::MADV_WIPEONFORK);
        page.cast()
    }
}

/// True in a child of fork until [`mark`] is called there.
#[inline]
pub(crate) fn in_child() -> bool {
    let page = MARK.load(Ordering::Acquire);
    // SAFETY: null or a page that is never unmapped.
    unsafe { page.as_ref() }.is_some_and(|mark| mark.load(Ordering::Relaxed) != MAGIC)
}

/// True in a child of vfork: our memory, but another process's descriptors. False before anything
/// was made, and in a child of fork, which has memory of its own.
pub(crate) fn in_vfork_child() -> bool {
    let owner = OWNER.load(Ordering::Relaxed);
    owner != 0 && !in_child() && owner != sys::process_id()
}

/// Process id of the process that owns what is in memory.
pub(crate) fn owner() -> u32 {
    OWNER.load(Ordering::Relaxed)
}

/// Forks so far: a socket older than the last one may be held by a child too.
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_is_noticed() {
        mark();
        assert!(!in_child() && !in_vfork_child());
        let before = forks();
        // SAFETY: the child calls nothing but this crate's atomics and _exit.
        let status = unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(i32::from(!in_child() || in_vfork_child()));
            }
            let mut status = -1;
            libc::waitpid(child, &mut status, 0);
            status
        };
        assert_eq!(status, 0);
        assert!(!in_child());
        assert!(forks() > before);
    }
}
