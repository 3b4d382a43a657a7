// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control channel of an application in the same process: calls go straight into the instance.

use abi::{
    message::{Message, Op},
    region::Region,
};
use daemon::{Client, Credentials, Give, Instance};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::{EfdFlags, EventFd},
};
use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::{
        atomic::{AtomicI32, AtomicU64, Ordering::Relaxed},
        Arc, Mutex, PoisonError,
    },
};
use tas::control::{ControlChannel, Mapping, Target};

/// A socket's far end: when the application's end is closed, the socket is released.
struct Held {
    end: OwnedFd,
    socket: u32,
}

/// A control channel into an [`Instance`] of this process.
pub struct InProcess {
    instance: Arc<Mutex<Instance>>,
    client: Client,
    now_us: Arc<AtomicU64>,
    sockets: Mutex<BTreeMap<u64, Held>>,
    closed: Epoll,
    /// The next descriptor number, if sockets get numbers only; else zero.
    number: AtomicI32,
    wake: OwnedFd,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InProcess {
    /// A new client of `instance`, at the time that `now_us` shows with each call.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub fn connect(instance: Arc<Mutex<Instance>>, now_us: Arc<AtomicU64>, pid: u32) -> io::Result<Self> {
        let credentials = Credentials { pid, uid: 0, gid: 0, privileged: true };
        let client = locked(&instance).connect(credentials);
        let closed = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self {
            instance,
            client,
            now_us,
            sockets: Mutex::default(),
            closed,
            number: 0.into(),
            wake: eventfd()?,
        })
    }

    /// From now on sockets get numbers from `first` on instead of descriptors: for harnesses with more
    /// connections than a process may have descriptors. The numbers are ones that the kernel does not hand out
    /// (not below RLIMIT_NOFILE). Such a socket is released only with its application.
    pub fn number_sockets(&self, first: RawFd) {
        self.number.store(first, Relaxed);
    }

    /// Releases the sockets whose last descriptor was closed.
    pub fn release_closed(&self) {
        let mut events = [EpollEvent::empty(); 64];
        while let Ok(count @ 1..) = self.closed.wait(&mut events, EpollTimeout::ZERO) {
            // In order of creation, whatever order the kernel found them in.
            let mut keys: Vec<u64> = events[..count].iter().map(EpollEvent::data).collect();
            keys.sort_unstable();
            for key in keys {
                if let Some(held) = locked(&self.sockets).remove(&key) {
                    // Closing our end also takes it out of the epoll set.
                    drop(held.end);
                    locked(&self.instance).release_socket(self.now_us.load(Relaxed), held.socket);
                }
            }
        }
    }

    /// The application dies.
    pub fn disconnect(&self) {
        locked(&self.instance).disconnect(self.now_us.load(Relaxed), self.client);
        locked(&self.sockets).clear();
    }

    fn give(&self, give: Give) -> io::Result<OwnedFd> {
        match give {
            Give::Socket(_) if self.number.load(Relaxed) != 0 => {
                // SAFETY: the number is not open and nobody else's; a close of it does nothing.
                Ok(unsafe { OwnedFd::from_raw_fd(self.number.fetch_add(1, Relaxed)) })
            }
            Give::Socket(socket) => {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
                let mut sockets = locked(&self.sockets);
                let key = sockets.last_key_value().map_or(0, |(last, _)| last + 1);
                // Nobody writes to it: what it can report is the hang-up.
                self.closed.add(&ours, EpollEvent::new(EpollFlags::EPOLLHUP, key))?;
                sockets.insert(key, Held { end: ours.into(), socket });
                Ok(theirs.into())
            }
            Give::Region { region, writable } => self.descriptor(region, writable),
            _ => self.wake.try_clone(),
        }
    }

    fn descriptor(&self, region: Region, writable: bool) -> io::Result<OwnedFd> {
        let memory = locked(&self.instance).region(region);
        memory.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?.descriptor(writable)
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    Ok(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?.into())
}

impl ControlChannel for InProcess {
    fn call(
        &self,
        target: Target<'_>,
        message: &mut Message,
        _pass: Option<BorrowedFd<'_>>,
    ) -> io::Result<Vec<OwnedFd>> {
        if let Target::Socket(_, id) = target {
            message.object = id;
        }
        let reply = locked(&self.instance).request(self.now_us.load(Relaxed), self.client, message);
        if message.error != 0 {
            return Err(io::Error::from_raw_os_error(message.error as i32));
        }
        reply.give.into_iter().map(|give| self.give(give)).collect()
    }

    fn map(&self, region: Region, bytes: usize, writable: bool, at: Option<usize>) -> io::Result<Mapping> {
        let descriptor = self.descriptor(region, writable)?;
        Mapping::sparse(descriptor.as_fd(), bytes, writable, at)
    }

    fn notice_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    fn wake_core(&self, core: u32) -> io::Result<()> {
        self.call(Target::Instance, &mut Message::new(Op::WakeCore, core), None).map(drop)
    }

    fn wake_context(&self, _context: u32) -> io::Result<()> {
        Ok(())
    }

    fn wake_slowpath(&self) -> io::Result<()> {
        Ok(())
    }

    fn name(&self) -> &'static str {
        "in-process"
    }
}
