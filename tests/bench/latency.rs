//! How long a record takes from its put in one process until another process has printed it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use triton_core::{ProducerOptions, Stream};

use crate::kinesis::{Job, Load, Place, over};
use crate::{Bench, job};

/// Records of each row.
const PUTS: usize = 300;
/// A part of the golden ratio: its multiples are spread evenly, so that puts are in step with no poll.
const STEP: f64 = 0.618_033_988_75;

/// What the record's key is named.
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
        row("local, triton get", &seen(&stream, tail, Duration::from_millis(20)).await?, "p50 < 5 ms");
        anyhow::Ok(())
    })?;
    on_kinesis(&Place::start()?, Job::Tail, "Kinesis, polled every 200 ms", Duration::from_millis(200))?;
    on_kinesis(&Place::start_with_shim()?, Job::TailFanOut, "Kinesis, enhanced fan-out", Duration::from_millis(20))
}

fn on_kinesis(place: &Place, job: Job, name: &str, interval: Duration) -> Result<()> {
    place.fresh_stream("latency", 1)?;
    crate::runtime()?.block_on(async {
        let client = place.kinesis().await?.stream("latency")?;
        let stream = over(std::sync::Arc::new(client), ProducerOptions::default())?;
        let tail = place.job(job, "latency", Load { name: "", records: 0, bytes: 0 })?;
        row(name, &seen(&stream, tail, interval).await?, "");
        Ok(())
    })
}

/// When records were printed, counted from their puts and from the puts' acknowledgements.
#[derive(Default)]
struct Seen {
    after_put: Vec<Duration>,
    after_acknowledgement: Vec<Duration>,
}

/// Puts records, one after the other, at times that are spread over the interval; `tail` prints a line with the key of each.
async fn seen(stream: &Stream, mut tail: Command, interval: Duration) -> Result<Seen> {
    stream.put(&Event { user: "first" }).await?;
    let mut tail = Tail(tail.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let mut printed = BufReader::new(tail.0.stdout.take().context("a pipe")?);
    let mut line = String::new();
    // It tails once it has printed what was there.
    printed.read_line(&mut line)?;
    let mut seen = Seen::default();
    for number in 0..PUTS {
        tokio::time::sleep(Duration::from_millis(10) + interval.mul_f64((number as f64 * STEP).fract())).await;
        let user = format!("user-{number}");
        let put = Instant::now();
        stream.put(&Event { user: &user }).await?;
        let acknowledged = Instant::now();
        line.clear();
        printed.read_line(&mut line)?;
        seen.after_put.push(put.elapsed());
        seen.after_acknowledgement.push(acknowledged.elapsed());
        ensure!(line.trim_end() == user, "{line:?} was printed");
    }
    Ok(seen)
}

/// Ends with its owner.
struct Tail(Child);

impl Drop for Tail {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn row(name: &str, seen: &Seen, goal: &str) {
    let part = |times: &[Duration], part: f64| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times[(times.len() as f64 * part) as usize].as_secs_f64() * 1e3
    };
    for (from, times, goal) in
        [("acknowledgement", &seen.after_acknowledgement, goal), ("call of put", &seen.after_put, "")]
    {
        let (p50, p99) = (part(times, 0.50), part(times, 0.99));
        println!("{:<48} {p50:>9.1} ms {p99:>9.1} ms  {goal}", format!("{name}, from its {from}"));
    }
}
