// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two processes with a link between them: net_vhost in one, net_virtio_user in the other. Each
//! process is this test program again, because EAL starts once per process.

use super::device::{Device, DeviceRequest};
use super::eal::{Eal, RegisteredThread};
use super::eal_arguments;
use super::host::ThisHost;
use super::port::{DpdkPacket, DpdkPort};
use super::wake::{CoreWake, RxInterrupt, Sleeper};
use crate::port::{Batch, Packet, Port, RxChecksum, BATCH_MAX};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

/// The role a child plays, then its EAL arguments, separated by spaces.
const ROLE: &str = "TAS_FASTPATH_TEST_ROLE";
/// Frames sent one at a time, each after the echo of the one before: the receiver sleeps between.
const SINGLE: u32 = 200;
/// Frames sent in bursts.
const BURSTS: u32 = 20_000;
/// Nothing takes this long on a machine that makes progress at all.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn vhost_and_virtio_user_exchange_frames() {
    let socket = std::env::temp_dir().join(format!("tas-vhost-{}", std::process::id()));
    let socket = socket.to_str().unwrap();
    let _ = std::fs::remove_file(socket);
    let mut echo = child(&format!("echo --vdev=net_vhost0,iface={socket} --no-huge -m 64"));
    wait_for(&mut echo, "started");
    let mut drive =
        child(&format!("drive --vdev=net_virtio_user0,path={socket},packed_vq=1 --no-huge -m 64"));
    let report = finish(&mut drive);
    assert!(report.contains("echoed 20200 frames"), "driver: {report}");
    // End of input ends the echo.
    drop(echo.stdin.take());
    let report = finish(&mut echo);
    assert!(report.contains("checksums: 20200 good, 0 bad, 0 unknown"), "echo: {report}");
    assert!(!report.contains("woken by the port 0 times"), "echo: {report}");
    let _ = std::fs::remove_file(socket);
}

fn child(role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "dpdk::live_tests::role_of_a_child", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for(child: &mut Child, text: &str) {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "child ended before it said {text}");
    }
    child.stdout = Some(lines.into_inner());
}

fn finish(child: &mut Child) -> String {
    let mut report = String::new();
    child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
    assert!(child.wait().unwrap().success(), "{report}");
    report
}

/// Plays a child's part; without the variable there is nothing to play.
#[test]
fn role_of_a_child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let mut words = role.split(' ').map(String::from);
    let part = words.next().unwrap();
    let arguments = eal_arguments::complete(&words.collect::<Vec<_>>(), false, 1500, &ThisHost).unwrap();
    let _eal = Eal::start(&arguments.words).unwrap();
    let device = Device::start(&DeviceRequest {
        name: None,
        queues: 1,
        mtu_bytes: None,
        tx_checksums: true,
        rx_checksums: true,
        vlan: None,
        interrupts: true,
    })
    .unwrap();
    let _registered = RegisteredThread::new().unwrap();
    let port = DpdkPort::new(&device, 0).unwrap();
    static WAITING: AtomicU32 = AtomicU32::new(0);
    let wake = CoreWake::new(&WAITING).unwrap();
    let interrupt = RxInterrupt::of(&device, 0);
    println!("started {} interrupt={}", device.describe(), interrupt.is_some());
    let sleeper = wake.sleeper(interrupt);
    match part.as_str() {
        "echo" => std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                STOP.store(1, std::sync::atomic::Ordering::SeqCst);
                wake.signal();
            });
            echo(port, sleeper, device.tx_tcp_checksum);
        }),
        "drive" => drive(port, device.tx_tcp_checksum),
        other => panic!("{other}"),
    }
}

static STOP: AtomicU32 = AtomicU32::new(0);

fn echo(mut port: DpdkPort, mut sleeper: Sleeper, offload: bool) {
    let mut batch = Batch::default();
    let mut woken_by_port = 0;
    let (mut good, mut bad, mut unknown) = (0, 0, 0);
    while STOP.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        if port.receive(&mut batch, BATCH_MAX) == 0 {
            sleeper.arm();
            if !port.look() {
                let _ = sleeper.sleep(None);
                woken_by_port += u32::from(port.look());
            }
            sleeper.disarm();
            continue;
        }
        for index in 0..batch.len() {
            let packet = batch.get_mut(index).unwrap();
            match packet.checksum() {
                RxChecksum::Good => good += 1,
                RxChecksum::Bad => bad += 1,
                RxChecksum::Unknown => unknown += 1,
            }
            packet.clear_tx_offload();
            packet.data_mut()[..12].rotate_left(6);
            if offload {
                request_checksums(packet);
            }
        }
        while !batch.is_empty() {
            port.transmit(&mut batch);
        }
    }
    println!("checksums: {good} good, {bad} bad, {unknown} unknown; woken by the port {woken_by_port} times");
}

fn drive(mut port: DpdkPort, offload: bool) {
    assert!(offload, "virtio_user computes TCP checksums");
    let begin = Instant::now();
    let mut echoed = 0;
    let mut sent = 0;
    while echoed < SINGLE + BURSTS {
        assert!(begin.elapsed() < PATIENCE, "{echoed} echoed of {sent}");
        let window = if echoed < SINGLE { 1 } else { 64 };
        let mut batch = Batch::default();
        while sent < SINGLE + BURSTS && sent - echoed < window && batch.room() > 0 {
            assert!(batch.push(frame(&mut port, sent)).is_ok());
            sent += 1;
        }
        while !batch.is_empty() && begin.elapsed() < PATIENCE {
            port.transmit(&mut batch);
        }
        port.receive(&mut batch, BATCH_MAX);
        for packet in batch.iter() {
            assert_eq!(packet.data()[54..58], echoed.to_be_bytes());
            assert_eq!(packet.checksum(), RxChecksum::Good);
            echoed += 1;
        }
    }
    println!("echoed {echoed} frames");
}

/// A TCP segment of 64 payload bytes, its checksums left to the port.
fn frame(port: &mut DpdkPort, number: u32) -> DpdkPacket {
    let mut packet = loop {
        if let Some(packet) = port.allocate() {
            break packet;
        }
    };
    packet.set_len(54 + 64);
    let bytes = packet.data_mut();
    bytes.fill(0);
    bytes[0] = 2;
    bytes[6] = 2;
    bytes[12] = 0x08;
    bytes[14..24].copy_from_slice(&[0x45, 0, 0, 104, 0, 0, 0x40, 0, 64, 6]);
    bytes[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    bytes[46] = 5 << 4;
    bytes[54..58].copy_from_slice(&number.to_be_bytes());
    request_checksums(&mut packet);
    packet
}

/// As the core does: the pseudo-header's sum in TCP's place, the rest is the port's.
fn request_checksums(packet: &mut DpdkPacket) {
    let bytes = packet.data_mut();
    bytes[24..26].fill(0);
    let words = bytes[26..34].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum::<u32>() + 6 + 84;
    let folded = (sum & 0xffff) + (sum >> 16);
    bytes[50..52].copy_from_slice(&(folded as u16).to_be_bytes());
    packet.request_tx_checksum(14, 20, 20);
}
