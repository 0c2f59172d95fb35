//! What the process has used so far, as the kernel counts it.

use std::fs;
use std::time::Instant;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::error::{Error, Result};

/// A reading at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    at: Instant,
    usage: Usage,
}

/// The difference of two readings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Wall time.
    pub seconds: f64,
    /// Time in user mode, of all threads.
    pub cpu_user_s: f64,
    /// Time in the kernel, of all threads.
    pub cpu_sys_s: f64,
    /// How often a thread went to sleep.
    pub voluntary_switches: i64,
}

impl Reading {
    /// Reads now.
    ///
    /// # Errors
    /// What the system says.
    pub fn now() -> Result<Self> {
        Ok(Self { at: Instant::now(), usage: getrusage(UsageWho::RUSAGE_SELF)? })
    }

    /// What was used since this reading.
    ///
    /// # Errors
    /// What the system says.
    pub fn used(&self) -> Result<Used> {
        let now = Self::now()?;
        let seconds = |then: TimeVal, now: TimeVal| (now - then).num_microseconds() as f64 / 1e6;
        let (then, usage) = (&self.usage, &now.usage);
        Ok(Used {
            seconds: (now.at - self.at).as_secs_f64(),
            cpu_user_s: seconds(then.user_time(), usage.user_time()),
            cpu_sys_s: seconds(then.system_time(), usage.system_time()),
            voluntary_switches: usage.voluntary_context_switches() - then.voluntary_context_switches(),
        })
    }
}

/// The largest resident set so far, in KiB.
///
/// # Errors
/// A procfs that lacks it.
pub fn peak_rss_kib() -> Result<u64> {
    kib("/proc/self/status", "VmHWM:")
}

/// The resident set in KiB.
///
/// # Errors
/// A procfs that lacks it.
pub fn rss_kib() -> Result<u64> {
    kib("/proc/self/smaps_rollup", "Rss:")
}

fn kib(file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB")?.trim().parse().ok());
    value.ok_or_else(|| Error::failed(format_args!("no {name} in {file}")))
}
