// SPDX-License-Identifier: MIT OR Apache-2.0
//! Socket addresses: `sockaddr` in and out. TAS speaks IPv4; a socket of family AF_INET6 that is
//! not V6ONLY uses it through IPv4-mapped addresses (RFC 4291 §2.5.5.2), as dual-stack servers do.

use super::errno::{Errno, Result};
use abi::message::Endpoint;
use libc::{sockaddr, sockaddr_in, sockaddr_in6, socklen_t, AF_INET, AF_INET6, AF_UNSPEC};
use std::{mem, ptr};

/// Family of a stream socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6, dual stack.
    V6,
}

impl Family {
    /// As the constant.
    pub const fn number(self) -> i32 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        }
    }
}

/// What an address given by the application asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// An IPv4 address and port.
    Ours(Endpoint),
    /// An IPv6 address: only Linux serves it.
    Ipv6,
    /// AF_UNSPEC: connect() dissolves the connection.
    Unspecified,
}

const MAPPED_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// Reads an address as bind() and connect() do for a socket of `family`.
///
/// # Errors
/// EINVAL when it is too short, EAFNOSUPPORT when it is of another family.
///
/// # Safety
/// `name` is readable for `length` bytes.
pub unsafe fn read(name: *const sockaddr, length: socklen_t, family: Family) -> Result<Given> {
    if name.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    let length = length as usize;
    if length < mem::size_of::<u16>() {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: two bytes are readable; the address need not be aligned.
    let given = i32::from(unsafe { ptr::read_unaligned(name.cast::<u16>()) });
    match (given, family) {
        (AF_UNSPEC, _) => Ok(Given::Unspecified),
        (AF_INET, Family::V4) if length < mem::size_of::<sockaddr_in>() => Err(Errno(libc::EINVAL)),
        (AF_INET, Family::V4) => {
            // SAFETY: the length was checked.
            let address = unsafe { ptr::read_unaligned(name.cast::<sockaddr_in>()) };
            Ok(Given::Ours(Endpoint::ipv4(
                u32::from_be(address.sin_addr.s_addr),
                u16::from_be(address.sin_port),
            )))
        }
        // RFC 2133's shorter sockaddr_in6, without the scope, is accepted as Linux does.
        (AF_INET6, Family::V6) if length < mem::size_of::<sockaddr_in6>() - 4 => Err(Errno(libc::EINVAL)),
        (AF_INET6, Family::V6) => {
            // SAFETY: the length was checked up to the scope, which is not read.
            let (port, bytes) = unsafe {
                let address = name.cast::<sockaddr_in6>();
                let port = ptr::read_unaligned(ptr::addr_of!((*address).sin6_port));
                (u16::from_be(port), ptr::read_unaligned(ptr::addr_of!((*address).sin6_addr)).s6_addr)
            };
            Ok(mapped(bytes).map_or(Given::Ipv6, |address| Given::Ours(Endpoint::ipv4(address, port))))
        }
        _ => Err(Errno(libc::EAFNOSUPPORT)),
    }
}

/// The IPv4 address of an IPv4-mapped one; `::` counts as 0.0.0.0.
fn mapped(bytes: [u8; 16]) -> Option<u32> {
    let (prefix, tail) = bytes.split_at(12);
    let address = u32::from_be_bytes([tail[0], tail[1], tail[2], tail[3]]);
    (prefix == MAPPED_PREFIX || bytes == [0; 16]).then_some(address)
}

/// An endpoint as the bytes of a `sockaddr` of `family`.
pub fn encode(endpoint: Endpoint, family: Family) -> Vec<u8> {
    let address = endpoint.as_ipv4().unwrap_or(0);
    let mut bytes = (family.number() as u16).to_ne_bytes().to_vec();
    bytes.extend(endpoint.port.to_be_bytes());
    match family {
        Family::V4 => {
            bytes.extend(address.to_be_bytes());
            bytes.extend([0; 8]);
        }
        Family::V6 => {
            bytes.extend([0; 4]);
            // The unspecified address stays `::`, everything else is mapped.
            bytes.extend(if address == 0 { [0; 12] } else { MAPPED_PREFIX });
            bytes.extend(address.to_be_bytes());
            bytes.extend([0; 4]);
        }
    }
    bytes
}

/// Writes an address where getsockname(), getpeername() and accept() want it: at most `*length`
/// bytes of it, and its full length into `*length`.
///
/// # Errors
/// EFAULT for a null length, EINVAL for a negative one.
///
/// # Safety
/// `length` is valid and `name` is writable for `*length` bytes.
pub unsafe fn write(
    endpoint: Endpoint,
    family: Family,
    name: *mut sockaddr,
    length: *mut socklen_t,
) -> Result<()> {
    if length.is_null() || name.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: the caller's promise.
    let room = unsafe { *length };
    if (room as i32) < 0 {
        return Err(Errno(libc::EINVAL));
    }
    let bytes = encode(endpoint, family);
    // SAFETY: at most `room` bytes are written.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), name.cast::<u8>(), bytes.len().min(room as usize));
        *length = bytes.len() as socklen_t;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8], family: Family) -> Result<Given> {
        // SAFETY: the slice is readable for its length.
        unsafe { read(bytes.as_ptr().cast(), bytes.len() as socklen_t, family) }
    }

    #[test]
    fn both_families_round_trip() {
        for family in [Family::V4, Family::V6] {
            for endpoint in [Endpoint::ipv4(0x0a4d_0001, 6379), Endpoint::ipv4(0, 80)] {
                let bytes = encode(endpoint, family);
                assert_eq!(parse(&bytes, family), Ok(Given::Ours(endpoint)));
                for length in 2..16 {
                    assert_eq!(parse(&bytes[..length], family), Err(Errno(libc::EINVAL)));
                }
            }
        }
    }

    #[test]
    fn other_addresses_are_told_apart() {
        let v4 = encode(Endpoint::ipv4(1, 2), Family::V4);
        let mut v6 = encode(Endpoint::ipv4(1, 2), Family::V6);
        assert_eq!(parse(&v4, Family::V6), Err(Errno(libc::EAFNOSUPPORT)));
        assert_eq!(parse(&v6, Family::V4), Err(Errno(libc::EAFNOSUPPORT)));
        v6[8] = 0x20;
        assert_eq!(parse(&v6, Family::V6), Ok(Given::Ipv6));
        assert_eq!(parse(&[0; 16], Family::V4), Ok(Given::Unspecified));
        assert_eq!(parse(&[0], Family::V4), Err(Errno(libc::EINVAL)));
    }

    #[test]
    fn a_short_buffer_is_filled_and_told_the_full_length() {
        let mut buffer = [0xffu8; 16];
        let mut length: socklen_t = 4;
        // SAFETY: four bytes are writable.
        unsafe { write(Endpoint::ipv4(7, 0x1234), Family::V4, buffer.as_mut_ptr().cast(), &mut length) }
            .unwrap();
        assert_eq!((length, &buffer[2..5]), (16, &[0x12, 0x34, 0xff][..]));
    }
}
