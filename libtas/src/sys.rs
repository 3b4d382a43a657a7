// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls made directly, not through the libc functions that `libtas_interpose.so` replaces:
//! inside an interposed process `libc::poll` would come back into this library.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
};

fn result(value: libc::c_long) -> io::Result<libc::c_long> {
    if value < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value)
    }
}

/// `ioctl(2)` with a pointer argument.
///
/// # Errors
/// The call's errno.
///
/// # Safety
/// `argument` must be what the request number expects.
pub unsafe fn ioctl(descriptor: RawFd, request: u32, argument: *mut libc::c_void) -> io::Result<()> {
    // SAFETY: the caller vouches for the argument.
    let value = unsafe { libc::syscall(libc::SYS_ioctl, descriptor, request as libc::c_ulong, argument) };
    result(value).map(drop)
}

/// `sendmsg(2)` with MSG_NOSIGNAL, repeated after EINTR. Returns the bytes sent.
///
/// # Errors
/// The call's errno.
///
/// # Safety
/// `header` must be valid for the call.
pub unsafe fn sendmsg(descriptor: RawFd, header: &libc::msghdr) -> io::Result<usize> {
    retry(|| {
        // SAFETY: the caller vouches for the header.
        let value = unsafe { libc::syscall(libc::SYS_sendmsg, descriptor, header, libc::MSG_NOSIGNAL) };
        result(value).map(|bytes| bytes as usize)
    })
}

/// `recvmsg(2)` with MSG_CMSG_CLOEXEC, repeated after EINTR. Returns the bytes received.
///
/// # Errors
/// The call's errno.
///
/// # Safety
/// `header` must be valid for the call.
pub unsafe fn recvmsg(descriptor: RawFd, header: &mut libc::msghdr) -> io::Result<usize> {
    retry(|| {
        // SAFETY: the caller vouches for the header.
        let value =
            unsafe { libc::syscall(libc::SYS_recvmsg, descriptor, &raw mut *header, libc::MSG_CMSG_CLOEXEC) };
        result(value).map(|bytes| bytes as usize)
    })
}

/// A connected Unix SOCK_SEQPACKET socket, close-on-exec.
///
/// # Errors
/// ENAMETOOLONG, or what `socket(2)` and `connect(2)` report.
pub fn connect_seqpacket(path: &std::path::Path) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    // SAFETY: all-zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the descriptor is new and owned by nobody else.
    let socket = unsafe {
        let value = result(libc::syscall(libc::SYS_socket, libc::AF_UNIX, kind, 0))?;
        OwnedFd::from_raw_fd(value as RawFd)
    };
    retry(|| {
        // SAFETY: the address is valid for its whole size.
        let value = unsafe {
            libc::syscall(
                libc::SYS_connect,
                socket.as_raw_fd(),
                &raw const address,
                size_of::<libc::sockaddr_un>(),
            )
        };
        result(value).map(drop)
    })?;
    Ok(socket)
}

/// `openat(2)` of `path` with O_CLOEXEC.
///
/// # Errors
/// The call's errno.
pub fn open(path: &std::ffi::CStr, flags: i32) -> io::Result<OwnedFd> {
    retry(|| {
        // SAFETY: the path is NUL-terminated; a returned descriptor is new.
        unsafe {
            let value =
                libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, 0);
            Ok(OwnedFd::from_raw_fd(result(value)? as RawFd))
        }
    })
}

/// A new eventfd, close-on-exec and non-blocking.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor is new.
    unsafe {
        let value = libc::syscall(libc::SYS_eventfd2, 0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        Ok(OwnedFd::from_raw_fd(result(value)? as RawFd))
    }
}

/// Adds one to an eventfd. An eventfd that is full counts as written: it is readable.
///
/// # Errors
/// The call's errno, EAGAIN excepted.
pub fn eventfd_signal(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight bytes are readable.
    let value = unsafe { libc::syscall(libc::SYS_write, descriptor.as_raw_fd(), one.as_ptr(), one.len()) };
    match result(value) {
        Err(error) if error.raw_os_error() != Some(libc::EAGAIN) => Err(error),
        _ => Ok(()),
    }
}

/// Empties an eventfd without blocking, even if it is not O_NONBLOCK. The only reader must call.
pub fn eventfd_drain(descriptor: BorrowedFd<'_>) {
    let mut poll = [libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
    if matches!(ppoll(&mut poll, Some(0)), Ok(ready) if ready > 0) {
        let mut count = [0u8; 8];
        // SAFETY: eight bytes are writable. A failed read leaves nothing to drain.
        unsafe { libc::syscall(libc::SYS_read, descriptor.as_raw_fd(), count.as_mut_ptr(), count.len()) };
    }
}

/// `ppoll(2)`; `timeout_ms` of None waits without limit. Returns the number of ready entries.
///
/// # Errors
/// The call's errno, EINTR included.
pub fn ppoll(entries: &mut [libc::pollfd], timeout_ms: Option<u32>) -> io::Result<usize> {
    let time = timeout_ms.map(|ms| libc::timespec {
        tv_sec: libc::time_t::from(ms / 1000),
        tv_nsec: libc::c_long::from(ms % 1000) * 1_000_000,
    });
    let time = time.as_ref().map_or(std::ptr::null(), |time| time as *const libc::timespec);
    // SAFETY: the slice is valid for its length, the time is valid or null, no signal mask.
    let value = unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            entries.as_mut_ptr(),
            entries.len(),
            time,
            std::ptr::null::<u8>(),
            8usize,
        )
    };
    result(value).map(|ready| ready as usize)
}

/// A second descriptor of the same file, close-on-exec, numbered `from` or above.
///
/// # Errors
/// EMFILE, EBADF.
pub fn duplicate(descriptor: RawFd, from: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor is new.
    unsafe {
        let value = libc::syscall(libc::SYS_fcntl, descriptor, libc::F_DUPFD_CLOEXEC, from);
        Ok(OwnedFd::from_raw_fd(result(value)? as RawFd))
    }
}

/// A descriptor of the library's own: closed on drop, but not through an interposed `close()`,
/// which must not be entered while a lock of ours is held.
#[derive(Debug)]
pub struct PrivateFd(RawFd);

impl From<OwnedFd> for PrivateFd {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor.into_raw_fd())
    }
}

impl Drop for PrivateFd {
    fn drop(&mut self) {
        close(self.0);
    }
}

/// Closes a descriptor by number. EBADF is ignored: the application may have closed it.
pub fn close(descriptor: RawFd) {
    // SAFETY: no pointers. The caller owns the number.
    unsafe { libc::syscall(libc::SYS_close, descriptor) };
}

/// The process id, from the kernel each time: a fork changes it.
pub fn process_id() -> u32 {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_getpid) as u32 }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn eventfd_counts_and_drains() {
        let event = eventfd().unwrap();
        eventfd_drain(event.as_fd());
        eventfd_signal(event.as_fd()).unwrap();
        eventfd_signal(event.as_fd()).unwrap();
        let mut poll = [libc::pollfd { fd: event.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        assert_eq!(ppoll(&mut poll, Some(0)).unwrap(), 1);
        eventfd_drain(event.as_fd());
        assert_eq!(ppoll(&mut poll, Some(0)).unwrap(), 0);
    }

    #[test]
    fn descriptors_are_close_on_exec() {
        let event = eventfd().unwrap();
        let second = duplicate(event.as_raw_fd(), 100).unwrap();
        assert!(second.as_raw_fd() >= 100);
        // SAFETY: no pointers.
        let flags = unsafe { libc::fcntl(second.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
}
