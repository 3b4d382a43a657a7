// SPDX-License-Identifier: MIT OR Apache-2.0
//! Datagrams with descriptors, credentials, and the listening socket.

use crate::Credentials;
use abi::message::{Message, MESSAGE_BYTES};
use anyhow::{bail, Context as _, Result};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::{
        socket::{
            accept4, bind, connect, getsockopt, listen, sendmsg, socket, sockopt::PeerCredentials,
            AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr,
        },
        stat::{fchmodat, FchmodatFlags, Mode},
    },
    unistd::{chown, geteuid, Group},
};
use std::{
    fs,
    io::IoSlice,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::FileTypeExt,
    },
    path::{Path, PathBuf},
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Descriptors taken from one datagram; a call passes one, more are closed.
const DESCRIPTORS_MAX: usize = 4;
/// Control buffer for that many, in words for cmsghdr's alignment.
const CONTROL_WORDS: usize = (DESCRIPTORS_MAX * size_of::<RawFd>()).div_ceil(8) + 2;

/// How often, and after which pause, the lock on the directory is tried.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// What one read from a client came to. Lives on the stack for one call.
#[allow(clippy::large_enum_variant)]
pub(super) enum Received {
    /// A call, with the descriptor passed.
    Call(Message, Option<OwnedFd>),
    /// A datagram that is no message; its first word, if it has one, to answer with.
    Garbage(u32),
    /// Nothing is waiting.
    Nothing,
    /// The client is gone.
    Gone,
}

/// Reads one datagram without waiting.
pub(super) fn receive(socket: BorrowedFd<'_>) -> Received {
    // One byte more than a message, so that a longer datagram is seen as such.
    let mut bytes = [0u8; MESSAGE_BYTES + 1];
    let (length, whole, descriptors) = match receive_raw(socket, &mut bytes) {
        Ok(received) => received,
        Err(Errno::EAGAIN | Errno::EINTR) => return Received::Nothing,
        Err(_) => return Received::Gone,
    };
    if length == 0 {
        return Received::Gone;
    }
    match Message::read_from_bytes(&bytes[..MESSAGE_BYTES]) {
        Ok(message) if whole && length == MESSAGE_BYTES => {
            Received::Call(message, descriptors.into_iter().next())
        }
        _ => Received::Garbage(u32::read_from_bytes(&bytes[..4]).unwrap_or_default()),
    }
}

/// recvmsg(2): length, whether all of it fitted, and every descriptor that came, even with a
/// datagram that is refused: none of them may stay open.
fn receive_raw(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, bool, Vec<OwnedFd>), Errno> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to buffers that live through the call.
    let length = Errno::result(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) })?;
    // SAFETY: the kernel has just filled the control buffer.
    let descriptors = unsafe { owned(&header) };
    let whole = header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
    Ok((length as usize, whole, descriptors))
}

/// # Safety
/// `header` comes from a successful recvmsg, its control buffer unchanged since.
unsafe fn owned(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut all = Vec::new();
    // SAFETY: the macros walk the control buffer within msg_controllen; each descriptor is new.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            if (*at).cmsg_level == libc::SOL_SOCKET && (*at).cmsg_type == libc::SCM_RIGHTS {
                let bytes = ((*at).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(at).cast::<RawFd>();
                all.extend(
                    (0..bytes / size_of::<RawFd>())
                        .map(|n| OwnedFd::from_raw_fd(data.add(n).read_unaligned())),
                );
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
    all
}

/// Sends a reply without waiting. False if the client does not take its replies, or is gone.
pub(super) fn send(socket: BorrowedFd<'_>, message: &Message, descriptors: &[OwnedFd]) -> bool {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(message.as_bytes())], control, flags, None);
    sent == Ok(MESSAGE_BYTES)
}

/// The reply to a datagram that is no message.
pub(super) fn refusal(op: u32) -> Message {
    let mut message = Message::new_zeroed();
    message.op = op;
    message.error = libc::EINVAL as u32;
    message
}

/// The socket a daemon serves; the path goes away with it.
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    path: PathBuf,
    /// Given up for a moment when there are no descriptors left, so that a client can be turned away.
    spare: Option<fs::File>,
}

impl Listener {
    /// Listens at `path`, mode 0660, owned by group `group` if there is one. A stale path is
    /// removed; one that is served is not touched.
    pub(super) fn open(path: &Path, group: &str) -> Result<Self> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory).with_context(|| {
                format!(
                    "cannot create {}; start as root, or choose a place of your own with --socket",
                    directory.display()
                )
            })?;
        }
        let _lock = lock(path)?;
        remove_stale(path)?;
        let socket = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            None,
        )?;
        let address = UnixAddr::new(path)
            .with_context(|| format!("{}: a socket path has at most 107 bytes", path.display()))?;
        bind(socket.as_raw_fd(), &address).with_context(|| {
            format!(
                "cannot create {}; start as root, or choose a place of your own with --socket",
                path.display()
            )
        })?;
        let listener = Self { socket, path: path.to_owned(), spare: spare() };
        give_to_group(path, group)?;
        listen(&listener.socket, Backlog::new(BACKLOG)?).context("listen")?;
        Ok(listener)
    }

    /// Accepts a waiting client with its credentials, or `None` if none waits.
    pub(super) fn accept(&mut self) -> Option<(OwnedFd, Credentials)> {
        loop {
            match accept4(self.socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
                // SAFETY: just returned by accept4.
                Ok(raw) => return with_credentials(unsafe { OwnedFd::from_raw_fd(raw) }),
                Err(Errno::EMFILE | Errno::ENFILE) => self.turn_away()?,
                Err(Errno::ECONNABORTED | Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Out of descriptors: accepts a client in the spare one's place and closes it. Left waiting, it
    /// would keep the daemon awake for nothing. `None` if none waits, or there is no spare one either.
    fn turn_away(&mut self) -> Option<()> {
        drop(self.spare.take()?);
        let accepted = accept4(self.socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC);
        // SAFETY: just returned by accept4.
        drop(accepted.map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        self.spare = spare();
        accepted.ok()?;
        eprintln!(
            "tas-slowpathd: no descriptors left, a client was turned away; start with a larger `ulimit -Hn`"
        );
        Some(())
    }
}

fn spare() -> Option<fs::File> {
    fs::File::open("/dev/null").ok()
}

fn with_credentials(client: OwnedFd) -> Option<(OwnedFd, Credentials)> {
    let peer = getsockopt(&client, PeerCredentials).ok()?;
    let privileged = peer.uid() == 0 || peer.uid() == geteuid().as_raw();
    let credentials =
        Credentials { pid: peer.pid().max(0) as u32, uid: peer.uid(), gid: peer.gid(), privileged };
    Some((client, credentials))
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Two daemons that start together must not both find the path stale: a lock on the directory, from the
/// look at the path until it is served.
fn lock(path: &Path) -> Result<Flock<fs::File>> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file =
        fs::File::open(directory).with_context(|| format!("cannot open {}", directory.display()))?;
    for _ in 0..LOCK_ATTEMPTS {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((unlocked, _)) => file = unlocked,
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    bail!("{} is locked by another process that is starting; try again", directory.display())
}

fn already_served(path: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is served by another tas-slowpathd; stop that one first (`sudo ss -xlp src {}` names its process), \
         or start another instance with --instance NAME",
        path.display(),
        path.display(),
    )
}

fn remove_stale(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        bail!(
            "{} exists and is not a socket; remove it, or choose another path with --socket",
            path.display()
        );
    }
    let probe = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => {
            fs::remove_file(path).with_context(|| format!("cannot remove the stale {}", path.display()))
        }
        _ => Err(already_served(path)),
    }
}

fn give_to_group(path: &Path, group: &str) -> Result<()> {
    match Group::from_name(group).ok().flatten() {
        Some(found) => {
            if let Err(error) = chown(path, None, Some(found.gid)) {
                eprintln!(
                    "tas-slowpathd: cannot give {} to group {group} ({error}): only root and this user can connect; \
                     start as root to let the group in",
                    path.display()
                );
            }
        }
        None => eprintln!(
            "tas-slowpathd: there is no group {group}: only root and this user can connect; \
             type `sudo groupadd --system {group}` and start again to let others in"
        ),
    }
    let mode = Mode::from_bits_truncate(0o660);
    fchmodat(nix::fcntl::AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink)
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}
