//! Runs processes, and measures their time and memory.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use wait4::Wait4 as _;

/// Time and memory of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) wall: Duration,
    /// User and system time of the process.
    pub(crate) cpu: Duration,
    pub(crate) peak_bytes: u64,
}

pub(crate) fn measure(command: &mut Command) -> Result<Measured> {
    run(command.stdout(Stdio::null())).map(|(_, measured)| measured)
}

/// Also returns what the process printed.
pub(crate) fn measure_output(command: &mut Command) -> Result<(String, Measured)> {
    run(command.stdout(Stdio::piped()))
}

fn run(command: &mut Command) -> Result<(String, Measured)> {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).spawn().context("a process cannot be started")?;
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut output)?;
    }
    let used = child.wait4()?;
    let wall = started.elapsed();
    ensure!(used.status.success(), "{command:?} failed: {}", used.status);
    let cpu = used.rusage.utime + used.rusage.stime;
    Ok((output, Measured { wall, cpu, peak_bytes: used.rusage.maxrss }))
}

/// Runs both in turns, once to warm up and then `runs` times. The closures prepare each run, which is not measured.
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
