// SPDX-License-Identifier: MIT OR Apache-2.0
//! libFuzzer around the target that `TAS_FUZZ_TARGET` names. Run by `scripts/fuzz`.
#![no_main]

use std::sync::OnceLock;

static TARGET: OnceLock<&fuzz::Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("TAS_FUZZ_TARGET").expect("TAS_FUZZ_TARGET names a target");
        fuzz::TARGETS.iter().find(|target| target.name == name).expect("a target of that name")
    });
    (target.check)(data);
});
