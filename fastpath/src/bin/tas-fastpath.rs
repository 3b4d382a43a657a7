// SPDX-License-Identifier: MIT OR Apache-2.0
//! The TAS fast path over DPDK; see `fastpath::dpdk`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match fastpath::dpdk::run(&fastpath::dpdk::Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tas-fastpath: {error:#}");
            ExitCode::FAILURE
        }
    }
}
