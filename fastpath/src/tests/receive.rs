// SPDX-License-Identifier: MIT OR Apache-2.0
//! Acceptability, trimming, acknowledgement of data (RFC 9293 §3.10.7.4).

use crate::testing::*;
use abi::core_status::Counter;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn data_in_order_reaches_the_application_and_is_acknowledged_after_the_delay() {
    let mut world = World::connected();
    let sent = world.receive(&world.from_peer(1, b"hello"));
    assert!(sent.is_empty(), "{sent:?}");
    let events = world.events();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].flow, events[0].generation, events[0].rx), (1, 5, RCV_START + 5));
    assert_eq!(world.received(1, RCV_START, RCV_START + 5), b"hello");
    assert!(world.after(99).is_empty());
    let sent = world.after(1);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].flags, sent[0].ack, sent[0].payload.len()), (ACK, RCV_START as u32 + 5, 0));
    assert_eq!((sent[0].destination_mac, sent[0].source_mac), (REMOTE_MAC, LOCAL_MAC));
    assert_eq!((sent[0].source_port, sent[0].destination_port), (6379, 40_001));
    assert!(world.after(1000).is_empty(), "acknowledged once");
    assert_eq!(world.core.port_mut().live(), 0, "every packet went back");
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START + 5);
    assert_eq!(world.counter(Counter::RxPayloadBytes), 5);
}
