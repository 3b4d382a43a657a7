// SPDX-License-Identifier: MIT OR Apache-2.0
//! An application that writes, finishes and ends at once: its peer gets every byte and the end, not a
//! reset, however the end and the last entries of its ring race.

mod common;

use common::{pattern, seeds, Side};
use sim::{Impairment, Random, World};

const SECOND: u64 = 1_000_000;

#[test]
fn an_answer_survives_the_end_of_its_process() {
    for seed in seeds(40) {
        println!("SIM_SEED={seed}");
        let mut world = World::new(seed, 30, Impairment::default()).expect("world");
        let mut random = Random::new(seed);
        let mut server = Side::new(&mut world, 0);
        let mut client = Side::new(&mut world, 1);
        server.hold_accepted = true;
        server.listen(&world, 0);
        let address = world.hosts[0].config().ipv4;
        let question = pattern(&mut random, 10);
        let token = client.connect(address, question.clone());
        let count = 1 + random.below(20_000) as usize;
        let answer = pattern(&mut random, count);
        // The server has read the question.
        let ready = world.run_until(SECOND, |_| {
            client.turn(&mut random, Vec::new);
            server.turn(&mut random, Vec::new);
            server.streams.values().any(|stream| stream.received == question)
        });
        assert!(ready.expect("step"), "seed {seed}: the question did not arrive");
        // It answers and ends: nothing runs between the write, the close and the death.
        let (_, stream) = server.streams.pop_first().expect("one connection");
        let connection = stream.connection.expect("accepted");
        assert_eq!(connection.write(&answer), answer.len());
        connection.finish();
        world.hosts[0].kill_application(0);
        let done = world.run_until(30 * SECOND, |_| {
            client.turn(&mut random, Vec::new);
            client.streams[&token].peer_finished
        });
        let received = &client.streams[&token];
        assert_eq!(received.error, 0, "seed {seed}: reset after {} bytes", received.received.len());
        assert!(done.expect("step"), "seed {seed}: no end after {} bytes", received.received.len());
        assert!(
            received.received == answer,
            "seed {seed}: {} of {} bytes",
            received.received.len(),
            answer.len()
        );
    }
}
