// SPDX-License-Identifier: MIT OR Apache-2.0
//! The port over net_ring, whose transmit queues are its receive queues: no privilege and no huge
//! page needed. One test, because EAL starts once per process.

use super::*;
use crate::dpdk::device::{Device, DeviceRequest};
use crate::dpdk::eal::{Eal, RegisteredThread};
use crate::dpdk::eal_arguments;
use crate::dpdk::host::ThisHost;
use crate::dpdk::steer::{CoreSteer, SteerFabric};
use crate::dpdk::wake::{CoreWake, RxInterrupt};
use crate::port::Steer;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::Arc;

fn request() -> DeviceRequest {
    DeviceRequest {
        name: None,
        queues: 2,
        mtu_bytes: None,
        tx_checksums: true,
        rx_checksums: true,
        vlan: None,
        interrupts: true,
    }
}

fn start_eal() -> Eal {
    let words = ["--vdev=net_ring0", "--vdev=net_ring1", "--no-huge", "-m", "128"].map(String::from);
    let arguments = eal_arguments::complete(&words, false, 1500, &ThisHost).unwrap();
    Eal::start(&arguments.words).unwrap()
}

fn filled(port: &mut DpdkPort, value: u8) -> DpdkPacket {
    let mut packet = port.allocate().unwrap();
    packet.set_len(60);
    packet.data_mut().fill(value);
    packet
}

#[test]
fn port_over_net_ring() {
    let eal = start_eal();
    jumbo_frames_come_back();
    assert!(Device::start(&DeviceRequest { name: Some("eth9".into()), ..request() })
        .is_err_and(|error| error.to_string().contains("net_ring0")));
    let device = Arc::new(Device::start(&request()).unwrap());
    assert_eq!(
        (device.name.as_str(), device.driver.as_str(), device.mtu_bytes),
        ("net_ring0", "net_ring", 1500)
    );
    let available = || {
        // SAFETY: the device's pool lives as long as the device.
        unsafe { rte_mempool_avail_count(device.pool) }
    };
    let free = available();
    {
        let _registered = RegisteredThread::new().unwrap();
        let mut port = DpdkPort::new(&device, 0).unwrap();
        frames_come_back_in_order(&mut port);
        looking_loses_nothing(&mut port);
        what_cannot_be_sent_is_dropped(&mut port);
        exhaustion_is_survived(&mut port);
        port = tags_come_and_go(port, &device);
        frames_are_steered(&mut port);
        assert!(RxInterrupt::of(&device, 0).is_none());
        drop(port);
    }
    assert_eq!(available(), free, "packet buffers leaked");
    assert_eq!(Arc::strong_count(&device), 1);
    drop(device);
    drop(eal);
}

/// The largest frames, each in one buffer, and none that is larger. The port is gone afterwards.
fn jumbo_frames_come_back() {
    let request = |mtu_bytes| DeviceRequest {
        name: Some("net_ring1".into()),
        queues: 1,
        mtu_bytes: Some(mtu_bytes),
        ..request()
    };
    assert!(
        Device::start(&request(40)).is_err_and(|error| format!("{error:#}").contains("is not between 46"))
    );
    let device = Device::start(&request(9000)).unwrap();
    assert_eq!(device.mtu_bytes, 9000);
    let _registered = RegisteredThread::new().unwrap();
    let mut port = DpdkPort::new(&device, 0).unwrap();
    let mut batch = Batch::default();
    for bytes in [9014, 9015, 60] {
        let mut packet = filled(&mut port, 7);
        assert!(packet.capacity() >= 9018);
        packet.set_len(bytes);
        packet.data_mut().fill(bytes as u8);
        assert!(batch.push(packet).is_ok());
    }
    while !batch.is_empty() {
        port.transmit(&mut batch);
    }
    assert_eq!((port.receive(&mut batch, BATCH_MAX), port.dropped()), (2, 1));
    for (packet, bytes) in batch.iter().zip([9014, 60]) {
        assert_eq!(packet.data(), vec![bytes as u8; bytes]);
    }
    batch.clear();
}

fn frames_come_back_in_order(port: &mut DpdkPort) {
    let mut batch = Batch::default();
    for round in 0..200u8 {
        for index in 0..16 {
            assert!(batch.push(filled(port, round ^ index)).is_ok());
        }
        assert_eq!(port.transmit(&mut batch), 16);
        assert!(batch.is_empty());
        assert_eq!(port.receive(&mut batch, 5), 5);
        assert_eq!(port.receive(&mut batch, BATCH_MAX), 11);
        assert_eq!(port.receive(&mut batch, BATCH_MAX), 0);
        for (index, packet) in batch.iter().enumerate() {
            assert_eq!(packet.data(), [round ^ index as u8; 60]);
            assert_eq!(packet.checksum(), RxChecksum::Unknown);
            assert!(packet.capacity() >= 1514 && packet.capacity() < 4096);
        }
        batch.clear();
    }
}

fn looking_loses_nothing(port: &mut DpdkPort) {
    assert!(!port.look());
    let mut batch = Batch::default();
    for value in 0..3 {
        assert!(batch.push(filled(port, value)).is_ok());
    }
    port.transmit(&mut batch);
    assert!(port.look() && port.look());
    assert!(batch.push(filled(port, 9)).is_ok());
    assert_eq!(port.receive(&mut batch, 3), 2);
    assert_eq!(port.receive(&mut batch, BATCH_MAX), 1);
    let values: Vec<u8> = batch.iter().map(|packet| packet.data()[0]).collect();
    assert_eq!(values, [9, 0, 1, 2]);
}

fn what_cannot_be_sent_is_dropped(port: &mut DpdkPort) {
    let mut batch = Batch::default();
    let mut long = filled(port, 1);
    long.set_len(usize::MAX);
    assert!(long.data().len() > port.frame_bytes_max);
    assert!(batch.push(long).is_ok());
    assert!(batch.push(filled(port, 2)).is_ok());
    // The frame that no port takes goes first, the next one with the next call.
    assert_eq!(port.transmit(&mut batch), 1);
    assert_eq!(port.transmit(&mut batch), 1);
    assert_eq!((port.receive(&mut batch, BATCH_MAX), port.dropped()), (1, 1));
    assert_eq!(batch.get(0).unwrap().data()[0], 2);
    batch.clear();
    // A port that takes nothing (its ring is full) gets rid of one frame after many refusals.
    let mut sent = 0;
    let mut refused = 0;
    while refused < REFUSALS_MAX {
        if batch.is_empty() {
            assert!(batch.push(filled(port, 3)).is_ok());
        }
        let before = port.dropped();
        let count = port.transmit(&mut batch);
        if count == 0 || port.dropped() > before {
            refused += 1;
        } else {
            sent += count;
        }
    }
    assert_eq!(port.dropped(), 2);
    let mut back = 0;
    batch.clear();
    while port.receive(&mut batch, BATCH_MAX) > 0 {
        back += batch.len();
        batch.clear();
    }
    assert_eq!(back, sent);
}

/// A second port on the same queue, which serves no VLAN, sees what is on the wire.
fn tags_come_and_go(plain: DpdkPort, device: &Device) -> DpdkPort {
    let mut plain = plain;
    let mut port = DpdkPort::new(device, 0).unwrap().serving(Some(7), false);
    let mut batch = Batch::default();
    let frame: Vec<u8> = (0..60).collect();
    let mut packet = filled(&mut port, 0);
    packet.data_mut().copy_from_slice(&frame);
    // SAFETY: the packet is ours.
    unsafe {
        mbuf::set_ol_flags(packet.mbuf(), TAS_TX_IPV4 | TAS_TX_TCP_CKSUM);
        mbuf::set_tx_offload(packet.mbuf(), mbuf::tx_offload_bits(14, 20, 20, 0));
    }
    assert!(batch.push(packet).is_ok());
    assert_eq!(port.transmit(&mut batch), 1);
    assert_eq!(plain.receive(&mut batch, BATCH_MAX), 1);
    let tagged = [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat();
    assert_eq!(batch.get(0).unwrap().data(), tagged);
    // SAFETY: as above.
    let lengths = unsafe { mbuf::tx_offload(batch.get(0).unwrap().mbuf()) };
    assert_eq!(lengths, mbuf::tx_offload_bits(18, 20, 20, 0), "the headers begin later");
    // It is offered again as it is, and comes back without the tag.
    assert_eq!(port.transmit(&mut batch), 1);
    assert_eq!(port.receive(&mut batch, BATCH_MAX), 1);
    assert_eq!(batch.get(0).unwrap().data(), frame);
    batch.clear();
    // Ours, a priority tag, and what is dropped: another VLAN, no tag, too short for one.
    let sent = [0xe007u16, 0x6000, 8, 0xffff].map(|word| {
        let [high, low] = word.to_be_bytes();
        [&frame[..12], &[0x81, 0, high, low], &frame[12..]].concat()
    });
    let short = [&frame[..12], &[0x81, 0, 0]].concat();
    for bytes in sent.iter().chain([&frame, &short]) {
        let mut packet = filled(&mut plain, 0);
        packet.set_len(bytes.len());
        packet.data_mut().copy_from_slice(bytes);
        assert!(batch.push(packet).is_ok());
    }
    assert_eq!(plain.transmit(&mut batch), 6);
    assert_eq!(port.receive(&mut batch, BATCH_MAX), 2);
    assert!(batch.iter().all(|packet| packet.data() == frame));
    assert_eq!((port.take_foreign(), port.take_foreign(), plain.take_foreign()), (4, 0, 0));
    batch.clear();
    // By the port: the frame stays as it is, and says what is to be done.
    let mut port = port.serving(Some(7), true);
    let packet = filled(&mut port, 3);
    // SAFETY: as above.
    unsafe { mbuf::set_ol_flags(packet.mbuf(), TAS_TX_IPV4) };
    assert!(batch.push(packet).is_ok());
    assert_eq!(port.transmit(&mut batch), 1);
    assert_eq!(plain.receive(&mut batch, BATCH_MAX), 1);
    let packet = batch.get(0).unwrap();
    // SAFETY: as above.
    let (flags, tag) = unsafe { (mbuf::ol_flags(packet.mbuf()), mbuf::vlan_tci(packet.mbuf())) };
    assert_eq!((packet.data(), flags, tag), (&[3; 60][..], TAS_TX_IPV4 | TAS_TX_VLAN, 7));
    // And taken off by the port.
    for (id, ours) in [(7, 1), (0xe007, 1), (0, 1), (8, 0)] {
        // SAFETY: as above.
        unsafe {
            mbuf::set_ol_flags(batch.get(0).unwrap().mbuf(), TAS_RX_VLAN_STRIPPED);
            mbuf::set_vlan_tci(batch.get(0).unwrap().mbuf(), id);
        }
        assert_eq!(plain.transmit(&mut batch), 1);
        assert_eq!(port.receive(&mut batch, BATCH_MAX), ours, "{id}");
    }
    assert_eq!(port.take_foreign(), 1);
    drop(port);
    DpdkPort::new(device, 0).unwrap()
}

fn exhaustion_is_survived(port: &mut DpdkPort) {
    let mut held = Vec::new();
    while let Some(packet) = port.allocate() {
        held.push(packet);
    }
    assert!(held.len() > 2 * 2048);
    held.truncate(1);
    assert!(port.allocate().is_some());
}

fn frames_are_steered(port: &mut DpdkPort) {
    static WAITING: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
    let wakes = Arc::new(WAITING.iter().map(|flag| CoreWake::new(flag).unwrap()).collect::<Vec<_>>());
    let fabric = SteerFabric::new(2);
    let mut first = CoreSteer::new(Arc::clone(&fabric), 0, Arc::clone(&wakes));
    let mut second = CoreSteer::new(fabric, 1, Arc::clone(&wakes));
    WAITING[1].store(1, Relaxed);
    assert!(first.offer(1, filled(port, 1)).is_ok());
    assert_eq!(WAITING[1].load(Relaxed), 0, "a sleeping core is woken");
    let mut count = 1u32;
    while first.offer(1, filled(port, count as u8)).is_ok() {
        count += 1;
    }
    assert_eq!(count, 256);
    assert!(first.offer(2, filled(port, 0)).is_err());
    assert!(second.is_ready() && !first.is_ready());
    let mut batch = Batch::default();
    assert_eq!(second.take(&mut batch, 10), 10);
    assert_eq!(batch.get(9).unwrap().data()[0], 9);
    // The other 246 frames go back to their pool with the fabric.
}
