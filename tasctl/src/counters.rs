// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tasctl counters`.

use crate::{client::Client, format};
use abi::core_status::{CoreStatus, Counter, CORE_STATUS_STRIDE};
use anyhow::{Context as _, Result};
use serde_json::{json, Map, Value};
use std::{sync::atomic::Ordering::Relaxed, thread, time::Duration};

/// Time between two lines of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Names and values of one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Snapshot {
    cores: Vec<Vec<u64>>,
    slow_path: Vec<u64>,
}

/// Prints the counters once, or what was added every second.
///
/// # Errors
/// The slow path does not answer.
pub(crate) fn print(client: &Client, watch: bool, all: bool, as_json: bool) -> Result<()> {
    let pages = client.core_status()?;
    let take = || -> Result<Snapshot> {
        let mut cores = Vec::new();
        for core in 0..client.cores as usize {
            let mapping = pages.as_ref().context("no core")?;
            let start = mapping
                .at(core * CORE_STATUS_STRIDE, size_of::<CoreStatus>())
                .context("a core's page is missing")?;
            // SAFETY: `at` checked the bounds; pages are aligned; the mapping outlives the borrow.
            let page: &[CoreStatus] = unsafe { ring::table(start, 1) };
            cores.extend(page.iter().map(|page| {
                Counter::ALL
                    .iter()
                    .map(|(counter, _)| page.counters[*counter as usize].load(Relaxed))
                    .collect()
            }));
        }
        Ok(Snapshot { cores, slow_path: client.slow_counters()? })
    };
    let mut last = take()?;
    show(&last, all, as_json, !watch);
    while watch {
        thread::sleep(INTERVAL);
        let now = take()?;
        show(&now.since(&last), all, as_json, false);
        last = now;
    }
    Ok(())
}

impl Snapshot {
    /// What was added since `earlier`.
    fn since(&self, earlier: &Self) -> Self {
        let added = |now: &[u64], then: &[u64]| {
            now.iter().zip(then).map(|(now, then)| now.wrapping_sub(*then)).collect()
        };
        Self {
            cores: self.cores.iter().zip(&earlier.cores).map(|(now, then)| added(now, then)).collect(),
            slow_path: added(&self.slow_path, &earlier.slow_path),
        }
    }
}

fn show(snapshot: &Snapshot, all: bool, as_json: bool, pretty: bool) {
    match (as_json, pretty) {
        (true, true) => println!("{:#}", to_json(snapshot)),
        (true, false) => println!("{}", to_json(snapshot)),
        (false, _) => println!("{}", to_text(snapshot, all)),
    }
}

fn to_text(snapshot: &Snapshot, all: bool) -> String {
    let mut header = vec!["fast path".to_string()];
    header.extend((0..snapshot.cores.len()).map(|core| format!("core{core}")));
    let mut rows = vec![header];
    for (index, (_, name)) in Counter::ALL.iter().enumerate() {
        let values: Vec<u64> = snapshot.cores.iter().filter_map(|core| core.get(index).copied()).collect();
        if all || values.iter().any(|value| *value != 0) {
            rows.push([name.to_string()].into_iter().chain(values.iter().map(u64::to_string)).collect());
        }
    }
    let right: Vec<usize> = (1..=snapshot.cores.len()).collect();
    let fast = format::table(&rows, &right);
    let mut rows = vec![vec!["slow path".to_string(), String::new()]];
    let named = slowpath::counters::NAMES.iter().zip(&snapshot.slow_path);
    rows.extend(
        named
            .filter(|(_, value)| all || **value != 0)
            .map(|(name, value)| vec![name.to_string(), value.to_string()]),
    );
    format!("{fast}\n{}", format::table(&rows, &[1]))
}

fn to_json(snapshot: &Snapshot) -> Value {
    let cores: Vec<Value> = snapshot
        .cores
        .iter()
        .enumerate()
        .map(|(core, values)| {
            let named =
                Counter::ALL.iter().zip(values).map(|((_, name), value)| (name.to_string(), json!(value)));
            let mut object: Map<String, Value> = named.collect();
            object.insert("core".into(), json!(core));
            Value::Object(object)
        })
        .collect();
    let slow: Map<String, Value> = slowpath::counters::NAMES
        .iter()
        .zip(&snapshot.slow_path)
        .map(|(name, value)| (name.to_string(), json!(value)))
        .collect();
    json!({ "cores": cores, "slow_path": slow })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(rx: u64) -> Snapshot {
        let mut core = vec![0; Counter::ALL.len()];
        core[0] = rx;
        Snapshot { cores: vec![core.clone(), core], slow_path: vec![0; slowpath::counters::COUNT] }
    }

    #[test]
    fn zeroes_are_left_out_unless_asked_for() {
        let text = to_text(&snapshot(5), false);
        assert!(
            text.starts_with("fast path   core0  core1\nrx_packets      5      5\n\nslow path"),
            "{text}"
        );
        assert!(!text.contains("tx_packets"));
        assert!(to_text(&snapshot(5), true).contains("tx_packets"));
    }

    #[test]
    fn differences_and_json_are_per_core() {
        let added = snapshot(9).since(&snapshot(4));
        assert_eq!(to_json(&added)["cores"][1]["rx_packets"], 5);
        assert_eq!(to_json(&added)["slow_path"]["syns"], 0);
    }
}
