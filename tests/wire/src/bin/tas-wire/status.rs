// SPDX-License-Identifier: MIT OR Apache-2.0
//! The status file.

use crate::port::Port;
use anyhow::{Context, Result};
use serde_json::{json, Map, Value};
use std::path::Path;
use wire::{Lane, Spec};

fn object(named: impl IntoIterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    named.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

fn lane(lane: &Lane) -> Value {
    let mut counters = object(lane.counters().named());
    counters.insert("in_flight".to_owned(), lane.in_flight().into());
    counters.into()
}

/// Everything that is known.
pub(crate) fn of(spec: &Spec, lanes: &[Lane; 2], ports: &mut [Port; 2], error: Option<&str>) -> Value {
    let [left, right] = ports.each_mut().map(|port| Value::from(object(port.counters())));
    let mut value = json!({
        "spec": spec.to_string(), "out": lane(&lanes[0]), "in": lane(&lanes[1]), "left": left, "right": right,
    });
    if let (Some(error), Some(object)) = (error, value.as_object_mut()) {
        object.insert("error".to_owned(), error.into());
    }
    value
}

/// Makes the file appear whole.
pub(crate) fn write(path: &Path, value: &Value) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, format!("{value}\n"))
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("writing {}", path.display()))
}
