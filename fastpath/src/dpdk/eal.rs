// SPDX-License-Identifier: MIT OR Apache-2.0
//! DPDK's environment layer: start, end, and threads of our own in it.

use std::ffi::{c_char, CStr, CString};
use std::marker::PhantomData;

use anyhow::{bail, ensure, Context, Result};
use nix::sched::{sched_getaffinity, sched_setaffinity, CpuSet};
use nix::unistd::Pid;

/// EAL, started once per process. Dropped, it gives back what it holds.
pub struct Eal {
    // EAL's strings: getopt and the drivers keep pointers into them.
    _arguments: Vec<CString>,
}

/// The text of a DPDK error, given as a positive errno.
pub(super) fn error_text(errno: i32) -> String {
    // SAFETY: rte_strerror returns a string of the calling thread's, valid until its next call.
    let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(errno)) };
    text.to_string_lossy().into_owned()
}

/// A DPDK return code as a result: negative is an error.
///
/// # Errors
/// The code's text with `what` failed.
pub(super) fn check(code: i32, what: &str) -> Result<i32> {
    ensure!(code >= 0, "{what}: {}", error_text(code.saturating_neg()));
    Ok(code)
}

impl Eal {
    /// Starts EAL. The calling thread becomes its main lcore, and keeps the processors it had.
    ///
    /// # Errors
    /// EAL's own, with the arguments it got.
    pub fn start(arguments: &[String]) -> Result<Self> {
        let affinity = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
        let program = ["tas-fastpath".to_owned()];
        let owned: Vec<CString> = program
            .iter()
            .chain(arguments)
            .map(|word| CString::new(word.as_str()).with_context(|| format!("{word:?} contains a zero byte")))
            .collect::<Result<_>>()?;
        let mut pointers: Vec<*mut c_char> = owned.iter().map(|word| word.as_ptr().cast_mut()).collect();
        // SAFETY: EAL permutes the vector but not the strings, which live as long as Self.
        let parsed = unsafe { dpdk_sys::rte_eal_init(pointers.len() as i32, pointers.as_mut_ptr()) };
        if parsed < 0 {
            // SAFETY: reads the calling thread's rte_errno.
            let reason = error_text(unsafe { dpdk_sys::tas_errno() });
            bail!("DPDK refused to start: {reason}. Arguments: {}", arguments.join(" "));
        }
        sched_setaffinity(Pid::from_raw(0), &affinity).context("sched_setaffinity")?;
        Ok(Self { _arguments: owned })
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // SAFETY: every port is closed and every registered thread has left by now.
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}

/// The calling thread's membership in EAL: an lcore id, and with it mempool caches. Stays in the
/// thread.
pub(super) struct RegisteredThread(PhantomData<*const ()>);

impl RegisteredThread {
    /// Registers the calling thread.
    ///
    /// # Errors
    /// DPDK has no lcore id left.
    pub(super) fn new() -> Result<Self> {
        // SAFETY: EAL is running; the thread leaves on drop.
        if unsafe { dpdk_sys::rte_thread_register() } != 0 {
            // SAFETY: reads the calling thread's rte_errno.
            bail!("rte_thread_register: {}", error_text(unsafe { dpdk_sys::tas_errno() }));
        }
        Ok(Self(PhantomData))
    }
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: this thread registered itself and holds no mempool cache any more.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}

/// The processors of the lcores EAL was given (`-l`): its workers', then its main lcore's.
pub(super) fn lcore_cpus() -> Vec<usize> {
    let mut cpus = Vec::new();
    // SAFETY: EAL is running; u32::MAX starts at the first lcore.
    unsafe {
        let mut lcore = dpdk_sys::rte_get_next_lcore(u32::MAX, 1, 0);
        while lcore < dpdk_sys::RTE_MAX_LCORE {
            cpus.push(dpdk_sys::rte_lcore_to_cpu_id(lcore as i32) as usize);
            lcore = dpdk_sys::rte_get_next_lcore(lcore, 1, 0);
        }
        cpus.push(dpdk_sys::rte_lcore_to_cpu_id(dpdk_sys::rte_get_main_lcore() as i32) as usize);
    }
    cpus
}

/// The processors for `cores` cores: the first of those asked for, else the last ones this process
/// may use, so that processor 0, which serves most interrupts, stays with Linux. With fewer usable
/// processors than cores they are shared.
///
/// # Errors
/// Too few processors were asked for, or one that is not usable.
pub(super) fn choose_cpus(cores: usize, asked: Option<&[usize]>) -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("sched_getaffinity")?;
    let usable: Vec<usize> =
        (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    if let Some(asked) = asked {
        ensure!(asked.len() >= cores, "{} processors for {cores} cores", asked.len());
        for cpu in asked {
            ensure!(
                usable.contains(cpu),
                "processor {cpu} is not usable by this process; these are: {usable:?}"
            );
        }
        return Ok(asked.iter().take(cores).copied().collect());
    }
    Ok(usable.iter().rev().cycle().take(cores).copied().collect())
}

/// Ties the calling thread to one processor.
///
/// # Errors
/// The kernel's.
pub(super) fn pin_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("processor {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot run on processor {cpu}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_come_from_the_end_and_repeat() {
        let one = choose_cpus(1, None).unwrap();
        let many = choose_cpus(CpuSet::count(), None).unwrap();
        assert_eq!((many.len(), many[0]), (CpuSet::count(), one[0]));
        assert_eq!(choose_cpus(1, Some(&one)).unwrap(), one);
        assert!(choose_cpus(1, Some(&[CpuSet::count() - 1])).unwrap_err().to_string().contains("not usable"));
    }
}
