// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::{
    script::{Argument, EcnSpec},
    wire::{flag, Ecn, TcpOption},
};

fn one(text: &str) -> Event {
    let script = parse(text).expect(text);
    assert_eq!(script.events.len(), 1, "{text}");
    script.events.into_iter().next().expect("one")
}

fn time_of(text: &str) -> Time {
    one(&format!("{text} close(3) = 0")).time
}

#[test]
fn times() {
    let fixed = |relative, from_us, to_us| Time { relative, any: false, from_us, to_us, returns_us: None };
    assert_eq!(time_of("0"), fixed(false, 0, 0));
    assert_eq!(time_of("+.1"), fixed(true, 100_000, 100_000));
    assert_eq!(time_of("0.1~0.25"), fixed(false, 100_000, 250_000));
    assert_eq!(time_of("+1~+2.000001"), fixed(true, 1_000_000, 2_000_001));
    assert!(time_of("*").any);
    assert_eq!(time_of("+0...0.2").returns_us, Some(200_000));
    assert_eq!(time_of(".25....5").returns_us, Some(500_000));
    assert!(parse("+1~+.5 close(3) = 0").is_err());
}

#[test]
fn a_segment_with_everything() {
    let event = one("+0 < [ce, port 4001] SEWUP. 1:101(100) ack 5 win 30 urg 7 <mss 1000,sackOK,TS val 1 ecr 2,nop,wscale 7,sack 3:4,FO abcd,hex fd02>");
    let Action::Send(packet) = event.action else { panic!("{event:?}") };
    let segment = packet.segment;
    assert_eq!(segment.flags, 0xff & !(flag::FIN | flag::RST));
    assert_eq!((segment.seq, segment.bytes, segment.ack, segment.window), (1, 100, 5, 30));
    assert_eq!((segment.urgent, segment.ecn, packet.port), (7, Ecn::Ce, Some(4001)));
    assert_eq!(
        segment.options,
        [
            TcpOption::Mss(1000),
            TcpOption::SackPermitted,
            TcpOption::Timestamps(1, 2),
            TcpOption::Nop,
            TcpOption::WindowScale(7),
            TcpOption::Sack(vec![(3, 4)]),
            TcpOption::FastOpen(vec![0xab, 0xcd]),
            TcpOption::Raw(vec![0xfd, 2]),
        ]
    );
}

#[test]
fn an_outbound_segment_says_what_matters() {
    let event = one("* > [ect01] . 1:1(0) ack 1 <...>");
    let Action::Expect(packet) = event.action else { panic!("{event:?}") };
    assert!(packet.any_options && !packet.has_window);
    assert_eq!(packet.ecn, Some(EcnSpec::Capable));
}

#[test]
fn the_next_inbound_segment_is_not_an_option_list() {
    let script = parse("+0 > . 1:1(0) ack 1\n+0 < . 1:1(0) ack 1 win 5\n0 < S 0:0(0) win 1").expect("parse");
    assert_eq!(script.events.iter().map(|event| event.line).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn mistakes_are_named_with_their_line() {
    for (text, part) in [
        ("+0 < S 0:1(0) win 1", "not 0 bytes"),
        ("+0 < . 1:1(0) win 1", "needs ack"),
        ("+0 < X 1:1(0) win 1", "unknown flags"),
        ("+0 < S 0:0(0)", "window"),
        ("+0 > S 0:0(0) <ts 1>", "unknown option"),
        ("+0 frobnicate(3) = 0x", "hexadecimal"),
        ("+0 read(3, ..., 1) = -1 EWHAT", "unknown error"),
    ] {
        let error = parse(&format!("// a comment\n/* another */\n{text}")).expect_err(text);
        assert!(error.line == 3 && error.text.contains(part), "{text}: {error}");
    }
}

#[test]
fn calls() {
    let event = one(
        "+0 setsockopt(3, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = -1 EAGAIN (Resource … unavailable)",
    );
    let Action::Call(call) = event.action else { panic!("{event:?}") };
    assert_eq!((call.name.as_str(), call.result, call.errno), ("setsockopt", Some(-1), Some(libc::EAGAIN)));
    assert_eq!(call.arguments[1], Argument::Number(libc::SOL_SOCKET.into()));
    let fields = vec![("onoff".into(), Argument::Number(1)), ("linger".into(), Argument::Number(0))];
    assert_eq!(call.arguments[3], Argument::Fields(fields));
    let event = one("0 poll([{fd=4, events=POLLIN|POLLOUT, revents=POLLOUT}], 1, 0) = 1");
    assert!(matches!(event.action, Action::Call(_)));
    let event = one("0 write(4, \"ab, c\", 5) = 5");
    let Action::Call(call) = event.action else { panic!("{event:?}") };
    assert_eq!(call.arguments[1], Argument::Text(b"ab, c".to_vec()));
}

#[test]
fn options_commands_and_code() {
    let script =
        parse("--tolerance_usecs=100\n`sysctl -q a=1`\n0 `true`\n+0 %{ assert 1 }%\n").expect("parse");
    assert_eq!(script.options, [("tolerance_usecs".to_owned(), "100".to_owned())]);
    assert_eq!(script.events[0].action, Action::Command("sysctl -q a=1".to_owned()));
    assert_eq!(script.events[2].action, Action::Code(" assert 1 ".to_owned()));
}
