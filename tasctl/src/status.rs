// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tasctl status`.

use crate::{client::Client, format};
use abi::message::{ApplicationEntry, Status};
use anyhow::Result;
use serde_json::json;
use std::net::Ipv4Addr;

/// Prints the instance and its applications.
///
/// # Errors
/// The slow path does not answer.
pub(crate) fn print(client: &Client, as_json: bool) -> Result<()> {
    let status = client.status()?;
    let applications = client.applications()?;
    if as_json {
        println!("{:#}", to_json(client.backend(), &status, &applications));
    } else {
        print!("{}", to_text(client.backend(), &status, &applications));
    }
    Ok(())
}

fn to_text(backend: &str, status: &Status, applications: &[ApplicationEntry]) -> String {
    let fast = match status.fastpath {
        0 if status.epoch == 0 => {
            "never attached; type `sudo tas-fastpath --ip ADDRESS/PREFIX -- ...`".into()
        }
        0 => "gone; connections are frozen until tas-fastpath is started again".into(),
        _ => format!("pid {}, {} cores, attachment {}", status.fastpath_pid, status.cores, status.epoch),
    };
    let mut out =
        format!("instance     {} ({backend})\nfast path    {fast}\n", format::text(&status.instance));
    if status.epoch != 0 {
        out += &format!(
            "address      {}/{} mtu {} mac {}\n\
             flows        {} of {}, {} half-open, {} in TIME-WAIT, {} listeners\n",
            Ipv4Addr::from(status.ipv4),
            status.prefix,
            status.mtu_bytes,
            format::mac(status.mac),
            status.flows_used,
            status.flows,
            status.half_open,
            status.time_wait,
            status.listeners,
        );
        if status.ipv6 != [0; 4] {
            let (global, link_local) = (format::ipv6(&status.ipv6), format::ipv6(&status.ipv6_link_local));
            out += &format!("ipv6         {global}/{} {link_local}\n", status.ipv6_prefix);
        }
    }
    out += &format!("applications {}, {} contexts\n", status.applications, status.contexts);
    if applications.is_empty() {
        return out;
    }
    let header =
        ["Id", "Pid", "Uid", "Command", "Contexts", "Sockets", "Flows", "Pool", "Faults", "Pool-Empty"];
    let mut rows = vec![header.map(String::from).to_vec()];
    rows.extend(applications.iter().map(|app| {
        vec![
            app.id.to_string(),
            app.pid.to_string(),
            app.uid.to_string(),
            format::text(&app.command),
            app.contexts.to_string(),
            app.sockets.to_string(),
            app.flows.to_string(),
            format!("{} MiB", app.pool_segments * 2),
            app.faults.to_string(),
            app.pool_empty.to_string(),
        ]
    }));
    out + "\n" + &format::table(&rows, &[0, 1, 2, 4, 5, 6, 7, 8, 9])
}

fn to_json(backend: &str, status: &Status, applications: &[ApplicationEntry]) -> serde_json::Value {
    json!({
        "instance": format::text(&status.instance),
        "backend": backend,
        "fastpath": status.fastpath != 0,
        "fastpath_pid": status.fastpath_pid,
        "attachments": status.epoch,
        "cores": status.cores,
        "address": Ipv4Addr::from(status.ipv4).to_string(),
        "prefix": status.prefix,
        "ipv6": (status.ipv6 != [0; 4]).then(|| format::ipv6(&status.ipv6).to_string()),
        "ipv6_prefix": (status.ipv6 != [0; 4]).then_some(status.ipv6_prefix),
        "ipv6_link_local": (status.ipv6 != [0; 4]).then(|| format::ipv6(&status.ipv6_link_local).to_string()),
        "mtu_bytes": status.mtu_bytes,
        "mac": format::mac(status.mac),
        "flows": status.flows,
        "flows_used": status.flows_used,
        "half_open": status.half_open,
        "time_wait": status.time_wait,
        "listeners": status.listeners,
        "contexts": status.contexts,
        "applications": applications.iter().map(|app| json!({
            "id": app.id, "pid": app.pid, "uid": app.uid, "command": format::text(&app.command),
            "contexts": app.contexts, "sockets": app.sockets, "flows": app.flows,
            "pool_segments": app.pool_segments, "map_segments": app.map_segments,
            "faults": app.faults, "pool_empty": app.pool_empty,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_fast_path_is_explained() {
        let never = to_text("daemon", &Status::default(), &[]);
        assert!(never.contains("sudo tas-fastpath"), "{never}");
        let gone = Status { epoch: 1, fastpath_pid: 7, ipv4: 0x0a00_0001, ..Status::default() };
        assert!(to_text("daemon", &gone, &[]).contains("gone; connections are frozen"));
        let there = Status { fastpath: 1, cores: 2, ..gone };
        let app = ApplicationEntry {
            id: 1,
            pid: 42,
            command: *b"redis-server\0\0\0\0",
            ..ApplicationEntry::default()
        };
        let text = to_text("kernel", &there, &[app]);
        assert!(text.contains("pid 7, 2 cores") && text.contains("redis-server"), "{text}");
        assert_eq!(to_json("kernel", &there, &[app])["applications"][0]["pid"], 42);
    }
}
