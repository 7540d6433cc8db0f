//! The latency from a put in one process until another process has printed the record.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use triton_core::{ProducerOptions, Stream};

use crate::kinesis::{Job, Load, ServerProcess, stream_over};
use crate::{Bench, job};

/// Records of each row.
const PUTS: usize = 300;
/// The golden ratio: the fractions of its multiples are spread evenly, so that puts are not synchronized with polls.
const STEP: f64 = 0.618_033_988_75;

/// A record whose user is its partition key.
#[derive(Serialize)]
struct Event<'a> {
    user: &'a str,
}

/// Prints the rows.
pub(crate) fn bench(bench: &Bench) -> Result<()> {
    println!("\nfrom a put until another process has printed the record, {PUTS} records each\n");
    println!("{:<48} {:>12} {:>12}", "row", "p50", "p99");
    crate::runtime()?.block_on(async {
        let stream = job::stream(&bench.empty_folder("latency")?).await?;
        let tail = bench.command_in("latency", &["get", "--from", "all", "-o", r"%k\n"]);
        row("local, triton get", &measure(&stream, tail, Duration::from_millis(20)).await?, "p50 < 5 ms");
        anyhow::Ok(())
    })?;
    on_kinesis(&ServerProcess::start()?, Job::Tail, "Kinesis, polled every 200 ms", Duration::from_millis(200))?;
    on_kinesis(
        &ServerProcess::start_with_shim()?,
        Job::TailFanOut,
        "Kinesis, enhanced fan-out",
        Duration::from_millis(20),
    )
}

fn on_kinesis(server: &ServerProcess, job: Job, name: &str, interval: Duration) -> Result<()> {
    server.fresh_stream("latency", 1)?;
    crate::runtime()?.block_on(async {
        let client = server.kinesis().await?.stream("latency")?;
        let stream = stream_over(std::sync::Arc::new(client), ProducerOptions::default())?;
        let tail = server.job(job, "latency", Load { name: "", records: 0, bytes: 0 })?;
        row(name, &measure(&stream, tail, interval).await?, "");
        Ok(())
    })
}

/// Times until records were printed, since their puts and since the acknowledgements.
#[derive(Default)]
struct Latencies {
    after_put: Vec<Duration>,
    after_acknowledgement: Vec<Duration>,
}

/// Puts records one after the other, at times spread over the interval; `tail` prints the key of each on a line.
async fn measure(stream: &Stream, mut tail: Command, interval: Duration) -> Result<Latencies> {
    stream.put(&Event { user: "first" }).await?;
    let mut tail = Tail(tail.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let mut printed = BufReader::new(tail.0.stdout.take().context("a pipe")?);
    let mut line = String::new();
    // From the first printed record on, it tails the stream.
    printed.read_line(&mut line)?;
    let mut latencies = Latencies::default();
    for number in 0..PUTS {
        tokio::time::sleep(Duration::from_millis(10) + interval.mul_f64((number as f64 * STEP).fract())).await;
        let user = format!("user-{number}");
        let put = Instant::now();
        stream.put(&Event { user: &user }).await?;
        let acknowledged = Instant::now();
        line.clear();
        printed.read_line(&mut line)?;
        latencies.after_put.push(put.elapsed());
        latencies.after_acknowledgement.push(acknowledged.elapsed());
        ensure!(line.trim_end() == user, "{line:?} was printed");
    }
    Ok(latencies)
}

/// The tailing process, killed on drop.
struct Tail(Child);

impl Drop for Tail {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn row(name: &str, latencies: &Latencies, goal: &str) {
    let part = |times: &[Duration], part: f64| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times[(times.len() as f64 * part) as usize].as_secs_f64() * 1e3
    };
    for (from, times, goal) in
        [("acknowledgement", &latencies.after_acknowledgement, goal), ("call of put", &latencies.after_put, "")]
    {
        let (p50, p99) = (part(times, 0.50), part(times, 0.99));
        println!("{:<48} {p50:>9.1} ms {p99:>9.1} ms  {goal}", format!("{name}, from its {from}"));
    }
}
