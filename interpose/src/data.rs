// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls that move bytes.

use crate::answer::{on_stream, Answer};
use libc::{c_int, c_void, iovec, mmsghdr, msghdr, off_t, size_t, sockaddr, socklen_t, ssize_t, timespec};
use std::{
    slice,
    time::{Duration, Instant},
};
use tas::sockets::{fast_open, find, inherited, real, receive, send, Entry, Errno, Result, Token};

/// One buffer as a vector.
fn one(buffer: *const c_void, count: size_t) -> [iovec; 1] {
    // Linux moves at most MAX_RW_COUNT at a time.
    [iovec { iov_base: buffer.cast_mut(), iov_len: count.min(0x7fff_f000) }]
}

/// The caller's vectors.
///
/// # Safety
/// `vectors` is readable for `count` entries.
unsafe fn all<'a>(vectors: *const iovec, count: usize) -> Result<&'a [iovec]> {
    match count {
        0 => Ok(&[]),
        _ if count > receive::VECTORS_MAX => Err(Errno(libc::EINVAL)),
        _ if vectors.is_null() => Err(Errno(libc::EFAULT)),
        // SAFETY: the caller's promise.
        _ => Ok(unsafe { slice::from_raw_parts(vectors, count) }),
    }
}

/// # Safety
/// As for recvmsg(2).
unsafe fn receive_message(token: Token, message: *mut msghdr, flags: c_int) -> Result<usize> {
    // SAFETY: the caller's promise.
    let message = unsafe { message.as_mut() }.ok_or(Errno(libc::EFAULT))?;
    // SAFETY: the caller's promise.
    let count = unsafe { receive::receive(token, all(message.msg_iov, message.msg_iovlen)?, flags)? };
    // TCP gives no address, no control data and no flag but one.
    message.msg_namelen = 0;
    message.msg_controllen = 0;
    message.msg_flags = flags & libc::MSG_OOB;
    Ok(count)
}

/// # Safety
/// As for sendmsg(2).
unsafe fn send_message(token: Token, fd: c_int, message: *const msghdr, flags: c_int) -> Result<usize> {
    // SAFETY: the caller's promise.
    let message = unsafe { message.as_ref() }.ok_or(Errno(libc::EFAULT))?;
    // SAFETY: the caller's promise.
    unsafe {
        let buffers = all(message.msg_iov, message.msg_iovlen)?;
        fast_open::send_to(token, fd, buffers, flags, message.msg_name.cast(), message.msg_namelen)
    }
}

/// # Safety
/// As for recvmmsg(2).
unsafe fn receive_messages(
    token: Token,
    messages: *mut mmsghdr,
    count: u32,
    mut flags: c_int,
    timeout: *const timespec,
) -> Result<u32> {
    // SAFETY: the caller's promise.
    let limit =
        unsafe { timeout.as_ref() }.map(|time| Duration::new(time.tv_sec as u64, time.tv_nsec as u32));
    let start = Instant::now();
    for index in 0..count {
        // SAFETY: the caller's promise.
        let message = unsafe { &mut *messages.add(index as usize) };
        // SAFETY: the caller's promise.
        match unsafe { receive_message(token, &mut message.msg_hdr, flags & !libc::MSG_WAITFORONE) } {
            Ok(bytes) => message.msg_len = bytes as u32,
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index),
        }
        if flags & libc::MSG_WAITFORONE != 0 {
            flags |= libc::MSG_DONTWAIT;
        }
        if message.msg_len == 0 || limit.is_some_and(|limit| start.elapsed() >= limit) {
            return Ok(index + 1);
        }
    }
    Ok(count)
}

/// # Safety
/// As for sendmmsg(2).
unsafe fn send_messages(
    token: Token,
    fd: c_int,
    messages: *mut mmsghdr,
    count: u32,
    flags: c_int,
) -> Result<u32> {
    for index in 0..count {
        // SAFETY: the caller's promise.
        let message = unsafe { &mut *messages.add(index as usize) };
        // SAFETY: the caller's promise.
        match unsafe { send_message(token, fd, &message.msg_hdr, flags) } {
            Ok(bytes) => message.msg_len = bytes as u32,
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index),
        }
    }
    Ok(count)
}

on_stream! {
    /// read(2)
    fn read(fd, buffer: *mut c_void, count: size_t) -> ssize_t, token => {
        // SAFETY: the caller's promise.
        unsafe { receive::receive(token, &one(buffer, count), 0) }.answer()
    };
    /// readv(2)
    fn readv(fd, vectors: *const iovec, count: c_int) -> ssize_t, token => {
        // SAFETY: the caller's promise.
        unsafe { all(vectors, count as usize).and_then(|vectors| receive::receive(token, vectors, 0)) }.answer()
    };
    /// recv(2)
    fn recv(fd, buffer: *mut c_void, count: size_t, flags: c_int) -> ssize_t, token => {
        // SAFETY: the caller's promise.
        unsafe { receive::receive(token, &one(buffer, count), flags) }.answer()
    };
    /// recvfrom(2)
    fn recvfrom(fd, buffer: *mut c_void, count: size_t, flags: c_int, name: *mut sockaddr, length: *mut socklen_t) -> ssize_t, token => {
        // SAFETY: the caller's promise.
        let result = unsafe { receive::receive(token, &one(buffer, count), flags) };
        if !name.is_null() && !length.is_null() && result.is_ok() {
            // SAFETY: checked; TCP gives no address.
            unsafe { *length = 0 };
        }
        result.answer()
    };
    /// recvmsg(2)
    fn recvmsg(fd, message: *mut msghdr, flags: c_int) -> ssize_t, token => {
        // SAFETY: the caller's promise.
        unsafe { receive_message(token, message, flags) }.answer()
    };
    /// recvmmsg(2)
    fn recvmmsg(fd, messages: *mut mmsghdr, count: u32, flags: c_int, timeout: *mut timespec) -> c_int, token => {
        // SAFETY: the caller's promise.
        unsafe { receive_messages(token, messages, count, flags, timeout) }.answer()
    };
    /// write(2)
    fn write(fd, buffer: *const c_void, count: size_t) -> ssize_t, token => {
        // SAFETY: the caller's promise.
        unsafe { send::send(token, &one(buffer, count), 0) }.answer()
    };
    /// writev(2)
    fn writev(fd, vectors: *const iovec, count: c_int) -> ssize_t, token => {
        // SAFETY: the caller's promise.
        unsafe { all(vectors, count as usize).and_then(|vectors| send::send(token, vectors, 0)) }.answer()
    };
    /// send(2)
    fn send(fd, buffer: *const c_void, count: size_t, flags: c_int) -> ssize_t, token => {
        // SAFETY: the caller's promise.
        unsafe { send::send(token, &one(buffer, count), flags) }.answer()
    };
    /// sendto(2); TCP ignores the address, but for MSG_FASTOPEN.
    fn sendto(fd, buffer: *const c_void, count: size_t, flags: c_int, name: *const sockaddr, length: socklen_t) -> ssize_t, token => {
        // SAFETY: the caller's promise.
        unsafe { fast_open::send_to(token, fd, &one(buffer, count), flags, name, length) }.answer()
    };
    /// sendmsg(2)
    fn sendmsg(fd, message: *const msghdr, flags: c_int) -> ssize_t, token => {
        // SAFETY: the caller's promise.
        unsafe { send_message(token, fd, message, flags) }.answer()
    };
    /// sendmmsg(2)
    fn sendmmsg(fd, messages: *mut mmsghdr, count: u32, flags: c_int) -> c_int, token => {
        // SAFETY: the caller's promise.
        unsafe { send_messages(token, fd, messages, count, flags) }.answer()
    };
    /// pread(2): sockets have no position.
    fn pread(fd, buffer: *mut c_void, count: size_t, offset: off_t) -> ssize_t, _token => {
        Err::<isize, _>(Errno(libc::ESPIPE)).answer()
    };
    /// pwrite(2): sockets have no position.
    fn pwrite(fd, buffer: *const c_void, count: size_t, offset: off_t) -> ssize_t, _token => {
        Err::<isize, _>(Errno(libc::ESPIPE)).answer()
    };
    /// preadv(2): sockets have no position.
    fn preadv(fd, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t, _token => {
        Err::<isize, _>(Errno(libc::ESPIPE)).answer()
    };
    /// pwritev(2): sockets have no position.
    fn pwritev(fd, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t, _token => {
        Err::<isize, _>(Errno(libc::ESPIPE)).answer()
    };
}

/// lseek(2): sockets have no position, whatever the file underneath would say.
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn lseek(fd: c_int, offset: off_t, whence: c_int) -> off_t {
    match find(fd) {
        // SAFETY: no pointers.
        None | Some(Entry::Epoll(_)) => unsafe { real::lseek(fd, offset, whence) },
        Some(_) => {
            Errno(libc::ESPIPE).set();
            -1
        }
    }
}

/// lseek64(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn lseek64(fd: c_int, offset: off_t, whence: c_int) -> off_t {
    // SAFETY: the caller's promise; off_t has 64 bits.
    unsafe { lseek(fd, offset, whence) }
}

/// pread64(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn pread64(fd: c_int, buffer: *mut c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the caller's promise; off_t has 64 bits.
    unsafe { pread(fd, buffer, count, offset) }
}

/// pwrite64(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn pwrite64(fd: c_int, buffer: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the caller's promise; off_t has 64 bits.
    unsafe { pwrite(fd, buffer, count, offset) }
}

/// sendfile(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn sendfile(out: c_int, input: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    match (find(out), find(input)) {
        // A socket is no source of pages (sendfile(2): in_fd cannot be a socket).
        (_, Some(Entry::Stream(_))) => Err::<isize, _>(Errno(libc::EINVAL)).answer(),
        // SAFETY: the caller's promise.
        (Some(Entry::Stream(token)), _) => unsafe { send::send_file(token, input, offset, count) }.answer(),
        (Some(Entry::Foreign), _) | (_, Some(Entry::Foreign)) => inherited::<isize>().answer(),
        // SAFETY: the caller's promise.
        _ => unsafe { real::sendfile(out, input, offset, count) },
    }
}

/// sendfile64(2)
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn sendfile64(out: c_int, input: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: the caller's promise; off_t has 64 bits.
    unsafe { sendfile(out, input, offset, count) }
}

/// splice(2): TAS sockets have no pages to give; programs then copy.
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn splice(
    input: c_int,
    input_offset: *mut off_t,
    output: c_int,
    output_offset: *mut off_t,
    count: size_t,
    flags: u32,
) -> ssize_t {
    if find(input).is_some() || find(output).is_some() {
        return Err::<isize, _>(Errno(libc::EINVAL)).answer();
    }
    // SAFETY: the caller's promise.
    unsafe { real::splice(input, input_offset, output, output_offset, count, flags) }
}
