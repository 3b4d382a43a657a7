// SPDX-License-Identifier: MIT OR Apache-2.0
//! socket, bind, listen, accept, connect, shutdown, names, options.

use crate::answer::{done, on_stream, Answer};
use libc::{c_int, c_void, sockaddr, socklen_t};
use tas::sockets::{accept, address, open, real, sockopt};

/// socket(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    match open::socket(domain, kind, protocol) {
        Some(result) => result.answer(),
        // SAFETY: no pointers.
        None => unsafe { real::socket(domain, kind, protocol) },
    }
}

/// Accepts and writes the peer's name where it is wanted.
///
/// # Safety
/// As for accept4(2).
unsafe fn take(
    token: tas::sockets::Token,
    name: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    let accepted = accept::accept(token, flags).map(|(fd, peer, family)| {
        if !name.is_null() {
            // SAFETY: the caller's promise. A bad length loses the name, not the connection.
            let _ = unsafe { address::write(peer, family, name, length) };
        }
        fd
    });
    accepted.answer()
}

on_stream! {
    /// bind(2)
    fn bind(fd, name: *const sockaddr, length: socklen_t) -> c_int, token => {
        // SAFETY: the caller's promise.
        done(unsafe { open::bind(token, fd, name, length) })
    };
    /// listen(2)
    fn listen(fd, backlog: c_int) -> c_int, token => done(accept::listen(token, backlog));
    /// accept(2)
    fn accept(fd, name: *mut sockaddr, length: *mut socklen_t) -> c_int, token => {
        // SAFETY: the caller's promise.
        unsafe { take(token, name, length, 0) }
    };
    /// accept4(2)
    fn accept4(fd, name: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int, token => {
        // SAFETY: the caller's promise.
        unsafe { take(token, name, length, flags) }
    };
    /// connect(2)
    fn connect(fd, name: *const sockaddr, length: socklen_t) -> c_int, token => {
        // SAFETY: the caller's promise.
        done(unsafe { open::connect(token, fd, name, length) })
    };
    /// shutdown(2)
    fn shutdown(fd, how: c_int) -> c_int, token => done(sockopt::shutdown(token, how));
    /// getsockname(2)
    fn getsockname(fd, name: *mut sockaddr, length: *mut socklen_t) -> c_int, token => {
        // SAFETY: the caller's promise.
        done(open::local_name(token).and_then(|(local, family)| unsafe { address::write(local, family, name, length) }))
    };
    /// getpeername(2)
    fn getpeername(fd, name: *mut sockaddr, length: *mut socklen_t) -> c_int, token => {
        // SAFETY: the caller's promise.
        done(open::remote_name(token).and_then(|(peer, family)| unsafe { address::write(peer, family, name, length) }))
    };
    /// getsockopt(2)
    fn getsockopt(fd, level: c_int, option: c_int, value: *mut c_void, length: *mut socklen_t) -> c_int, token => {
        // SAFETY: the caller's promise.
        done(unsafe { sockopt::get(token, level, option, value, length) })
    };
    /// setsockopt(2)
    fn setsockopt(fd, level: c_int, option: c_int, value: *const c_void, length: socklen_t) -> c_int, token => {
        // SAFETY: the caller's promise.
        done(unsafe { sockopt::set(token, fd, level, option, value, length) })
    };
}
