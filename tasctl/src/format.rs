// SPDX-License-Identifier: MIT OR Apache-2.0
//! How values are written.

use abi::message::{congestion, tcp_state, Endpoint};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// An IPv6 address of four words.
pub(crate) fn ipv6(words: &[u32; 4]) -> Ipv6Addr {
    let [a, b, c, d] = words.map(u128::from);
    Ipv6Addr::from(a << 96 | b << 64 | c << 32 | d)
}

/// An address and a port as ss writes them.
pub(crate) struct Name<'a>(pub &'a Endpoint);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |f: &mut fmt::Formatter<'_>| match self.0.port {
            0 => write!(f, ":*"),
            port => write!(f, ":{port}"),
        };
        match self.0.as_ipv4() {
            Some(address) => write!(f, "{}", Ipv4Addr::from(address))?,
            None if self.0.family == 0 => write!(f, "*")?,
            None => write!(f, "[{}]", ipv6(&self.0.address))?,
        }
        port(f)
    }
}

/// A state as ss abbreviates it.
pub(crate) fn state(state: u32) -> &'static str {
    match state {
        tcp_state::ESTABLISHED => "ESTAB",
        tcp_state::SYN_SENT => "SYN-SENT",
        tcp_state::SYN_RECEIVED => "SYN-RECV",
        tcp_state::FIN_WAIT1 => "FIN-WAIT-1",
        tcp_state::FIN_WAIT2 => "FIN-WAIT-2",
        tcp_state::TIME_WAIT => "TIME-WAIT",
        tcp_state::CLOSE_WAIT => "CLOSE-WAIT",
        tcp_state::LAST_ACK => "LAST-ACK",
        tcp_state::LISTEN => "LISTEN",
        tcp_state::CLOSING => "CLOSING",
        _ => "UNCONN",
    }
}

/// A congestion control algorithm by the name TCP_CONGESTION takes.
pub(crate) fn congestion_name(value: u32) -> &'static str {
    match value {
        congestion::DCTCP_RATE => "dctcp-rate",
        congestion::NEWRENO => "reno",
        congestion::CONST_RATE => "const-rate",
        _ => "none",
    }
}

/// A zero-padded field.
pub(crate) fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The holder of a connection as ss writes it.
pub(crate) fn process(command: &[u8], pid: u32) -> String {
    if pid == 0 {
        "-".into()
    } else {
        format!("users:((\"{}\",pid={pid}))", text(command))
    }
}

/// A rate; none at all is `unlimited`.
pub(crate) fn rate(kbps: u32) -> String {
    match kbps {
        abi::flow::RATE_UNLIMITED => "unlimited".into(),
        0..10_000 => format!("{kbps}kbit"),
        10_000..10_000_000 => format!("{}Mbit", kbps / 1000),
        _ => format!("{}Gbit", kbps / 1_000_000),
    }
}

/// A MAC address from its low 48 bits.
pub(crate) fn mac(value: u64) -> String {
    let [_, _, bytes @ ..] = value.to_be_bytes();
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Writes rows under each other; columns in `right` are aligned to the right.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for ((column, cell), width) in row.iter().enumerate().zip(&widths) {
            if right.contains(&column) {
                line.push_str(&format!("{cell:>width$}  "));
            } else {
                line.push_str(&format!("{cell:<width$}  "));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_ss_does() {
        assert_eq!(Name(&Endpoint::ipv4(0x0a00_0001, 80)).to_string(), "10.0.0.1:80");
        assert_eq!(Name(&Endpoint::ipv4(0, 0)).to_string(), "0.0.0.0:*");
        assert_eq!(Name(&Endpoint::ipv6([0x2001_0db8, 0, 0, 1], 80, 0)).to_string(), "[2001:db8::1]:80");
        assert_eq!(Name(&Endpoint::ipv6([0; 4], 0, 0)).to_string(), "[::]:*");
        assert_eq!(Name(&Endpoint::default()).to_string(), "*:*");
        let six = Endpoint { address: [0x2001_0db8, 0, 0, 1], port: 443, family: 10, scope: 0 };
        assert_eq!(Name(&six).to_string(), "[2001:db8::1]:443");
    }

    #[test]
    fn fields_of_strangers_cannot_move_the_cursor() {
        assert_eq!(text(b"re\x1bdis\0junk"), "re?dis");
        assert_eq!(mac(0x0200_0000_00ff), "02:00:00:00:00:ff");
        assert_eq!(
            (rate(9999), rate(10_000_000), rate(u32::MAX)),
            ("9999kbit".into(), "10Gbit".into(), "unlimited".into())
        );
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "10".into()], vec!["bcd".into(), "9".into()]];
        assert_eq!(table(&rows, &[1]), "a    10\nbcd   9\n");
    }
}
