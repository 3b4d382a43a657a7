// SPDX-License-Identifier: MIT OR Apache-2.0
//! In the same build that is measured: what must be refused is refused, and RPCs go on.

use crate::Bench;
use abi::{
    core_status::Counter,
    region::{Region, RegionKind},
};
use anyhow::{ensure, Result};
use sim::Random;
use std::sync::atomic::Ordering::Relaxed;
use tas::lowlevel::Context;

/// Shows each refusal by its counter.
pub(crate) fn show(bench: &mut Bench) -> Result<()> {
    bad_checksums(bench)?;
    stale_timestamps(bench)?;
    garbage_entries(bench)?;
    bench.round()?;
    println!("{{\"refusals\":\"bad checksums, stale timestamps and garbage ring entries were refused; RPCs went on\"}}");
    Ok(())
}

fn counter(bench: &Bench, counter: Counter) -> u64 {
    bench.host.status().counters[counter as usize].load(Relaxed)
}

/// Every byte position of a request flipped once: none is accepted.
fn bad_checksums(bench: &mut Bench) -> Result<()> {
    let before = counter(bench, Counter::BadChecksum);
    let accepted = counter(bench, Counter::RxPayloadBytes);
    let mut frame = [0; 2048];
    let length = bench.peer.request(0, &bench.payload, &mut frame);
    bench.peer.unsend(0, bench.payload.len() as u32);
    let first_tcp_byte = 34;
    for index in first_tcp_byte..length {
        frame[index] ^= 0x10;
        bench.wire.send(&frame[..length])?;
        frame[index] ^= 0x10;
        bench.host.step()?;
        bench.listen_to_wire()?;
    }
    let refused = counter(bench, Counter::BadChecksum) - before;
    ensure!(
        counter(bench, Counter::RxPayloadBytes) == accepted,
        "a segment with a bad checksum was accepted"
    );
    ensure!(refused == (length - first_tcp_byte) as u64, "{refused} bad checksums were counted");
    Ok(())
}

fn stale_timestamps(bench: &mut Bench) -> Result<()> {
    let before = counter(bench, Counter::StaleTimestamp);
    let accepted = counter(bench, Counter::RxPayloadBytes);
    let mut frame = [0; 2048];
    let timestamp = bench.peer.set_timestamp(0);
    bench.peer.set_timestamp(timestamp.wrapping_sub(1000));
    let length = bench.peer.request(0, &bench.payload, &mut frame);
    bench.peer.unsend(0, bench.payload.len() as u32);
    bench.peer.set_timestamp(timestamp);
    bench.wire.send(&frame[..length])?;
    bench.host.step()?;
    bench.listen_to_wire()?;
    ensure!(counter(bench, Counter::StaleTimestamp) == before + 1, "the stale timestamp was not counted");
    ensure!(
        counter(bench, Counter::RxPayloadBytes) == accepted,
        "a segment with a stale timestamp was accepted"
    );
    Ok(())
}

/// Another application fills all its rings with garbage.
fn garbage_entries(bench: &mut Bench) -> Result<()> {
    let before = counter(bench, Counter::RefusedEntries);
    let application = bench.host.application()?;
    let context = Context::new(&application)?;
    bench.host.carry_out_notices()?;
    let region = Region::whole(RegionKind::Context, context.id());
    let memory = bench.host.instance().region(region);
    let memory = memory.ok_or_else(|| anyhow::anyhow!("the context has no region"))?;
    let words =
        memory.words(0, memory.len() / 8).ok_or_else(|| anyhow::anyhow!("the region is misaligned"))?;
    let mut random = Random::new(1);
    for _ in 0..50 {
        for word in words {
            word.store(random.next(), Relaxed);
        }
        bench.host.step()?;
    }
    ensure!(counter(bench, Counter::RefusedEntries) > before, "garbage entries were not counted");
    Ok(())
}
