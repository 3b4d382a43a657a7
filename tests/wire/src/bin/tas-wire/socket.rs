// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taps and packet sockets: the system calls.

use nix::errno::Errno;
use std::{
    io,
    mem::{size_of, zeroed},
    ops::Range,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Bytes of `struct virtio_net_hdr`, which the kernel puts in front of each frame when asked.
const VNET_BYTES: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// `PACKET_IGNORE_OUTGOING` of `linux/if_packet.h`.
const PACKET_IGNORE_OUTGOING: i32 = 23;
/// Room for frames that wait while this thread does not run: tens of milliseconds at 10 Gbit/s.
const SOCKET_BYTES: i32 = 64 << 20;

/// What came.
#[derive(Debug)]
pub(crate) enum Received {
    /// Nothing is there.
    Nothing,
    /// Several segments in one, or longer than any frame: it would not fit a real wire. Dropped.
    Unsegmented,
    /// A frame in `range` of the buffer.
    Frame {
        /// Where.
        range: Range<usize>,
        /// Start and offset of a checksum that was left to the hardware.
        checksum: Option<(usize, usize)>,
        /// The VLAN tag that the kernel took out, as it was.
        tag: Option<[u8; 4]>,
    },
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn descriptor(result: libc::c_int) -> io::Result<OwnedFd> {
    let raw = check(result)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// An interface request for `name`.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::other("an interface's name has 1 to 15 characters"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// Makes a tap without any offload: Linux segments and fills in checksums before it hands over a frame. It goes
/// when its descriptor does, and may be moved to another namespace.
pub(crate) fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the path is a C string.
    let tap = descriptor(unsafe { libc::open(c"/dev/net/tun".as_ptr(), flags) })?;
    // SAFETY: the request is an ifreq, as TUNSETIFF wants.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF as _, &mut request) })?;
    Ok(tap)
}

/// Sets how many frames wait in the interface for its reader.
pub(crate) fn set_queue_frames(name: &str, frames: i32) -> io::Result<()> {
    let mut request = request(name)?;
    // `ifr_qlen` has no name of its own in the libc crate; it is the union's int.
    request.ifr_ifru.ifru_metric = frames;
    // SAFETY: plain system call.
    let socket =
        descriptor(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the request is an ifreq with its integer set, as SIOCSIFTXQLEN wants.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFTXQLEN as _, &mut request) })?;
    Ok(())
}

/// Reads one frame of a tap.
pub(crate) fn read_frame(tap: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    match nix::unistd::read(tap, buffer) {
        Ok(0) | Err(Errno::EAGAIN | Errno::EINTR | Errno::EIO) => Ok(Received::Nothing),
        Ok(length) if length == buffer.len() => Ok(Received::Unsegmented),
        Ok(length) => Ok(Received::Frame { range: 0..length, checksum: None, tag: None }),
        Err(error) => Err(error.into()),
    }
}

/// A packet socket on an interface. When the interface is deleted, it waits for another of the same name.
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    name: String,
    is_bound: bool,
}

impl PacketSocket {
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: plain system call. Protocol 0: nothing is received before bind.
        let socket = descriptor(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        let mut packet = Self { socket, name: name.to_owned(), is_bound: false };
        packet.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        packet.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        packet.set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
        packet.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SOCKET_BYTES)?;
        packet.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SOCKET_BYTES)?;
        packet.bind()?;
        Ok(packet)
    }

    fn set(&self, level: i32, option: i32, value: i32) -> io::Result<()> {
        let (pointer, bytes) = (std::ptr::from_ref(&value).cast(), size_of::<i32>() as libc::socklen_t);
        // SAFETY: the pointer is to an integer of that size.
        check(unsafe { libc::setsockopt(self.socket.as_raw_fd(), level, option, pointer, bytes) }).map(drop)
    }

    fn bind(&mut self) -> io::Result<()> {
        // SAFETY: all zeroes is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = nix::net::if_::if_nametoindex(self.name.as_str())? as i32;
        let (pointer, bytes) = (std::ptr::from_ref(&address).cast(), size_of::<libc::sockaddr_ll>());
        // SAFETY: the pointer is to an address of that size.
        check(unsafe { libc::bind(self.socket.as_raw_fd(), pointer, bytes as libc::socklen_t) })?;
        self.is_bound = true;
        Ok(())
    }

    /// Reads one frame.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        if !self.is_bound && self.bind().is_err() {
            return Ok(Received::Nothing);
        }
        let mut auxiliary = [0u64; 8];
        let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all zeroes is a valid msghdr.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &mut piece;
        message.msg_iovlen = 1;
        message.msg_control = auxiliary.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&auxiliary) as _;
        // SAFETY: the message describes memory that is ours and writable.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &mut message, 0) };
        if length < 0 {
            return self.failed(Errno::last());
        }
        let length = length as usize;
        if length <= VNET_BYTES || message.msg_flags & libc::MSG_TRUNC != 0 {
            return Ok(Received::Unsegmented);
        }
        let (needs_checksum, segmentation) = (buffer[0] & NEEDS_CHECKSUM != 0, buffer[1]);
        if segmentation != 0 {
            return Ok(Received::Unsegmented);
        }
        let field = |at: usize| usize::from(u16::from_ne_bytes([buffer[at], buffer[at + 1]]));
        let checksum = needs_checksum.then(|| (field(6), field(8)));
        // SAFETY: the message was filled in by recvmsg.
        let tag = unsafe { vlan_tag(&message) };
        Ok(Received::Frame { range: VNET_BYTES..length, checksum, tag })
    }

    fn failed(&mut self, error: Errno) -> io::Result<Received> {
        match error {
            Errno::EAGAIN | Errno::EINTR => Ok(Received::Nothing),
            // It is down (it may come up again) or deleted.
            Errno::ENETDOWN | Errno::ENXIO | Errno::ENODEV => {
                self.is_bound = false;
                Ok(Received::Nothing)
            }
            error => Err(error.into()),
        }
    }

    /// Sends one frame.
    pub(crate) fn send(&self, frame: &[u8]) -> nix::Result<()> {
        let mut header = [0u8; VNET_BYTES];
        let pieces = [
            libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: VNET_BYTES },
            libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() },
        ];
        // SAFETY: both pieces are readable; writev does not write to them.
        Errno::result(unsafe { libc::writev(self.socket.as_raw_fd(), pieces.as_ptr(), 2) }).map(drop)
    }

    /// Frames that the socket had no room for since the last call.
    pub(crate) fn overrun(&self) -> u64 {
        let mut counts = [0u32; 2];
        let mut bytes = size_of_val(&counts) as libc::socklen_t;
        let socket = self.socket.as_raw_fd();
        // SAFETY: the pointer is to a tpacket_stats: two 32-bit counts, of packets and of drops.
        let result = unsafe {
            libc::getsockopt(
                socket,
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counts.as_mut_ptr().cast(),
                &mut bytes,
            )
        };
        if result < 0 {
            return 0;
        }
        u64::from(counts[1])
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The VLAN tag in a message's auxiliary data.
///
/// # Safety
/// `message` was filled in by recvmsg and its control buffer is still there.
unsafe fn vlan_tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: the caller's contract; CMSG_FIRSTHDR checks the length.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref()? };
    if header.cmsg_level != libc::SOL_PACKET || header.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    // SAFETY: a PACKET_AUXDATA message carries this structure, at any alignment.
    let data = unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
    if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let protocol = match data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID {
        0 => 0x8100,
        _ => data.tp_vlan_tpid,
    };
    let [p0, p1] = protocol.to_be_bytes();
    let [t0, t1] = data.tp_vlan_tci.to_be_bytes();
    Some([p0, p1, t0, t1])
}
