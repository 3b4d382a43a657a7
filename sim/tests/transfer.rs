// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data both ways over links of every kind: nothing is lost, doubled or reordered, every connection ends
//! on both sides, and no flow or chunk is left.

mod common;

use common::{pattern, seeds, Side};
use sim::{HostConfig, Impairment, Random, World};

const SECOND: u64 = 1_000_000;

struct Plan {
    name: &'static str,
    impairment: Impairment,
    delay_us: u64,
    connections: usize,
    bytes: usize,
    limit_us: u64,
}

fn run(plan: &Plan, seed: u64) {
    for over_ipv6 in [false, true] {
        run_over(plan, seed, over_ipv6);
    }
}

fn run_over(plan: &Plan, seed: u64, over_ipv6: bool) {
    println!("SIM_SEED={seed} plan {} IPv6 {over_ipv6}", plan.name);
    // Longer than a lost acknowledgement of a FIN takes to be noticed.
    let patient = |config| HostConfig { time_wait_us: SECOND as u32, over_ipv6, ..config };
    let mut world = World::with(seed, plan.delay_us, plan.impairment, patient).expect("world");
    let mut random = Random::new(seed ^ 0x5eed);
    let mut server = Side::new(&mut world, 0);
    let mut client = Side::new(&mut world, 1);
    server.listen(&world, 0);
    let address = world.hosts[0].config().ipv4;
    let mut wanted = Vec::new();
    for _ in 0..plan.connections {
        let bytes = random.below(plan.bytes as u64 + 1) as usize;
        let request = pattern(&mut random, bytes);
        wanted.push(request.clone());
        client.connect(address, request);
    }
    let bytes = plan.bytes;
    let mut reply_source = Random::new(seed ^ 0xabcd);
    let mut replies: Vec<Vec<u8>> = Vec::new();
    let done = world
        .run_until(plan.limit_us, |_| {
            server.turn(&mut random, || {
                let count = reply_source.below(bytes as u64 + 1) as usize;
                let reply = pattern(&mut reply_source, count);
                replies.push(reply.clone());
                reply
            });
            client.turn(&mut random, Vec::new);
            client.streams.values().all(|s| s.is_complete())
                && server.streams.len() == client.streams.len()
                && server.streams.values().all(|s| s.is_complete())
        })
        .expect("step");
    let state = |side: &Side| -> Vec<String> {
        side.streams
            .values()
            .filter(|s| !s.is_complete())
            .map(|s| {
                format!(
                    "sent {}/{} received {} finished {} peer {} error {}",
                    s.sent,
                    s.to_send.len(),
                    s.received.len(),
                    s.finished,
                    s.peer_finished,
                    s.error
                )
            })
            .collect()
    };
    assert!(
        done,
        "seed {seed} {}: not complete after {} s: client {:#?} server {:#?}",
        plan.name,
        plan.limit_us / SECOND,
        state(&client),
        state(&server)
    );
    // What each side received is what the other sent, pairing by content.
    let mut at_server: Vec<_> = server.streams.values().map(|s| s.received.clone()).collect();
    at_server.sort();
    wanted.sort();
    assert!(at_server == wanted, "seed {seed} {}: requests differ", plan.name);
    let mut at_client: Vec<_> = client.streams.values().map(|s| s.received.clone()).collect();
    at_client.sort();
    replies.sort();
    assert!(at_client == replies, "seed {seed} {}: replies differ", plan.name);
    assert!(client.streams.values().chain(server.streams.values()).all(|s| s.error == 0));
    // The contexts are polled on: a close lets go of the socket when everything is acknowledged.
    let quiet = world.run_until(200 * SECOND, |world| {
        server.turn(&mut random, Vec::new);
        client.turn(&mut random, Vec::new);
        world.hosts.iter_mut().all(|host| host.flows_used() == 0)
    });
    assert!(
        quiet.expect("step"),
        "seed {seed} {}: flows are left: {:?}",
        plan.name,
        world.hosts.iter_mut().map(|host| host.describe_flows()).collect::<Vec<_>>()
    );
}

fn run_all(plan: &Plan, count: u64) {
    for seed in seeds(count) {
        run(plan, seed);
    }
}

#[test]
fn clean_link() {
    run_all(
        &Plan {
            name: "clean",
            impairment: Impairment::default(),
            delay_us: 20,
            connections: 20,
            bytes: 200_000,
            limit_us: 20 * SECOND,
        },
        5,
    );
}

#[test]
fn lossy_link() {
    run_all(
        &Plan {
            name: "loss",
            impairment: Impairment { loss: 20, ..Impairment::default() },
            delay_us: 50,
            connections: 8,
            bytes: 150_000,
            limit_us: 300 * SECOND,
        },
        10,
    );
}

#[test]
fn reordering_and_duplicating_link() {
    run_all(
        &Plan {
            name: "reorder",
            impairment: Impairment { reorder: 50, duplicate: 20, ..Impairment::default() },
            delay_us: 100,
            connections: 8,
            bytes: 150_000,
            limit_us: 300 * SECOND,
        },
        10,
    );
}

#[test]
fn link_that_does_everything() {
    run_all(
        &Plan {
            name: "everything",
            impairment: Impairment {
                loss: 30,
                duplicate: 10,
                reorder: 30,
                corrupt: 20,
                mark: 50,
                ..Impairment::default()
            },
            delay_us: 200,
            connections: 5,
            bytes: 60_000,
            limit_us: 600 * SECOND,
        },
        20,
    );
}
