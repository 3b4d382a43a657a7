// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tasctl doctor`: ordered checks, each with the reason and the command to type.

mod host;
mod service;

use crate::{format, Place};
use anyhow::Result;
use serde_json::{json, Value};
use std::{path::Path, process::ExitCode};
use tas::control::Backend;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Ok,
    /// Missing, but this set-up works without it.
    Note,
    /// Missing, and needed.
    Fail,
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    /// What was found, and why it matters.
    why: String,
    /// What to type, if anything.
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, why: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, why: why.into(), fix: None }
    }
    fn fail(check: &'static str, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, why: why.into(), fix: Some(fix.into()) }
    }
    /// Not needed unless `needed`.
    fn only_if(mut self, needed: bool) -> Self {
        if self.verdict == Verdict::Fail && !needed {
            self.verdict = Verdict::Note;
        }
        self
    }
}

/// Makes every check and prints the findings. Exit status 1 if something needed is missing.
///
/// # Errors
/// TAS_BACKEND has an unknown value.
pub(crate) fn run(place: &Place, as_json: bool) -> Result<ExitCode> {
    let findings = examine(place, place.backend()?);
    if as_json {
        println!("{:#}", Value::from(findings.iter().map(to_json).collect::<Vec<_>>()));
    } else {
        print!("{}", to_text(&findings));
    }
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn examine(place: &Place, backend: Backend) -> Vec<Finding> {
    let instance = place.instance();
    let socket = tas::control::socket_path(&instance);
    let kernel = host::kernel_checks(Path::new("/"));
    let daemon = service::daemon_socket(&socket);
    let kernel_works = kernel.iter().all(|finding| finding.verdict != Verdict::Fail);
    let daemon_works = daemon.verdict != Verdict::Fail;
    // With `auto` one of both is enough; with none at all, the daemon is the one that is easy to get.
    let needs_kernel = backend == Backend::Kernel;
    let needs_daemon = backend == Backend::Daemon || (backend == Backend::Auto && !kernel_works);
    let mut findings: Vec<Finding> =
        kernel.into_iter().map(|finding| finding.only_if(needs_kernel)).collect();
    findings.push(daemon.only_if(needs_daemon));
    findings.extend(host::memory_checks(Path::new("/")));
    let reachable = if needs_kernel { kernel_works } else { kernel_works || daemon_works };
    findings.extend(service::service_checks(place, reachable));
    findings.push(service::interposer());
    findings.push(service::sleep(place, reachable, Path::new("/")));
    findings
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Note => "note",
        Verdict::Fail => "FAIL",
    }
}

fn to_text(findings: &[Finding]) -> String {
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|f| vec![word(f.verdict).to_string(), f.check.to_string(), f.why.clone()])
        .collect();
    let indent = " ".repeat(6 + findings.iter().map(|f| f.check.len()).max().unwrap_or(0) + 2);
    let table = format::table(&rows, &[]);
    let mut out = String::new();
    for (line, finding) in table.lines().zip(findings) {
        out += &format!("{line}\n");
        if let Some(fix) = &finding.fix {
            out += &format!("{indent}type: {fix}\n");
        }
    }
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    out + &format!(
        "\n{} ok, {} notes, {} failed\n",
        count(Verdict::Ok),
        count(Verdict::Note),
        count(Verdict::Fail)
    )
}

fn to_json(finding: &Finding) -> Value {
    json!({
        "check": finding.check,
        "result": word(finding.verdict).to_lowercase(),
        "why": finding.why,
        "fix": finding.fix,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_why_and_what_to_type() {
        let fail = Finding::fail("module", "tas.ko is not loaded", "sudo insmod tas.ko");
        let text = to_text(&[Finding::ok("kernel", "7.3 has CONFIG_RUST=y"), fail.clone()]);
        assert_eq!(
            text,
            "ok    kernel  7.3 has CONFIG_RUST=y\nFAIL  module  tas.ko is not loaded\n              \
             type: sudo insmod tas.ko\n\n1 ok, 0 notes, 1 failed\n"
        );
        assert_eq!(fail.clone().only_if(false).verdict, Verdict::Note);
        assert_eq!(fail.clone().only_if(true).verdict, Verdict::Fail);
        assert_eq!(to_json(&fail)["fix"], "sudo insmod tas.ko");
    }
}
