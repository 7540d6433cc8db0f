//! Running processes and reading off what they took.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use wait4::Wait4 as _;

/// What one process took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) wall: Duration,
    /// User and system time of the process.
    pub(crate) cpu: Duration,
    pub(crate) peak_bytes: u64,
}

fn measure(command: &mut Command) -> Result<Measured> {
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("a process cannot be started")?;
    let used = child.wait4()?;
    let wall = started.elapsed();
    ensure!(used.status.success(), "{command:?} failed: {}", used.status);
    Ok(Measured { wall, cpu: used.rusage.utime + used.rusage.stime, peak_bytes: used.rusage.maxrss })
}

/// Runs both in turns, once to warm up and then `runs` times, each with what it needs prepared before it.
pub(crate) fn interleave(
    runs: usize,
    ours: impl Fn() -> Result<Command>,
    peer: impl Fn() -> Result<Command>,
) -> Result<(Vec<Measured>, Vec<Measured>)> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for run in 0..=runs {
        let (ours, peer) = (measure(&mut ours()?)?, measure(&mut peer()?)?);
        if run > 0 {
            a.push(ours);
            b.push(peer);
        }
    }
    Ok((a, b))
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
