// SPDX-License-Identifier: MIT OR Apache-2.0
//! "Sometimes" counters: which pairs of TCP state and event, and which kinds of fault, the worlds reached.

use abi::message::tcp_state;
use std::collections::BTreeMap;

/// The eleven states (RFC 9293 §3.3.2), as a host's slow path names the connection.
pub const STATES: [(&str, u32); 11] = [
    ("CLOSED", tcp_state::CLOSED),
    ("LISTEN", tcp_state::LISTEN),
    ("SYN-SENT", tcp_state::SYN_SENT),
    ("SYN-RECEIVED", tcp_state::SYN_RECEIVED),
    ("ESTABLISHED", tcp_state::ESTABLISHED),
    ("FIN-WAIT-1", tcp_state::FIN_WAIT1),
    ("FIN-WAIT-2", tcp_state::FIN_WAIT2),
    ("CLOSE-WAIT", tcp_state::CLOSE_WAIT),
    ("CLOSING", tcp_state::CLOSING),
    ("LAST-ACK", tcp_state::LAST_ACK),
    ("TIME-WAIT", tcp_state::TIME_WAIT),
];

macro_rules! names {
    ($(#[$outer:meta])* $type:ident { $($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $type { $($(#[doc = $doc])+ $name,)+ }
        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
            /// As it is printed.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

names! {
    /// What happens to a connection in a state.
    Event {
        /// A SYN arrives.
        Syn = "SYN",
        /// A SYN with ACK arrives.
        SynAck = "SYN-ACK",
        /// A pure acknowledgement arrives.
        Ack = "ACK",
        /// A segment with data arrives.
        Data = "data",
        /// A segment with FIN arrives.
        Fin = "FIN",
        /// An RST arrives.
        Rst = "RST",
        /// A segment that the checksum refuses arrives.
        Corrupt = "corrupt",
        /// Something is sent again.
        Retransmit = "retransmit",
        /// The application connects.
        Connect = "connect()",
        /// The application accepts it.
        Accept = "accept()",
        /// The application writes.
        Write = "write()",
        /// The application ends its stream.
        Finish = "shutdown()",
        /// The application closes.
        Close = "close()",
        /// The application closes with SO_LINGER of zero.
        Abort = "abort()",
        /// The application's process ends.
        Crash = "crash",
        /// The fast path is killed.
        Restart = "restart",
    }
}

names! {
    /// Kinds of fault.
    Fault {
        /// A frame lost at random.
        Loss = "loss",
        /// A frame lost in a burst.
        BurstLoss = "burst loss",
        /// A frame lost in a full queue.
        QueueLoss = "queue overflow",
        /// A frame lost while the link was down.
        Outage = "link outage",
        /// The link cut in both directions, for longer than the stack waits perhaps.
        Cut = "link cut",
        /// Frames of others in the switch's queue.
        Crossing = "cross traffic",
        /// A datagram too large for a router that said so.
        TooBig = "path MTU, told",
        /// A datagram too large for a router that did not.
        BlackHole = "path MTU, black hole",
        /// A frame doubled.
        Duplicate = "duplicate",
        /// A frame held back.
        Reorder = "reorder",
        /// A bit flipped.
        Corrupt = "corrupt",
        /// A frame marked CE.
        Mark = "CE mark",
        /// Options taken out of a SYN.
        Strip = "options stripped",
        /// A core stalled.
        CoreStall = "core stall",
        /// The slow path's worker ran late.
        SlowStall = "slow path late",
        /// A host whose slow path always runs late.
        SlowKernel = "slow kernel",
        /// Received frames spread over the cores in another way.
        Respread = "RSS changed",
        /// The fast path killed.
        Kill = "fast path killed",
        /// An application stopped reading.
        StopReading = "reader stops",
        /// A window of zero was advertised.
        ZeroWindow = "zero window",
        /// A window was probed.
        Probe = "window probe",
        /// An application ended.
        AppCrash = "application crash",
        /// An application wrote garbage in all it maps.
        Lie = "application lies",
        /// A connection was aborted.
        AppAbort = "abort",
        /// A connection was closed with data unread.
        EarlyClose = "early close",
        /// A listener was closed with connections queued.
        ListenerClosed = "listener closed",
        /// A connect to a port where nobody listens.
        ClosedPort = "closed port",
        /// A SYN dropped because the backlog was full.
        Backlog = "backlog full",
        /// A pool ran empty.
        PoolEmpty = "pool empty",
        /// A flow slot, record or socket was wanted in vain.
        Exhausted = "table full",
        /// A forged segment that must do nothing.
        ForgedBlind = "forged, outside",
        /// A forged segment inside the window that asks for a challenge ACK.
        ForgedInside = "forged, inside",
        /// A forged RST with the exact number.
        ForgedExact = "forged, exact RST",
        /// A retransmission timeout.
        Timeout = "timeout",
        /// A connection given up after many.
        GivenUp = "given up",
        /// A challenge ACK (RFC 5961).
        Challenge = "challenge ACK",
        /// A connection in TIME-WAIT reused by a SYN, or pushed out.
        TimeWaitReuse = "TIME-WAIT ended early",
    }
}

names! {
    /// What is no fault, and happens sometimes.
    Sometimes {
        /// A world over IPv6.
        Ipv6 = "IPv6",
        /// Data left with a SYN (RFC 7413).
        SynData = "SYN with data",
        /// The peer took all of it.
        SynDataTaken = "SYN data taken",
        /// It took less, or nothing: it was sent again.
        SynDataAgain = "SYN data again",
        /// An urgent byte was received apart from the stream.
        UrgentApart = "urgent byte apart",
        /// An urgent byte was read in its place.
        UrgentInline = "urgent byte in line",
        /// A write with MSG_MORE.
        More = "MSG_MORE",
        /// What such writes held back was released (TCP_CORK).
        Released = "cork released",
        /// A socket was kept when all was over.
        Kept = "socket kept",
        /// A socket was kept after its connection broke: the flow is detached.
        KeptBroken = "broken socket kept",
        /// A SYN cookie was sent (RFC 4987).
        Cookie = "SYN cookie sent",
        /// It came back.
        CookieBack = "SYN cookie back",
        /// A last ACK found the accept queue full.
        AcceptFull = "accept queue full",
        /// An orphan was ended by a limit.
        OrphanEnded = "orphan ended",
        /// A lower path MTU was learned from ICMP.
        PathMtu = "path MTU learned",
        /// A lower path MTU was found by losses alone.
        PathMtuFound = "path MTU found",
        /// A segment was kept that came too early.
        OutOfOrder = "out of order kept",
        /// A loss was repaired before a timeout.
        FastRetransmit = "fast retransmit",
        /// PAWS refused a segment.
        Paws = "PAWS",
        /// A flow moved to another context of its application.
        Moved = "flow moved",
        /// A host with several cores.
        Cores = "several cores",
        /// A core handed a frame to another.
        Steered = "frame steered",
    }
}

/// Counts of one world, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    pairs: BTreeMap<(usize, Event), u64>,
    faults: BTreeMap<Fault, u64>,
    sometimes: BTreeMap<Sometimes, u64>,
}

impl Coverage {
    /// `event` happened to a connection in `state` (of [`tcp_state`]).
    pub fn reached(&mut self, state: u32, event: Event) {
        if let Some(index) = STATES.iter().position(|(_, number)| *number == state) {
            *self.pairs.entry((index, event)).or_default() += 1;
        }
    }

    /// `count` faults of a kind happened.
    pub fn fault(&mut self, fault: Fault, count: u64) {
        if count > 0 {
            *self.faults.entry(fault).or_default() += count;
        }
    }

    /// Something that is no fault happened `count` times.
    pub fn sometimes(&mut self, what: Sometimes, count: u64) {
        if count > 0 {
            *self.sometimes.entry(what).or_default() += count;
        }
    }

    /// Adds another world's counts.
    pub fn add(&mut self, other: &Self) {
        for (pair, count) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += count;
        }
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (what, count) in &other.sometimes {
            self.sometimes(*what, *count);
        }
    }

    /// Faults of all kinds.
    pub fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How often a pair was reached; the state by its name.
    pub fn pair(&self, state: &str, event: Event) -> u64 {
        let index = STATES.iter().position(|(name, _)| *name == state);
        index.and_then(|index| self.pairs.get(&(index, event))).copied().unwrap_or(0)
    }

    /// Pairs, faults and what else happens sometimes that were not reached although they can be, in words.
    pub fn never_reached(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (state, _) in STATES {
            for event in Event::ALL {
                if self.pair(state, *event) == 0 && unreachable_because(state, *event).is_none() {
                    missing.push(format!("{state} × {}", event.name()));
                }
            }
        }
        let faults = Fault::ALL.iter().filter(|fault| !self.faults.contains_key(fault));
        missing.extend(faults.map(|fault| fault.name().to_owned()));
        let others = Sometimes::ALL.iter().filter(|what| !self.sometimes.contains_key(what));
        missing.extend(others.map(|what| what.name().to_owned()));
        missing
    }

    /// Pairs that were reached although [`unreachable_because`] says they cannot be.
    pub fn reached_the_unreachable(&self) -> Vec<String> {
        let reached = self.pairs.keys().map(|(index, event)| (STATES[*index].0, *event));
        let wrong = reached.filter(|(state, event)| unreachable_because(state, *event).is_some());
        wrong.map(|(state, event)| format!("{state} × {}", event.name())).collect()
    }

    /// The counts as a table.
    pub fn table(&self) -> String {
        let mut text = format!("{:14}", "");
        for event in Event::ALL {
            text += &format!("{:>11}", event.name());
        }
        for (state, _) in STATES {
            text += &format!("\n{state:14}");
            for event in Event::ALL {
                match (self.pair(state, *event), unreachable_because(state, *event)) {
                    (0, Some(_)) => text += &format!("{:>11}", "-"),
                    (count, _) => text += &format!("{count:>11}"),
                }
            }
        }
        for (fault, count) in &self.faults {
            text += &format!("\n{:24}{count:>11}", fault.name());
        }
        for (what, count) in &self.sometimes {
            text += &format!("\n{:24}{count:>11}", what.name());
        }
        text
    }
}

/// Why a pair cannot happen, if it cannot.
pub fn unreachable_because(state: &str, event: Event) -> Option<&'static str> {
    use Event::*;
    match event {
        Connect if state != "CLOSED" => Some("connect() begins a connection"),
        Accept if !["SYN-RECEIVED", "ESTABLISHED", "CLOSE-WAIT", "CLOSED"].contains(&state) => {
            Some("only the peer has ended what waits to be accepted")
        }
        Write | Finish if !["SYN-RECEIVED", "ESTABLISHED", "CLOSE-WAIT", "CLOSED"].contains(&state) => {
            Some("only an end that is open can be written to or ended")
        }
        Close | Abort | Crash if state == "LISTEN" => Some("a listener is no connection"),
        Abort if state == "SYN-SENT" => Some("nothing is there to reset: it is closed like any other"),
        Retransmit if ["FIN-WAIT-2", "TIME-WAIT"].contains(&state) => Some("nothing is unacknowledged"),
        Restart if state == "LISTEN" => Some("no connection is there"),
        _ => None,
    }
}
