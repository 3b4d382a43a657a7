// SPDX-License-Identifier: GPL-2.0-only
//! Thin wrappers: open, ioctl, mmap, poll, eventfd. Errors are errno values.

use abi::{
    ioctl,
    message::{Message, Op},
    region::Region,
};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A positive errno.
pub(crate) type Errno = i32;

pub(crate) fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Opens the device.
pub(crate) fn open() -> OwnedFd {
    // SAFETY: a constant path; the descriptor is new.
    unsafe {
        let fd = libc::open(c"/dev/tas".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        assert!(fd >= 0, "open /dev/tas: errno {} (is tas.ko loaded?)", errno());
        OwnedFd::from_raw_fd(fd)
    }
}

/// The bare ioctl: any number, any argument.
pub(crate) fn raw_ioctl(fd: &impl AsRawFd, number: u32, argument: usize) -> Result<i32, Errno> {
    // SAFETY: the module copies 256 bytes from and to a valid address, or refuses.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), number as _, argument) };
    if result < 0 {
        Err(errno())
    } else {
        Ok(result)
    }
}

/// A call with its reply in `message`; the reply's errno is the error.
pub(crate) fn call(fd: &impl AsRawFd, message: &mut Message) -> Result<(), Errno> {
    let op = Op::from_u32(message.op).expect("a known operation");
    raw_ioctl(fd, ioctl::number(op), std::ptr::from_mut(message) as usize)?;
    if message.error == 0 {
        Ok(())
    } else {
        Err(message.error as i32)
    }
}

/// A call without a body.
pub(crate) fn simple(fd: &impl AsRawFd, op: Op, object: u32) -> Result<Message, Errno> {
    let mut message = Message::new(op, object);
    call(fd, &mut message).map(|()| message)
}

/// A mapping, unmapped when dropped.
pub(crate) struct Map {
    pub(crate) start: *mut u8,
    pub(crate) bytes: usize,
}

impl Map {
    pub(crate) fn new(
        fd: &impl AsRawFd,
        region: Region,
        bytes: usize,
        protection: i32,
    ) -> Result<Self, Errno> {
        Self::at(fd, region.offset(), bytes, protection, libc::MAP_SHARED)
    }
    pub(crate) fn at(
        fd: &impl AsRawFd,
        offset: u64,
        bytes: usize,
        protection: i32,
        flags: i32,
    ) -> Result<Self, Errno> {
        // SAFETY: a new mapping, not fixed.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, flags, fd.as_raw_fd(), offset as libc::off_t)
        };
        if start == libc::MAP_FAILED {
            Err(errno())
        } else {
            Ok(Self { start: start.cast(), bytes })
        }
    }
    pub(crate) fn read(&self, offset: usize) -> u8 {
        assert!(offset < self.bytes);
        // SAFETY: inside the mapping.
        unsafe { self.start.add(offset).read_volatile() }
    }
    pub(crate) fn write(&self, offset: usize, value: u8) {
        assert!(offset < self.bytes);
        // SAFETY: inside the mapping.
        unsafe { self.start.add(offset).write_volatile(value) }
    }
    pub(crate) fn protect(&self, protection: i32) -> Result<(), Errno> {
        // SAFETY: our own mapping.
        if unsafe { libc::mprotect(self.start.cast(), self.bytes, protection) } == 0 {
            Ok(())
        } else {
            Err(errno())
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by us.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// A new eventfd.
pub(crate) fn eventfd() -> OwnedFd {
    // SAFETY: a new descriptor.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

/// Events of one descriptor within `timeout_ms`.
pub(crate) fn poll(fd: &impl AsRawFd, timeout_ms: i32) -> i16 {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN | libc::POLLOUT, revents: 0 };
    // SAFETY: one entry.
    unsafe { libc::poll(&mut entry, 1, timeout_ms) };
    entry.revents
}

/// Runs `body` in a child process and returns its wait status.
pub(crate) fn in_child(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child runs `body` and leaves without unwinding into the parent's frames.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0, "fork: errno {}", errno());
        if child == 0 {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
            libc::_exit(code);
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        status
    }
}

/// As [`in_child`]; true if it tried to touch memory it may not. (The fault is caught, so that the
/// kernel's log stays clean.)
pub(crate) fn faults(body: impl FnOnce()) -> bool {
    const FAULTED: i32 = 77;
    extern "C" fn leave(_signal: i32) {
        // SAFETY: allowed in a signal handler.
        unsafe { libc::_exit(FAULTED) };
    }
    let status = in_child(|| {
        // SAFETY: only this child is affected.
        unsafe { libc::signal(libc::SIGSEGV, leave as extern "C" fn(i32) as usize) };
        body();
        0
    });
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == FAULTED
}

/// delete_module without waiting.
pub(crate) fn rmmod() -> Result<(), Errno> {
    // SAFETY: a constant name.
    let result = unsafe { libc::syscall(libc::SYS_delete_module, c"tas".as_ptr(), libc::O_NONBLOCK) };
    if result == 0 {
        Ok(())
    } else {
        Err(errno())
    }
}

/// Reading and writing end of a pipe.
pub(crate) fn pipe() -> (std::fs::File, std::fs::File) {
    let mut ends = [0; 2];
    // SAFETY: two new descriptors.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (std::fs::File::from_raw_fd(ends[0]), std::fs::File::from_raw_fd(ends[1]))
    }
}
