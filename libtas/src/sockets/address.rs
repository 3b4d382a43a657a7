// SPDX-License-Identifier: MIT OR Apache-2.0
//! Socket addresses: `sockaddr` in and out. A socket of family AF_INET6 has AF_INET6 names only; IPv4 goes through
//! it in mapped form (RFC 4291 §2.5.5.2), unless it is V6ONLY.

use super::errno::{Errno, Result};
use abi::message::Endpoint;
use libc::{sockaddr, sockaddr_in, sockaddr_in6, socklen_t, AF_INET, AF_INET6, AF_UNSPEC};
use std::{mem, ptr};

/// Family of a stream socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6.
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
    /// An address and port of the socket's family.
    Name(Endpoint),
    /// AF_UNSPEC: connect() dissolves the connection.
    Unspecified,
}

/// 127.0.0.0/8.
const LOOPBACK_NET: u32 = 127;
/// Bytes of a `sockaddr_in6` without its scope: RFC 2133's, which Linux accepts too.
const WITHOUT_SCOPE: usize = mem::size_of::<sockaddr_in6>() - 4;

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
            Ok(Given::Name(Endpoint::ipv4(
                u32::from_be(address.sin_addr.s_addr),
                u16::from_be(address.sin_port),
            )))
        }
        (AF_INET6, Family::V6) if length < WITHOUT_SCOPE => Err(Errno(libc::EINVAL)),
        (AF_INET6, Family::V6) => {
            let mut bytes = [0u8; mem::size_of::<sockaddr_in6>()];
            let given = length.min(bytes.len());
            // SAFETY: `given` bytes are readable, and fit.
            unsafe { ptr::copy_nonoverlapping(name.cast::<u8>(), bytes.as_mut_ptr(), given) };
            Ok(Given::Name(from_bytes(&bytes)))
        }
        _ => Err(Errno(libc::EAFNOSUPPORT)),
    }
}

/// The endpoint in a `sockaddr_in6`.
fn from_bytes(bytes: &[u8; mem::size_of::<sockaddr_in6>()]) -> Endpoint {
    let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|index| bytes[at + index]));
    let scope = u32::from_ne_bytes(std::array::from_fn(|index| bytes[WITHOUT_SCOPE + index]));
    Endpoint::ipv6([word(8), word(12), word(16), word(20)], u16::from_be_bytes([bytes[2], bytes[3]]), scope)
}

/// An endpoint as the bytes of a `sockaddr` of `family`. The scope is a link-local address's (RFC 4007 §11), else zero.
pub fn encode(endpoint: Endpoint, family: Family) -> Vec<u8> {
    let mut bytes = (family.number() as u16).to_ne_bytes().to_vec();
    bytes.extend(endpoint.port.to_be_bytes());
    match family {
        Family::V4 => {
            bytes.extend(endpoint.as_ipv4().unwrap_or(0).to_be_bytes());
            bytes.extend([0; 8]);
        }
        Family::V6 => {
            // The unspecified address of either family is `::`.
            let words = match endpoint.as_ipv4() {
                Some(0) => [0; 4],
                Some(address) => Endpoint::ipv4_mapped(address, 0).address,
                None => endpoint.address,
            };
            bytes.extend([0; 4]);
            bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            bytes.extend(if is_link_local(&endpoint) { endpoint.scope } else { 0 }.to_ne_bytes());
        }
    }
    bytes
}

/// The IPv4 address that an endpoint of either family stands for; `::` is not one.
pub fn ipv4_in(endpoint: &Endpoint) -> Option<u32> {
    endpoint.as_ipv4().or(endpoint.as_ipv4_mapped())
}

/// True for 0.0.0.0, `::` and ::ffff:0.0.0.0.
pub fn is_unspecified(endpoint: &Endpoint) -> bool {
    endpoint.address == [0; 4] || ipv4_in(endpoint) == Some(0)
}

/// True for 127.0.0.0/8, mapped or not, and ::1.
pub fn is_loopback(endpoint: &Endpoint) -> bool {
    match ipv4_in(endpoint) {
        Some(address) => address >> 24 == LOOPBACK_NET,
        None => endpoint.address == [0, 0, 0, 1],
    }
}

/// True for fe80::/10.
pub fn is_link_local(endpoint: &Endpoint) -> bool {
    endpoint.as_ipv6().is_some_and(|[first, ..]| first >> 22 == 0xfe80 >> 6)
}

/// An endpoint as text, for messages.
pub fn text(endpoint: &Endpoint) -> String {
    match endpoint.as_ipv6() {
        Some(words) => {
            let bits = words.iter().fold(0u128, |bits, word| bits << 32 | u128::from(*word));
            format!("[{}]:{}", std::net::Ipv6Addr::from_bits(bits), endpoint.port)
        }
        None => format!("{}:{}", std::net::Ipv4Addr::from_bits(endpoint.address[0]), endpoint.port),
    }
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
        let v6 = |first, port, scope| Endpoint::ipv6([first, 0, 0x0211_22ff, 0xfe33_4455], port, scope);
        for (family, endpoint) in [
            (Family::V4, Endpoint::ipv4(0x0a4d_0001, 6379)),
            (Family::V4, Endpoint::ipv4(0, 80)),
            (Family::V6, v6(0x2001_0db8, 443, 0)),
            (Family::V6, v6(0xfe80_0000, 443, 7)),
            (Family::V6, Endpoint::ipv6([0; 4], 80, 0)),
            (Family::V6, Endpoint::ipv4_mapped(0x0a4d_0001, 80)),
        ] {
            let bytes = encode(endpoint, family);
            assert_eq!(bytes.len(), if family == Family::V4 { 16 } else { 28 });
            assert_eq!(parse(&bytes, family), Ok(Given::Name(endpoint)));
            for length in 2..if family == Family::V4 { 16 } else { 24 } {
                assert_eq!(parse(&bytes[..length], family), Err(Errno(libc::EINVAL)));
            }
            let cut = parse(&bytes[..24.min(bytes.len())], family);
            assert_eq!(cut, Ok(Given::Name(Endpoint { scope: 0, ..endpoint })));
        }
    }

    /// The bytes are those of the C struct.
    #[test]
    fn the_layout_is_libcs() {
        // SAFETY: plain numbers; zero is valid.
        let mut name: sockaddr_in6 = unsafe { mem::zeroed() };
        name.sin6_family = AF_INET6 as u16;
        name.sin6_port = 443u16.to_be();
        name.sin6_addr.s6_addr = "fe80::1:2".parse::<std::net::Ipv6Addr>().unwrap().octets();
        name.sin6_scope_id = 9;
        // SAFETY: a plain struct is readable as bytes.
        let bytes =
            unsafe { std::slice::from_raw_parts((&raw const name).cast::<u8>(), mem::size_of_val(&name)) };
        let endpoint = Endpoint::ipv6([0xfe80_0000, 0, 0, 0x0001_0002], 443, 9);
        assert_eq!(encode(endpoint, Family::V6), bytes);
        assert_eq!(parse(bytes, Family::V6), Ok(Given::Name(endpoint)));
    }

    #[test]
    fn ipv4_through_ipv6() {
        let mapped = Endpoint::ipv4_mapped(0x0a4d_0001, 5);
        // What the slow path says of an IPv4 peer, in either form, reads the same.
        assert_eq!(encode(Endpoint::ipv4(0x0a4d_0001, 5), Family::V6), encode(mapped, Family::V6));
        assert_eq!(
            encode(Endpoint::ipv4(0, 5), Family::V6),
            encode(Endpoint::ipv6([0; 4], 5, 0), Family::V6)
        );
        assert_eq!((ipv4_in(&mapped), ipv4_in(&Endpoint::ipv6([0; 4], 5, 0))), (Some(0x0a4d_0001), None));
        // A scope is a link-local address's only.
        let bytes = encode(Endpoint::ipv6([0x2001_0db8, 0, 0, 1], 5, 3), Family::V6);
        assert_eq!(bytes[24..], [0; 4]);
    }

    #[test]
    fn kinds_of_addresses() {
        let v6 = |words| Endpoint::ipv6(words, 80, 0);
        for loopback in
            [Endpoint::ipv4(0x7f00_0001, 0), v6([0, 0, 0, 1]), Endpoint::ipv4_mapped(0x7fff_0000, 0)]
        {
            assert!(is_loopback(&loopback) && !is_unspecified(&loopback), "{}", text(&loopback));
        }
        for any in [Endpoint::ipv4(0, 0), v6([0; 4]), Endpoint::ipv4_mapped(0, 0)] {
            assert!(is_unspecified(&any) && !is_loopback(&any), "{}", text(&any));
        }
        for (first, link) in
            [(0xfe80_0000, true), (0xfebf_ffff, true), (0xfec0_0000, false), (0x2001_0db8, false)]
        {
            assert_eq!(is_link_local(&v6([first, 0, 0, 1])), link);
        }
        assert_eq!(text(&v6([0x2001_0db8, 0, 0, 1])), "[2001:db8::1]:80");
    }

    #[test]
    fn other_addresses_are_told_apart() {
        let v4 = encode(Endpoint::ipv4(1, 2), Family::V4);
        let v6 = encode(Endpoint::ipv4(1, 2), Family::V6);
        assert_eq!(parse(&v4, Family::V6), Err(Errno(libc::EAFNOSUPPORT)));
        assert_eq!(parse(&v6, Family::V4), Err(Errno(libc::EAFNOSUPPORT)));
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
