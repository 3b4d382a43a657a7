// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scripts that are wrong on purpose: each must fail, at its line, with what it says.

use std::{fs, path::PathBuf, process::Command};

const OPEN: &str = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n\
    +0 bind(3, ..., ...) = 0\n\
    +0 listen(3, 1) = 0\n\
    +0 < S 0:0(0) win 65535 <mss 1000>\n\
    +0 > S. 0:0(0) ack 1 <mss 1460>\n\
    +.01 < . 1:1(0) ack 1 win 65535\n\
    +0 accept(3, ..., ...) = 4\n";

fn run(name: &str, script: &str) -> (bool, String) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.pkt"));
    fs::write(&path, script).expect("write");
    let output = Command::new(env!("CARGO_BIN_EXE_tas-packetdrill")).arg(&path).output().expect("run");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Lines behind the handshake (line 8 is the first), the line that is wrong, and what is said.
const WRONG: &[(&str, &str, usize, &str)] = &[
    ("number", "+0 write(4, ..., 10) = 10\n+0 > P. 2:12(10) ack 1\n", 9, "the sequence number differs"),
    ("length", "+0 write(4, ..., 10) = 10\n+0 > P. 1:12(11) ack 1\n", 9, "the length differs"),
    ("ack", "+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 2\n", 9, "the acknowledgement number differs"),
    ("flags", "+0 write(4, ..., 10) = 10\n+0 > . 1:11(10) ack 1\n", 9, "the flags differ"),
    ("window", "+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1 win 5\n", 9, "the window differs"),
    ("options", "+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1 <sackOK>\n", 9, "the options differ"),
    ("mark", "+0 write(4, ..., 10) = 10\n+0 > [ect0] P. 1:11(10) ack 1\n", 9, "the congestion mark"),
    (
        "late",
        "+0 write(4, ..., 10) = 10\n+.1 > P. 1:11(10) ack 1\n",
        9,
        "sent at 0.010000, expected at 0.110000",
    ),
    (
        "range",
        "+0 write(4, ..., 10) = 10\n+.1~+.2 > P. 1:11(10) ack 1\n",
        9,
        "expected at 0.110000 to 0.210000",
    ),
    ("nothing", "+0 > . 1:1(0) ack 1\n", 8, "nothing was sent"),
    ("unexpected", "+0 write(4, ..., 10) = 10\n+.01 close(3) = 0\n", 9, "not expected: P. 1:11(10)"),
    ("result", "+0 write(4, ..., 10) = 11\n", 8, "write returned 10, expected 11"),
    ("errno", "+0 shutdown(3, SHUT_WR) = -1 EPIPE\n", 8, "shutdown returned 0, expected -1 EPIPE"),
    ("blocks", "+0 read(4, ..., 10) = 10\n", 8, "read would block"),
    ("does-not-block", "+0...0.1 write(4, ..., 10) = 10\n", 8, "write did not block"),
    (
        "too-early",
        "+0...0.5 read(4, ..., 10) = 10\n+.1 < P. 1:11(10) ack 1 win 9\n",
        8,
        "read returned too early",
    ),
    ("never", "+0...0.5 read(4, ..., 10) = 10\n", 8, "read does not return"),
    (
        "text",
        "+0 write(4, \"abc\", 3) = 3\n+0 > P. 1:4(3) ack 1\n+0 %{ assert tcpi_unacked == 2 }%\n",
        10,
        "tcpi_unacked is 1",
    ),
    ("descriptor", "+0 write(9, ..., 10) = 10\n", 8, "descriptor 9 is not open"),
    ("sysctl", "`sysctl -q net.ipv4.tcp_rfc1337=1`\n", 8, "has no counterpart"),
    ("command", "`ip link show`\n", 8, "commands are not executed"),
    ("mtu", "+0 < . 1:1502(1501) ack 1 win 9\n", 8, "larger than the MTU"),
];

#[test]
fn what_is_right_passes() {
    let (passed, text) = run("right", &format!("{OPEN}+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1\n"));
    assert!(passed, "{text}");
}

#[test]
fn what_is_wrong_fails_at_its_line() {
    for (name, rest, line, part) in WRONG {
        let (passed, text) = run(name, &format!("{OPEN}{rest}"));
        let told = text.contains(part) && text.contains(&format!(".pkt:{line}: error: "));
        assert!(!passed && told, "{name}: {text}");
    }
}

#[test]
fn timestamps_are_compared() {
    let open = OPEN.replace("<mss 1000>", "<mss 1000,TS val 5 ecr 0>");
    let open = open.replace("<mss 1460>", "<mss 1460,TS val 100 ecr 5>");
    let open = open.replace("ack 1 win 65535", "ack 1 win 65535 <TS val 6 ecr 100>");
    let wrong = "+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1 <TS val 100 ecr 7>\n";
    let (passed, text) = run("echo", &format!("{open}{wrong}"));
    assert!(!passed && text.contains("the options differ"), "{text}");
    let wrong = "+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1 <TS val 99 ecr 6>\n";
    let (passed, text) = run("stamp", &format!("{open}{wrong}"));
    assert!(!passed && text.contains("units after the one before"), "{text}");
}
