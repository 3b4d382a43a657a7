// SPDX-License-Identifier: MIT OR Apache-2.0
//! poll and select.

use crate::answer::Answer;
use libc::{c_int, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};
use std::{
    ptr, slice,
    time::{Duration, Instant},
};
use tas::sockets::{poll as sets, real, Errno, Result};

/// A limit in milliseconds; negative is none.
pub(crate) fn milliseconds(limit: c_int) -> Option<Duration> {
    u64::try_from(limit).ok().map(Duration::from_millis)
}

/// A limit as a `timespec`; null is none.
///
/// # Safety
/// `limit` is null or valid.
pub(crate) unsafe fn time(limit: *const timespec) -> Result<Option<Duration>> {
    // SAFETY: the caller's promise.
    match unsafe { limit.as_ref() } {
        None => Ok(None),
        Some(limit) if limit.tv_sec < 0 || !(0..1_000_000_000).contains(&limit.tv_nsec) => {
            Err(Errno(libc::EINVAL))
        }
        Some(limit) => Ok(Some(Duration::new(limit.tv_sec as u64, limit.tv_nsec as u32))),
    }
}

/// The caller's set, if one of ours is in it.
///
/// # Safety
/// `set` is valid for `count` entries.
unsafe fn ours<'a>(set: *mut pollfd, count: nfds_t) -> Option<&'a mut [pollfd]> {
    if set.is_null() || count == 0 {
        return None;
    }
    // SAFETY: the caller's promise.
    let set = unsafe { slice::from_raw_parts_mut(set, count as usize) };
    sets::has_ours(set).then_some(set)
}

/// poll(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn poll(set: *mut pollfd, count: nfds_t, timeout_ms: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match ours(set, count) {
            Some(set) => sets::poll(set, milliseconds(timeout_ms), ptr::null()).answer(),
            None => real::poll(set, count, timeout_ms),
        }
    }
}

/// ppoll(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn ppoll(
    set: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match ours(set, count) {
            Some(set) => time(timeout).and_then(|limit| sets::poll(set, limit, mask)).answer(),
            None => real::ppoll(set, count, timeout, mask),
        }
    }
}

/// select(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let sets = sets::Sets::new(count, [read, write, except]);
        if !sets.has_ours() {
            return real::select(count, read, write, except, timeout);
        }
        let limit = match timeout.as_ref() {
            Some(limit) if limit.tv_sec < 0 || limit.tv_usec < 0 => {
                return Err::<i32, _>(Errno(libc::EINVAL)).answer()
            }
            Some(limit) => {
                Some(Duration::from_secs(limit.tv_sec as u64) + Duration::from_micros(limit.tv_usec as u64))
            }
            None => None,
        };
        let start = Instant::now();
        let result = sets::select(&sets, limit, ptr::null());
        // Linux leaves in the time-out what is left of it.
        if let (Some(timeout), Some(limit)) = (timeout.as_mut(), limit) {
            let left = limit.saturating_sub(start.elapsed());
            timeout.tv_sec = left.as_secs() as libc::time_t;
            timeout.tv_usec = left.subsec_micros().into();
        }
        result.answer()
    }
}

/// pselect(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let sets = sets::Sets::new(count, [read, write, except]);
        if !sets.has_ours() {
            return real::pselect(count, read, write, except, timeout, mask);
        }
        time(timeout).and_then(|limit| sets::select(&sets, limit, mask)).answer()
    }
}
