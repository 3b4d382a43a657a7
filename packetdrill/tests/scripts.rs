// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every script of `tests/packetdrill` passes, and every known failure still fails.

use std::{path::Path, process::Command};

#[test]
fn all_scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/packetdrill");
    let output = Command::new(env!("CARGO_BIN_EXE_tas-packetdrill"))
        .arg("--known")
        .arg(folder.join("known-failures.txt"))
        .arg(&folder)
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    let failures: Vec<_> = text.lines().filter(|line| !line.starts_with("ok ")).collect();
    println!("{}", failures.join("\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
