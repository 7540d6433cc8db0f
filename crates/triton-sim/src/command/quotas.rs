//! The tables of quota utilization.

use std::io::{self, Write as _};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;

use super::seeds::processors;
use crate::quota::{read, write};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Measured time of each run, in virtual seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Run only the rows that contain this text
    #[arg(long)]
    only: Option<String>,
    /// Number of rows to run at once [default: number of processors]
    #[arg(long)]
    jobs: Option<usize>,
}

pub(super) fn run(arguments: &Arguments) -> Result<bool> {
    let duration = Duration::from_secs(arguments.seconds);
    let jobs = arguments.jobs.unwrap_or_else(processors);
    let is_wanted = |line: &str| arguments.only.as_ref().is_none_or(|only| line.contains(only.as_str()));
    let writes: Vec<write::Row> = write::Row::all().into_iter().filter(|row| is_wanted(&row.title())).collect();
    let reads: Vec<read::Row> = read::Row::all().into_iter().filter(|row| is_wanted(&row.title())).collect();

    writeln!(io::stdout(), "puts, {} s each after a warm-up, the worst of every limiter\n", arguments.seconds)?;
    writeln!(io::stdout(), "{}", write::Row::HEADER)?;
    let mut met = table(jobs, &writes, |row| {
        let measured = row.measure(duration)?;
        Ok((row.line(measured), row.is_met(measured)))
    })?;
    writeln!(io::stdout(), "\nfetches of a backlog\n")?;
    writeln!(io::stdout(), "{}", read::Row::HEADER)?;
    met += table(jobs, &reads, |row| {
        let measured = row.measure(duration)?;
        Ok((row.line(measured), row.is_met(measured)))
    })?;
    let rows = writes.len() + reads.len();
    writeln!(io::stdout(), "\n{met} of {rows} rows meet their goals")?;
    Ok(met == rows)
}

/// Measures the rows in parallel, and prints them in order as soon as possible. Returns how many meet their goals.
fn table<R: Sync>(jobs: usize, rows: &[R], line: impl Fn(&R) -> Result<(String, bool)> + Sync) -> Result<usize> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new((0, 0, vec![None; rows.len()]));
    let work = || -> Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(row) = rows.get(index) else { break };
            let line = line(row)?;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            let (printed, met, lines) = &mut *done;
            lines[index] = Some(line);
            while let Some((line, is_met)) = lines.get_mut(*printed).and_then(Option::take) {
                writeln!(io::stdout(), "{line}")?;
                *printed += 1;
                *met += usize::from(is_met);
            }
        }
        Ok(())
    };
    super::seeds::run_workers(jobs, work)?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner).1)
}
