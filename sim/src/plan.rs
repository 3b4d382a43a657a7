// SPDX-License-Identifier: MIT OR Apache-2.0
//! A world drawn from a seed: its link, its hosts, its applications, and what goes wrong when. Most
//! worlds are small, so that many of them run in little time; every kind of trouble is rare enough that
//! it meets each of the others alone, and common enough that it meets them all.

mod draw;
mod story;

use crate::{host::HostConfig, link::Impairment};
pub(crate) use draw::CLOSED_PORT;

/// One direction of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkPlan {
    /// One-way delay, microseconds.
    pub delay_us: u64,
    /// Rate, kilobits per second.
    pub kbps: u64,
    /// Bytes that may wait.
    pub queue_bytes: u64,
    /// Bytes waiting above which frames are marked CE.
    pub mark_bytes: u64,
    /// What it does to frames.
    pub impairment: Impairment,
}

/// What a box in the middle does to SYNs: the peer seems to lack what was taken out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strip {
    /// Without timestamps.
    pub timestamps: bool,
    /// Without SACK.
    pub sack: bool,
    /// Without window scaling.
    pub window_scale: bool,
    /// Without fast open.
    pub fast_open: bool,
    /// MSS at most this.
    pub mss: Option<u16>,
}

/// How a process listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Port.
    pub port: u16,
    /// Backlog.
    pub backlog: u32,
    /// It accepts this long after it was told to, microseconds.
    pub accept_delay_us: u64,
    /// It closes the listener at this time, whatever waits.
    pub closes_at_us: Option<u64>,
    /// TCP_FASTOPEN: connections that are not complete yet, at most; zero is none.
    pub fast_open: u32,
    /// TCP_FASTOPEN_NO_COOKIE.
    pub no_cookie: bool,
}

/// How a process ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It is killed.
    Crash,
    /// It writes garbage in all it maps, several times, and is killed then.
    Lie,
}

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Host it runs on.
    pub host: usize,
    /// Whether it is a server.
    pub listen: Option<Listen>,
    /// Contexts that it has: its connections move between them.
    pub contexts: usize,
    /// When and how it ends, if the plan says so.
    pub death: Option<(u64, Death)>,
}

/// How one end of a connection comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// FIN behind its data, then it reads to the end.
    AfterWrite,
    /// It reads to the end first.
    AfterPeer,
    /// FIN behind its data after a pause, microseconds.
    AfterPause(u64),
    /// It closes after so many bytes were read, whatever else comes.
    Early(u64),
    /// It resets so many microseconds after it was established.
    Abort(u64),
}

/// What one end of a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// Bytes it sends; zero or at least [`crate::stream::HEADER_BYTES`].
    pub bytes: u64,
    /// Most bytes of one write.
    pub piece_bytes: u64,
    /// Pause between two writes, microseconds.
    pub write_pause_us: u64,
    /// Most bytes of one read.
    pub read_bytes: u64,
    /// It stops reading after so many bytes, for so many microseconds.
    pub read_stop: Option<(u64, u64)>,
    /// How it ends.
    pub end: End,
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// SO_RCVBUF, if set.
    pub receive_buffer_bytes: Option<u32>,
    /// Position of a byte that it sends with MSG_OOB.
    pub urgent_at: Option<u64>,
    /// SO_OOBINLINE.
    pub urgent_inline: bool,
    /// Per thousand of its writes that have MSG_MORE.
    pub more: u32,
    /// It keeps its socket so many microseconds after all is over, or broken.
    pub keeps_us: u64,
    /// SO_LINGER of zero: it resets what it closes.
    pub lingers_zero: bool,
}

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect {
    /// Process that connects.
    pub client: usize,
    /// Process that listens; `None`: a port where nobody does.
    pub server: Option<usize>,
    /// When.
    pub at_us: u64,
    /// It gives up if not established after so many microseconds.
    pub gives_up_us: Option<u64>,
    /// MSG_FASTOPEN: its first bytes go with the SYN, if they may.
    pub fast_open: bool,
    /// TCP_FASTOPEN_NO_COOKIE of the client.
    pub no_cookie: bool,
    /// Client and server.
    pub sides: [Side; 2],
}

/// Something that happens to a host or the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A core of a host, the second number counted round, does not run for so many microseconds.
    StallCore(usize, usize, u64),
    /// A host spreads received frames over its cores by another key from now on (RSS).
    Respread(usize, u64),
    /// The slow path's worker of a host does not run for so many microseconds.
    StallSlowPath(usize, u64),
    /// A direction of the link loses everything for so many microseconds.
    Outage(usize, u64),
    /// The link is cut for so many microseconds: for longer than anybody waits, perhaps.
    Cut(u64),
    /// The fast path of a host is killed; another comes after so many microseconds.
    Kill(usize, u64),
    /// Somebody forges a segment to this host.
    Forge(usize, Forge),
    /// From now on a router on the way from this host takes datagrams up to so many bytes; true: it tells of those that
    /// it drops (RFC 1191), else it is a black hole (RFC 4821).
    Narrow(usize, u32, bool),
    /// Others send [`CROSSING`] frames for each one from this host through the same switch, for so many microseconds.
    Crossing(usize, u64),
}

/// Frames of others for each one of ours while they cross ([`Trouble::Crossing`]).
pub const CROSSING: u64 = 3;

/// What is forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forge {
    /// RST outside the window.
    ResetOutside,
    /// RST inside the window, but not with the exact number (RFC 5961 §3).
    ResetInside,
    /// RST with the exact number: it works.
    ResetExact,
    /// SYN, anywhere (RFC 5961 §4).
    Syn,
    /// SYN with ACK, anywhere.
    SynAck,
    /// An acknowledgement of data not sent (RFC 5961 §5).
    AckAhead,
    /// An acknowledgement from long ago.
    AckOld,
    /// Data far outside the window.
    DataOutside,
    /// FIN far outside the window.
    FinOutside,
    /// A bare ACK of an unknown connection.
    Stray,
}

/// A world.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed it was drawn from.
    pub seed: u64,
    /// From the first host to the second, and back.
    pub links: [LinkPlan; 2],
    /// The hosts.
    pub hosts: [HostConfig; 2],
    /// Whether each host's core never sleeps.
    pub never_sleeps: [bool; 2],
    /// How long after its wake-up each host's slow path runs, microseconds.
    pub slow_path_lag_us: [u64; 2],
    /// What the box in the middle takes out of SYNs.
    pub strip: Strip,
    /// The processes.
    pub processes: Vec<Process>,
    /// The connections.
    pub connections: Vec<Connect>,
    /// What happens, by time.
    pub troubles: Vec<(u64, Trouble)>,
    /// Virtual time by which everything must have been delivered.
    pub limit_us: u64,
}

impl Plan {
    /// The world of a seed.
    pub fn draw(seed: u64) -> Self {
        draw::draw(seed)
    }

    /// Whether a connection may end with an error, or short of its bytes.
    pub fn may_fail(&self, connection: &Connect) -> bool {
        let Some(server) = connection.server else {
            return true;
        };
        let dies = |process: usize| self.processes[process].death.is_some();
        let refuses = |listen: Listen| listen.closes_at_us.is_some();
        let fragile = |side: &Side| side.lingers_zero || matches!(side.end, End::Early(_) | End::Abort(_));
        let cut = self.troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Cut(_)));
        dies(connection.client)
            || dies(server)
            || connection.gives_up_us.is_some()
            || self.processes[server].listen.is_none_or(refuses)
            || connection.sides.iter().any(fragile)
            || cut
    }

    /// Whether the ends of a connection ask for keepalive: its peer may end with an RST that is lost, of
    /// which nobody but keepalive tells.
    pub fn needs_keepalive(&self, connection: &Connect) -> bool {
        let resets = |trouble: &Trouble| matches!(trouble, Trouble::Forge(_, Forge::ResetExact | Forge::Syn));
        self.may_fail(connection) || self.troubles.iter().any(|(_, trouble)| resets(trouble))
    }
}
