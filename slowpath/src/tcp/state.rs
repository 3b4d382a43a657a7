// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! TCP states (RFC 9293 §3.3.2).

use abi::message::tcp_state;

/// State of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum State {
    Closed,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

impl State {
    /// As Linux numbers it in TCP_INFO.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Closed => tcp_state::CLOSED,
            Self::SynSent => tcp_state::SYN_SENT,
            Self::SynReceived => tcp_state::SYN_RECEIVED,
            Self::Established => tcp_state::ESTABLISHED,
            Self::FinWait1 => tcp_state::FIN_WAIT1,
            Self::FinWait2 => tcp_state::FIN_WAIT2,
            Self::CloseWait => tcp_state::CLOSE_WAIT,
            Self::Closing => tcp_state::CLOSING,
            Self::LastAck => tcp_state::LAST_ACK,
            Self::TimeWait => tcp_state::TIME_WAIT,
        }
    }

    /// The state that follows from which ends are closed. `remote_first`: the peer's FIN came
    /// before ours was asked for.
    pub(crate) const fn from_ends(
        fin_asked: bool,
        fin_acked: bool,
        fin_received: bool,
        remote_first: bool,
    ) -> Self {
        match (fin_asked, fin_acked, fin_received) {
            (false, _, false) => Self::Established,
            (false, _, true) => Self::CloseWait,
            (true, false, false) => Self::FinWait1,
            (true, true, false) => Self::FinWait2,
            (true, false, true) => {
                if remote_first {
                    Self::LastAck
                } else {
                    Self::Closing
                }
            }
            (true, true, true) => {
                if remote_first {
                    Self::Closed
                } else {
                    Self::TimeWait
                }
            }
        }
    }
}
