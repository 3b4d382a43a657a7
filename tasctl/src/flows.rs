// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tasctl flows`, in the manner of `ss -t`.

use crate::{client::Client, format};
use abi::message::FlowEntry;
use anyhow::Result;
use serde_json::{json, Value};

/// What to show.
pub(crate) struct View {
    /// Listeners rather than connections.
    pub(crate) listen: bool,
    /// A line of details under each connection.
    pub(crate) info: bool,
    /// The header line.
    pub(crate) header: bool,
    /// JSON.
    pub(crate) json: bool,
}

/// Options in [`FlowEntry::options`], by bit, as ss writes them.
const OPTIONS: [&str; 4] = ["ts", "wscale", "sack", "ecn"];

/// Prints the list.
///
/// # Errors
/// The slow path does not answer.
pub(crate) fn print(client: &Client, view: &View) -> Result<()> {
    let entries = if view.listen { client.listeners()? } else { client.flows()? };
    if view.json {
        println!("{:#}", Value::from(entries.iter().map(to_json).collect::<Vec<_>>()));
    } else {
        print!("{}", to_text(&entries, view));
    }
    Ok(())
}

fn to_text(entries: &[FlowEntry], view: &View) -> String {
    let mut rows = Vec::new();
    if view.header {
        let fixed = ["State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port"];
        let counters = ["Rx-Bytes", "Tx-Bytes", "Retrans", "RTT-us", "Process"];
        let counters = if view.listen { &counters[4..] } else { &counters[..] };
        rows.push(fixed.iter().chain(counters).map(ToString::to_string).collect());
    }
    rows.extend(entries.iter().map(|entry| row(entry, view.listen)));
    let right: &[usize] = if view.listen { &[1, 2] } else { &[1, 2, 5, 6, 7, 8] };
    let text = format::table(&rows, right);
    if !view.info || view.listen {
        return text;
    }
    let mut lines = text.lines();
    let mut out = String::new();
    if view.header {
        out += &format!("{}\n", lines.next().unwrap_or_default());
    }
    for (line, entry) in lines.zip(entries) {
        out += &format!("{line}\n\t {}\n", details(entry));
    }
    out
}

fn row(entry: &FlowEntry, listen: bool) -> Vec<String> {
    let mut row = vec![
        format::state(entry.tcp_state).to_string(),
        entry.receive_queue.to_string(),
        entry.send_queue.to_string(),
        format::Name(&entry.local).to_string(),
        format::Name(&entry.remote).to_string(),
    ];
    if !listen {
        let retransmits = u64::from(entry.fast_retransmits) + u64::from(entry.timeouts);
        row.extend([
            entry.rx_bytes.to_string(),
            entry.tx_bytes.to_string(),
            retransmits.to_string(),
            entry.srtt_us.to_string(),
        ]);
    }
    row.push(format::process(&entry.command, entry.pid));
    row
}

fn options(entry: &FlowEntry) -> Vec<&'static str> {
    OPTIONS
        .iter()
        .enumerate()
        .filter(|(bit, _)| entry.options >> bit & 1 != 0)
        .map(|(_, name)| *name)
        .collect()
}

fn details(entry: &FlowEntry) -> String {
    format!(
        "{} {} flow:{} core:{} uid:{} rate:{} cwnd:{} wnd:{} mss:{} rtt:{}us fast:{} rto:{} ce:{}",
        options(entry).join(" "),
        format::congestion_name(entry.congestion),
        entry.id,
        entry.core,
        entry.uid,
        format::rate(entry.rate_kbps),
        entry.cwnd_bytes,
        entry.snd_wnd_bytes,
        entry.mss_bytes,
        entry.srtt_us,
        entry.fast_retransmits,
        entry.timeouts,
        entry.ecn_bytes,
    )
}

fn to_json(entry: &FlowEntry) -> Value {
    json!({
        "id": entry.id,
        "state": format::state(entry.tcp_state),
        "local": format::Name(&entry.local).to_string(),
        "peer": format::Name(&entry.remote).to_string(),
        "recv_q": entry.receive_queue,
        "send_q": entry.send_queue,
        "pid": entry.pid,
        "uid": entry.uid,
        "command": format::text(&entry.command),
        "core": entry.core,
        "rx_bytes": entry.rx_bytes,
        "tx_bytes": entry.tx_bytes,
        "srtt_us": entry.srtt_us,
        "rate_kbps": entry.rate_kbps,
        "cwnd_bytes": entry.cwnd_bytes,
        "snd_wnd_bytes": entry.snd_wnd_bytes,
        "mss_bytes": entry.mss_bytes,
        "fast_retransmits": entry.fast_retransmits,
        "timeouts": entry.timeouts,
        "ecn_bytes": entry.ecn_bytes,
        "congestion": format::congestion_name(entry.congestion),
        "options": options(entry),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::message::{tcp_state, Endpoint};

    fn entry() -> FlowEntry {
        FlowEntry {
            local: Endpoint::ipv4(0x0a4d_0001, 6379),
            remote: Endpoint::ipv4(0x0a4d_0002, 40000),
            tcp_state: tcp_state::ESTABLISHED,
            pid: 12,
            command: *b"redis-server\0\0\0\0",
            receive_queue: 3,
            rx_bytes: 1000,
            timeouts: 2,
            fast_retransmits: 1,
            options: 0b101,
            ..FlowEntry::default()
        }
    }

    #[test]
    fn lines_look_like_those_of_ss() {
        let text = to_text(&[entry()], &View { listen: false, info: true, header: true, json: false });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("State  Recv-Q  Send-Q  Local Address:Port"), "{text}");
        assert!(lines[1].starts_with("ESTAB       3       0  10.77.0.1:6379"), "{text}");
        assert!(lines[1].ends_with("users:((\"redis-server\",pid=12))"), "{text}");
        assert!(lines[1].split_whitespace().any(|word| word == "3"), "{text}");
        assert!(lines[2].starts_with("\t ts sack none flow:0"), "{text}");
    }

    #[test]
    fn listeners_have_no_counters() {
        let listener = FlowEntry { tcp_state: tcp_state::LISTEN, ..entry() };
        let text = to_text(&[listener], &View { listen: true, info: true, header: false, json: false });
        assert_eq!(
            text,
            "LISTEN  3  0  10.77.0.1:6379  10.77.0.2:40000  users:((\"redis-server\",pid=12))\n"
        );
        assert_eq!(to_json(&listener)["state"], "LISTEN");
    }
}
