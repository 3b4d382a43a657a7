// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Error numbers of Linux, as control calls answer them.

/// A positive Linux errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u32);

macro_rules! errnos {
    ($($name:ident = $value:literal,)+) => {
        impl Errno { $(#[doc = concat!("Linux's ", stringify!($name), ".")] pub const $name: Errno = Errno($value);)+ }
    };
}

errnos! {
    EPERM = 1, ENOENT = 2, EBADF = 9, EAGAIN = 11, ENOMEM = 12, EACCES = 13, EBUSY = 16,
    EINVAL = 22, EPIPE = 32, EPROTO = 71, ENOPROTOOPT = 92, EOPNOTSUPP = 95, EAFNOSUPPORT = 97,
    EADDRINUSE = 98, EADDRNOTAVAIL = 99, ENETDOWN = 100, ENETUNREACH = 101, ECONNABORTED = 103,
    ECONNRESET = 104, ENOBUFS = 105, EISCONN = 106, ENOTCONN = 107, ETIMEDOUT = 110,
    ECONNREFUSED = 111, EHOSTUNREACH = 113, EALREADY = 114, EINPROGRESS = 115,
}
