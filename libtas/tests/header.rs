// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tas.h` is what `src/capi.rs` says, and a C compiler takes it.

use std::{path::Path, process::Command};

fn generated() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings =
        cbindgen::Builder::new().with_config(config).with_src(folder.join("src/capi.rs")).generate();
    let mut text = Vec::new();
    bindings.expect("capi.rs").write(&mut text);
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn the_header_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tas.h");
    let generated = generated();
    if std::env::var_os("TAS_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &generated).expect("tas.h");
    }
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        present == generated,
        "tas.h is out of date; type `TAS_UPDATE_HEADER=1 cargo test -p libtas --test header`"
    );
}

#[test]
fn every_function_is_documented() {
    let header = generated();
    for (index, line) in
        header.lines().enumerate().filter(|(_, line)| line.contains(" tas_") && line.contains('('))
    {
        let before = header.lines().nth(index - 1).unwrap_or_default();
        let is_start = !line.starts_with(' ') && !line.starts_with("//");
        assert!(!is_start || before.starts_with("//"), "{line}");
    }
}

#[test]
fn the_example_compiles_as_c() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(compiler)
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-I"])
        .arg(folder)
        .arg(folder.join("examples/echo.c"))
        .output()
        .expect("a C compiler; install gcc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
