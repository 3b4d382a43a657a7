// SPDX-License-Identifier: MIT OR Apache-2.0
//! epoll.

use crate::{
    answer::{done, Answer},
    poll::{milliseconds, time},
};
use libc::{c_int, epoll_event, sigset_t, timespec};
use std::ptr;
use tas::sockets::{epoll_calls, find, real, Entry};

/// epoll_create(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn epoll_create(size: c_int) -> c_int {
    // SAFETY: no pointers.
    let fd = unsafe { real::epoll_create(size) };
    epoll_calls::created(fd);
    fd
}

/// epoll_create1(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn epoll_create1(flags: c_int) -> c_int {
    // SAFETY: no pointers.
    let fd = unsafe { real::epoll_create1(flags) };
    epoll_calls::created(fd);
    fd
}

/// epoll_ctl(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn epoll_ctl(
    epfd: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut epoll_event,
) -> c_int {
    if find(epfd).is_none() && find(fd).is_none() {
        // SAFETY: the caller's promise.
        return unsafe { real::epoll_ctl(epfd, operation, fd, event) };
    }
    // SAFETY: the caller's promise.
    done(unsafe { epoll_calls::control(epfd, operation, fd, event) })
}

/// epoll_wait(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn epoll_wait(
    epfd: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match find(epfd) {
            Some(Entry::Epoll(token)) => {
                epoll_calls::wait(token, epfd, events, count, milliseconds(timeout_ms), ptr::null()).answer()
            }
            _ => real::epoll_wait(epfd, events, count, timeout_ms),
        }
    }
}

/// epoll_pwait(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn epoll_pwait(
    epfd: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout_ms: c_int,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match find(epfd) {
            Some(Entry::Epoll(token)) => {
                epoll_calls::wait(token, epfd, events, count, milliseconds(timeout_ms), mask).answer()
            }
            _ => real::epoll_pwait(epfd, events, count, timeout_ms, mask),
        }
    }
}

/// epoll_pwait2(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn epoll_pwait2(
    epfd: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        match find(epfd) {
            Some(Entry::Epoll(token)) => time(timeout)
                .and_then(|limit| epoll_calls::wait(token, epfd, events, count, limit, mask))
                .answer(),
            _ => real::epoll_pwait2(epfd, events, count, timeout, mask),
        }
    }
}
