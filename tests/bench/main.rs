//! Benchmarks: each row compares two kinds of processes, which take turns.
//!
//! `make bench` prints them. `TRITON_BENCH_ONLY` selects parts (local, latency, pause, burst, kinesis, shards), and
//! `TRITON_BENCH_RUNS` sets the number of runs. A row is the median of its runs; CPU time is the user and system time of the
//! whole process. Absolute numbers depend on the machine; ratios less so.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod burst;
mod job;
mod kinesis;
mod latency;
mod measure;
mod pause;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use self::job::{Job, RECORDS};
use self::measure::{Measured, interleave, median};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(outcome) =
        kinesis::child(&arguments).or_else(|| burst::child(&arguments)).or_else(|| pause::child(&arguments))
    {
        return outcome;
    }
    if let [_, flag, job, folder] = &arguments[..]
        && flag == "--job"
    {
        return job::run(job, Path::new(folder));
    }
    let runs = std::env::var("TRITON_BENCH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir()?;
    let bench = Bench { triton: triton()?, folder: folder.path().to_owned(), runs };
    let only = std::env::var("TRITON_BENCH_ONLY").unwrap_or_default();
    let wants = |part: &str| only.is_empty() || only.split(',').any(|wanted| wanted == part);
    if wants("local") {
        bench.local()?;
    }
    if wants("latency") {
        latency::bench(&bench)?;
    }
    if wants("pause") {
        pause::bench()?;
    }
    if wants("burst") {
        burst::bench()?;
    }
    if wants("kinesis") {
        kinesis::bench(&bench.triton, runs)?;
    }
    if wants("shards") {
        kinesis::shards()?;
    }
    Ok(())
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// The path of the release build of the command.
fn triton() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let triton = this.parent().and_then(Path::parent).context("a target folder")?.join("triton");
    anyhow::ensure!(triton.exists(), "{} is missing: build it with 'cargo build --release'", triton.display());
    Ok(triton)
}

struct Bench {
    triton: PathBuf,
    folder: PathBuf,
    runs: usize,
}

impl Bench {
    fn local(&self) -> Result<()> {
        let runs = self.runs;
        println!("medians of {runs} runs each, taking turns; {RECORDS} records of 100 bytes\n");
        println!("{:<42} {:>12} {:>12} {:>7} {:>7}  goal", "row", "triton", "peer", "rate", "cpu");
        self.put()?;
        self.get()?;
        self.command_put()?;
        self.command_get()?;
        self.starts()
    }

    fn job(&self, job: Job) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--job", job.name()]).arg(&self.folder);
        Ok(command)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_in("", arguments)
    }

    /// The command, with its streams in a subfolder of the benchmark's folder.
    fn command_in(&self, folder: &str, arguments: &[&str]) -> Command {
        let folder = self.folder.join(folder);
        let mut command = Command::new(&self.triton);
        // So that no setting of the user's environment changes where streams are stored.
        command.env_clear().env("XDG_DATA_HOME", &folder).env("HOME", &folder).current_dir(&folder);
        command.args(arguments).args(["--quiet", "--local", "-s", job::STREAM]);
        command
    }

    /// A folder without streams.
    fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }

    fn forget_stream(&self) -> Result<()> {
        let streams = self.folder.join("triton/streams");
        if streams.exists() {
            std::fs::remove_dir_all(&streams)?;
        }
        Ok(())
    }

    fn put(&self) -> Result<()> {
        let plain = self.folder.join("plain.db");
        let (ours, peer) = interleave(
            self.runs,
            || {
                self.forget_stream()?;
                self.job(Job::PutLibrary)
            },
            || {
                drop(std::fs::remove_file(&plain));
                self.job(Job::PutPlain)
            },
        )?;
        row("library put / plain SQLite loop", &ours, &peer, "rate >= 0.70");
        Ok(())
    }

    fn get(&self) -> Result<()> {
        let (ours, peer) = interleave(self.runs, || self.job(Job::GetLibrary), || self.job(Job::GetPlain))?;
        row("library get, typed / plain SQLite loop", &ours, &peer, "rate >= 0.70");
        Ok(())
    }

    fn command_put(&self) -> Result<()> {
        let lines = self.folder.join("lines.txt");
        job::write_lines(&lines)?;
        let path = lines.display().to_string();
        let (ours, peer) = interleave(
            self.runs,
            || {
                self.forget_stream()?;
                Ok(self.command(&["put", &path]))
            },
            || {
                self.forget_stream()?;
                self.job(Job::PutLibrary)
            },
        )?;
        row("triton put / library put", &ours, &peer, "rate >= 0.65");
        println!("{:<42} {:>12}", "  peak memory", mebibytes(&ours));
        Ok(())
    }

    fn command_get(&self) -> Result<()> {
        let arguments = ["get", "--from", "all", "-e", "-o", "json"];
        let (ours, peer) = interleave(self.runs, || Ok(self.command(&arguments)), || self.job(Job::GetPlain))?;
        // 600,000 records per second where the plain loop reads 3,500,000.
        row("triton get -o json / plain SQLite loop", &ours, &peer, "rate >= 0.17");
        println!("{:<42} {:>12}", "  peak memory", mebibytes(&ours));
        Ok(())
    }

    fn starts(&self) -> Result<()> {
        let first = ["get", "--from", "all", "-n", "1"];
        let version = || {
            let mut command = Command::new(&self.triton);
            command.arg("--version");
            Ok(command)
        };
        let (first, version) = interleave(4 * self.runs, || Ok(self.command(&first)), version)?;
        println!("{:<42} {:>12}  goal < 10 ms", "triton --version", milliseconds(&version));
        println!("{:<42} {:>12}  goal < 30 ms", "triton get --from all -n 1", milliseconds(&first));
        Ok(())
    }
}

fn rate(measured: &[Measured]) -> f64 {
    median(measured.iter().map(|run| RECORDS as f64 / run.wall.as_secs_f64()))
}

fn row(name: &str, ours: &[Measured], peer: &[Measured], goal: &str) {
    let pairs = || ours.iter().zip(peer);
    let rates = median(pairs().map(|(ours, peer)| peer.wall.as_secs_f64() / ours.wall.as_secs_f64()));
    let cpu = median(pairs().map(|(ours, peer)| ours.cpu.as_secs_f64() / peer.cpu.as_secs_f64()));
    println!("{name:<42} {:>10.0}/s {:>10.0}/s {rates:>7.2} {cpu:>7.2}  {goal}", rate(ours), rate(peer));
}

fn mebibytes(measured: &[Measured]) -> String {
    format!("{:.0} MiB", median(measured.iter().map(|run| run.peak_bytes as f64 / f64::from(1 << 20))))
}

fn milliseconds(measured: &[Measured]) -> String {
    format!("{:.1} ms", median(measured.iter().map(|run| run.wall.as_secs_f64() * 1000.0)))
}
