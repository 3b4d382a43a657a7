// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names that programs compiled with _FORTIFY_SOURCE call. Each checks the caller's buffer as
//! the C library's does, then is the plain function.

use crate::{data, poll};
use libc::{c_int, c_void, nfds_t, off_t, pollfd, sigset_t, size_t, sockaddr, socklen_t, ssize_t, timespec};

extern "C" {
    /// Ends the process with "buffer overflow detected".
    fn __chk_fail() -> !;
}

fn check(wanted: size_t, room: size_t) {
    if wanted > room {
        // SAFETY: does not return.
        unsafe { __chk_fail() }
    }
}

/// Fortified read(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn __read_chk(fd: c_int, buffer: *mut c_void, count: size_t, room: size_t) -> ssize_t {
    check(count, room);
    // SAFETY: the caller's promise.
    unsafe { data::read(fd, buffer, count) }
}

/// Fortified pread(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn __pread_chk(
    fd: c_int,
    buffer: *mut c_void,
    count: size_t,
    offset: off_t,
    room: size_t,
) -> ssize_t {
    check(count, room);
    // SAFETY: the caller's promise.
    unsafe { data::pread(fd, buffer, count, offset) }
}

/// Fortified pread64(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn __pread64_chk(
    fd: c_int,
    buffer: *mut c_void,
    count: size_t,
    offset: off_t,
    room: size_t,
) -> ssize_t {
    // SAFETY: the caller's promise; off_t has 64 bits.
    unsafe { __pread_chk(fd, buffer, count, offset, room) }
}

/// Fortified recv(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn __recv_chk(
    fd: c_int,
    buffer: *mut c_void,
    count: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    check(count, room);
    // SAFETY: the caller's promise.
    unsafe { data::recv(fd, buffer, count, flags) }
}

/// Fortified recvfrom(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    buffer: *mut c_void,
    count: size_t,
    room: size_t,
    flags: c_int,
    name: *mut sockaddr,
    length: *mut socklen_t,
) -> ssize_t {
    check(count, room);
    // SAFETY: the caller's promise.
    unsafe { data::recvfrom(fd, buffer, count, flags, name, length) }
}

/// Fortified poll(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn __poll_chk(
    set: *mut pollfd,
    count: nfds_t,
    timeout_ms: c_int,
    room: size_t,
) -> c_int {
    check(count as size_t, room / size_of::<pollfd>());
    // SAFETY: the caller's promise.
    unsafe { poll::poll(set, count, timeout_ms) }
}

/// Fortified ppoll(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn __ppoll_chk(
    set: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    room: size_t,
) -> c_int {
    check(count as size_t, room / size_of::<pollfd>());
    // SAFETY: the caller's promise.
    unsafe { poll::ppoll(set, count, timeout, mask) }
}
