// SPDX-License-Identifier: MIT OR Apache-2.0
//! close, dup, fcntl, ioctl.

use crate::answer::{done, Answer};
use libc::{c_int, c_ulong, c_void, FILE};
use tas::sockets::{descriptors, find, inherited, real, Entry};

/// close(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    match find(fd) {
        // SAFETY: no pointers.
        None => unsafe { real::close(fd) },
        Some(entry) => done(descriptors::close(entry, fd)),
    }
}

/// close_range(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn close_range(first: u32, last: u32, flags: c_int) -> c_int {
    if flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0 {
        descriptors::close_range(first, last);
    }
    // SAFETY: no pointers.
    unsafe { real::close_range(first, last, flags) }
}

/// closefrom(3)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn closefrom(first: c_int) {
    descriptors::close_range(first.max(0) as u32, u32::MAX);
    // SAFETY: no pointers.
    unsafe { real::closefrom(first) }
}

/// fclose(3): of a stream over one of our descriptors, so that the number does not stay ours.
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn fclose(stream: *mut FILE) -> c_int {
    // SAFETY: the caller's promise.
    let fd = unsafe { libc::fileno(stream) };
    if find(fd).is_some() {
        descriptors::close_range(fd as u32, fd as u32);
    }
    // SAFETY: the caller's promise.
    unsafe { real::fclose(stream) }
}

/// dup(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: no pointers.
    let copy = || unsafe { real::dup(fd) };
    match find(fd) {
        None => copy(),
        Some(_) => descriptors::duplicate(fd, copy).answer(),
    }
}

/// dup2(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    // SAFETY: no pointers.
    let copy = || unsafe { real::dup2(old, new) };
    if find(old).is_none() && find(new).is_none() {
        return copy();
    }
    descriptors::duplicate_to(old, new, copy).answer()
}

/// dup3(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    // SAFETY: no pointers.
    let copy = || unsafe { real::dup3(old, new, flags) };
    if find(old).is_none() && find(new).is_none() {
        return copy();
    }
    descriptors::duplicate_to(old, new, copy).answer()
}

/// fcntl(2). Variadic in C; the third argument travels as a word on every architecture served.
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    match find(fd).and_then(|entry| descriptors::fcntl(entry, fd, command, argument)) {
        Some(result) => result.answer(),
        // SAFETY: the caller's promise.
        None => unsafe { real::fcntl(fd, command, argument) },
    }
}

/// fcntl64
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { fcntl(fd, command, argument) }
}

/// sockatmark(3): the C library's own does not come by [`ioctl`].
#[no_mangle]
pub extern "C" fn sockatmark(fd: c_int) -> c_int {
    const SIOCATMARK: c_ulong = 0x8905;
    let mut answer: c_int = 0;
    // SAFETY: the request writes an int.
    match unsafe { ioctl(fd, SIOCATMARK, (&raw mut answer).cast()) } {
        0 => answer,
        _ => -1,
    }
}

/// ioctl(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    let ours = match find(fd) {
        None | Some(Entry::Epoll(_)) => None,
        Some(Entry::Foreign) => Some(inherited::<c_int>()),
        // SAFETY: the caller's promise.
        Some(Entry::Stream(token)) => unsafe { descriptors::ioctl(token, request, argument) },
    };
    match ours {
        Some(result) => result.answer(),
        // SAFETY: the caller's promise.
        None => unsafe { real::ioctl(fd, request, argument) },
    }
}
