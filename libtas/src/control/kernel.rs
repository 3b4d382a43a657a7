// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control channel of `tas.ko`: ioctl and mmap on `/dev/tas` and on socket files.

use super::{error::explained, ControlChannel, Mapping, Target};
use crate::sys;
use abi::{
    ioctl,
    message::{FlowInfo, Message, Op, Socket},
    region::Region,
};
use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// The device node.
pub const DEVICE: &CStr = c"/dev/tas";

/// An open `/dev/tas`.
#[derive(Debug)]
pub struct KernelChannel {
    device: OwnedFd,
    process: u32,
}

impl KernelChannel {
    /// Opens the device.
    ///
    /// # Errors
    /// ENOENT: the module is not loaded. EACCES: the caller is not in group `tas`.
    pub fn open() -> io::Result<Self> {
        Self::open_at(DEVICE)
    }

    /// Opens another device node.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(path: &CStr) -> io::Result<Self> {
        let device = sys::open(path, libc::O_RDWR).map_err(|error| explain(&error, path))?;
        Ok(Self { device, process: sys::process_id() })
    }

    /// A child has its parent's application file; only socket files are its own right.
    fn check_process(&self) -> io::Result<()> {
        if sys::process_id() != self.process {
            return Err(super::foreign_process());
        }
        Ok(())
    }

    fn simple(&self, op: Op, object: u32) -> io::Result<()> {
        self.call(Target::Instance, &mut Message::new(op, object), None).map(drop)
    }
}

impl ControlChannel for KernelChannel {
    fn call(
        &self,
        target: Target<'_>,
        message: &mut Message,
        pass: Option<BorrowedFd<'_>>,
    ) -> io::Result<Vec<OwnedFd>> {
        let descriptor = match target {
            Target::Instance => {
                self.check_process()?;
                self.device.as_raw_fd()
            }
            Target::Socket(descriptor, id) => {
                message.object = id;
                descriptor.as_raw_fd()
            }
        };
        if let Some(passed) = pass {
            message.flags = passed.as_raw_fd() as u32;
        }
        let op = Op::from_u32(message.op).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: the request number's argument is one Message, which is plain bytes.
        unsafe { sys::ioctl(descriptor, ioctl::number(op), (&raw mut *message).cast()) }?;
        super::reply_error(message)?;
        let returned = match op {
            Op::Socket => Some(message.get::<Socket>().descriptor),
            Op::Accept => Some(message.get::<FlowInfo>().descriptor),
            _ => None,
        };
        // SAFETY: the module installed this descriptor for this call; nobody else owns it.
        Ok(returned.map(|number| unsafe { OwnedFd::from_raw_fd(number as RawFd) }).into_iter().collect())
    }

    fn map(&self, region: Region, bytes: usize, writable: bool, at: Option<usize>) -> io::Result<Mapping> {
        self.check_process()?;
        Mapping::new(self.device.as_fd(), region.offset(), bytes, writable, at)
    }

    fn notice_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    fn wake_core(&self, core: u32) -> io::Result<()> {
        self.simple(Op::WakeCore, core)
    }

    fn wake_context(&self, context: u32) -> io::Result<()> {
        self.simple(Op::WakeContext, context)
    }

    fn wake_slowpath(&self) -> io::Result<()> {
        self.simple(Op::WakeSlowpath, 0)
    }

    fn name(&self) -> &'static str {
        "kernel"
    }
}

fn explain(error: &io::Error, path: &CStr) -> io::Error {
    let errno = super::errno(error);
    let device = path.to_string_lossy();
    match errno {
        libc::ENOENT | libc::ENXIO | libc::ENODEV => explained(
            errno,
            format!("{device}: the tas module is not loaded; type `sudo modprobe tas`, or `sudo insmod tas.ko` in the build folder"),
        ),
        libc::EACCES | libc::EPERM => explained(
            errno,
            format!("{device}: permission denied, only group `tas` may open it; type `sudo usermod -aG tas $USER` and log in again"),
        ),
        _ => explained(errno, format!("{device}: {error}")),
    }
}
