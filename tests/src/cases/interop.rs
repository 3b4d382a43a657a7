// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interop matrix (`tests/interop/`), as many combinations as contain every pair of values; `scripts/interop` runs all.

use super::Case;
use crate::lab::{Lab, Side, PEER, TAS};
use anyhow::{ensure, Result};
use std::time::Duration;

/// The programs: both ends' part, and Linux's.
const PROGRAMS: [(&str, &str); 2] = [
    ("exchange.py", include_str!("../../interop/exchange.py")),
    ("matrix.py", include_str!("../../interop/matrix.py")),
];
const PORT: u16 = 9100;

/// Every pair of what Linux can switch.
pub(crate) const PAIRS: Case = Case {
    name: "interop",
    about:
        "timestamps, SACK, window scaling, ECN, MTU and version of IP of the peer, in pairs: bytes, ends and what was agreed",
    least_segments: 1000,
    run: |lab| pairs(lab),
};

fn pairs(lab: &Lab) -> Result<()> {
    for (name, text) in PROGRAMS {
        std::fs::write(format!("{}/{name}", lab.share()), text)?;
    }
    let bytes = lab.volume(200_000, 20_000);
    lab.start(Side::Tas, &format!("python3 {}/exchange.py {PORT}", lab.share()))?;
    let line = format!(
        "PYTHONDONTWRITEBYTECODE=1 python3 {}/matrix.py --tas {TAS} --peer {PEER} --port {PORT} --bytes {bytes} --pairwise",
        lab.share()
    );
    let said = lab.run(Side::Peer, Duration::from_secs(300), &line)?;
    ensure!(said.contains("connections as they should be, 0 not"), "{said}");
    Ok(())
}
