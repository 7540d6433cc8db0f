//! Kinesis: the CPU time that a record costs the client, beside a plain loop over the AWS SDK and beside boto3, and what
//! it costs to tail very many shards.

mod job;
mod place;

use std::path::Path;

use anyhow::{Result, bail};

use crate::measure::{Measured, interleave, measure, measure_output, median};

pub(crate) use self::job::{Job, Load, over};
pub(crate) use self::place::Place;

/// Shards, so that a shard's write quota (1,000 records and 1 MB a second), which the library keeps to and the plain loop
/// does not, is not what is measured.
const SHARDS: usize = 256;
/// Packed, records count by their bytes alone.
const AGGREGATED_SHARDS: usize = 32;
/// Shards that are tailed by one process.
const MANY_SHARDS: usize = 1_000;

const STREAM: &str = "bench";
const AGGREGATED: &str = "bench-aggregated";

const SMALL: Load = Load { name: "100 B", records: 400_000, bytes: 100 };
const LARGE: Load = Load { name: "1 KiB", records: 150_000, bytes: 1024 };

/// The process that this one was started as, if it is a part of this benchmark.
pub(crate) fn child(arguments: &[String]) -> Option<Result<()>> {
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match arguments[..] {
        ["--kinesis-server"] => Some(place::serve(false)),
        ["--shimmed-kinesis-server"] => Some(place::serve(true)),
        ["--kinesis", job, stream, records, bytes] => Some(job::run(job, stream, records, bytes)),
        _ => None,
    }
}

/// Prints the rows.
pub(crate) fn bench(triton: &Path, runs: usize) -> Result<()> {
    let bench = Bench { place: Place::start()?, runs };
    println!("\nKinesis, client CPU a record, medians of {runs} runs taking turns; {SHARDS} shards, with aggregates");
    println!("{AGGREGATED_SHARDS}; the peer makes one request at a time\n");
    println!("{:<48} {:>12} {:>12} {:>7}  goal", "row", "triton", "peer", "ratio");
    for load in [LARGE, SMALL] {
        // The goals are for the larger records; what the smaller ones cost is worth knowing.
        let goal = if load.bytes == LARGE.bytes { "<= 1.10" } else { "" };
        bench.put(Job::PutOrdered, "put in order", load, goal)?;
        bench.put(Job::PutRelaxed, "put in any order", load, goal)?;
        bench.put(Job::PutBatch, "StreamClient::put_batch", load, "")?;
        bench.put(Job::PutTyped, "put typed", load, "")?;
        bench.put_beside_boto3(load)?;
        bench.get(load)?;
    }
    // Calls of aggregates have up to 10 MiB.
    Bench { place: Place::start_with_shim()?, runs }.aggregated()?;
    let size = std::fs::metadata(triton)?.len() as f64 / 1e6;
    println!("{:<48} {size:>9.1} MB  goal < 25 MB", "the command, stripped");
    Ok(())
}

struct Bench {
    place: Place,
    runs: usize,
}

impl Bench {
    fn put(&self, job: Job, what: &str, load: Load, goal: &str) -> Result<()> {
        let Self { place, runs } = self;
        let (ours, peer) = interleave(
            *runs,
            || place.fresh_stream(STREAM, SHARDS).and_then(|()| place.job(job, STREAM, load)),
            || place.fresh_stream(STREAM, SHARDS).and_then(|()| place.job(Job::PutPlain, STREAM, load)),
        )?;
        row(&format!("{what}, {} / SDK loop of blobs", load.name), load, &ours, &peer, goal);
        Ok(())
    }

    fn put_beside_boto3(&self, load: Load) -> Result<()> {
        let Self { place, runs } = self;
        let (ours, peer) = interleave(
            *runs,
            || place.fresh_stream(STREAM, SHARDS).and_then(|()| place.job(Job::PutTyped, STREAM, load)),
            || {
                let arguments = [load.records, load.bytes];
                place.fresh_stream(STREAM, SHARDS).and_then(|()| place.boto3("put-many", STREAM, &arguments))
            },
        )?;
        row(&format!("put typed, {} / boto3 and msgpack", load.name), load, &ours, &peer, "");
        Ok(())
    }

    fn get(&self, load: Load) -> Result<()> {
        let Self { place, runs } = self;
        place.fresh_stream(STREAM, SHARDS)?;
        measure(&mut place.job(Job::PutTyped, STREAM, load)?)?;
        let get = || place.job(Job::GetTyped, STREAM, load);
        let (ours, peer) = interleave(*runs, get, || place.job(Job::GetPlain, STREAM, load))?;
        row(&format!("get typed, {} / SDK loop that drops", load.name), load, &ours, &peer, "<= 1.20");
        let (ours, peer) = interleave(*runs, get, || place.boto3("get-many", STREAM, &[load.records]))?;
        row(&format!("get typed, {} / boto3 and msgpack", load.name), load, &ours, &peer, "");
        Ok(())
    }

    /// Small records in aggregates, beside the plain loops without.
    fn aggregated(&self) -> Result<()> {
        let Self { place, runs } = self;
        let load = SMALL;
        let ours = || {
            place.fresh_stream(AGGREGATED, AGGREGATED_SHARDS)?;
            place.job(Job::PutAggregated, AGGREGATED, load)
        };
        let peer = || {
            place.fresh_stream(STREAM, AGGREGATED_SHARDS)?;
            place.job(Job::PutPlain, STREAM, load)
        };
        let (packed, plain) = interleave(*runs, ours, peer)?;
        row(&format!("put aggregated, {} / SDK loop of blobs", load.name), load, &packed, &plain, "<= 0.40");

        let requests = |command: Result<std::process::Command>| {
            let before = place.put_requests()?;
            measure(&mut command?)?;
            anyhow::Ok(place.put_requests()? - before)
        };
        let (ours, peer) = (requests(ours())?, requests(peer())?);
        println!("{:<48} {ours:>12} {peer:>12} {:>7.3}  <= 0.05", "  requests", ours as f64 / peer as f64);

        for (stream, job) in [(AGGREGATED, Job::PutTypedAggregated), (STREAM, Job::PutTyped)] {
            place.fresh_stream(stream, if stream == STREAM { SHARDS } else { AGGREGATED_SHARDS })?;
            measure(&mut place.job(job, stream, load)?)?;
        }
        let (ours, peer) = interleave(
            *runs,
            || place.job(Job::GetTyped, AGGREGATED, load),
            || place.job(Job::GetPlain, STREAM, load),
        )?;
        let name = format!("get typed of aggregates, {} / SDK loop", load.name);
        row(&name, load, &ours, &peer, "<= 0.50");
        Ok(())
    }
}

fn row(name: &str, load: Load, ours: &[Measured], peer: &[Measured], goal: &str) {
    let each = |runs: &[Measured]| median(runs.iter().map(|run| run.cpu.as_secs_f64() * 1e6 / load.records as f64));
    let ratio = median(ours.iter().zip(peer).map(|(ours, peer)| ours.cpu.as_secs_f64() / peer.cpu.as_secs_f64()));
    println!("{name:<48} {:>9.2} us {:>9.2} us {ratio:>7.2}  {goal}", each(ours), each(peer));
}

/// Tails very many shards in one process, which polls each once a second.
pub(crate) fn shards() -> Result<()> {
    let place = Place::start()?;
    place.fresh_stream(STREAM, MANY_SHARDS)?;
    let load = Load { name: "", records: 0, bytes: 0 };
    let (said, measured) = measure_output(&mut place.job(Job::Idle, STREAM, load)?)?;
    let numbers = said.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let &[start, start_cpu, idle, arrived] = &numbers[..] else { bail!("four numbers are expected: {said}") };
    println!("\n{MANY_SHARDS} shards of Kinesis, tailed in one process by polling\n");
    println!("{:<48} {:>9.0} ms", "until all are tailed", start * 1e3);
    println!("{:<48} {:>9.0} ms", "  CPU time of that", start_cpu * 1e3);
    println!("{:<48} {:>9.1} %", "CPU while idle, of a core", idle * 1e2);
    println!("{:<48} {:>9.0} us", "  a poll", idle * 1e6 / MANY_SHARDS as f64);
    println!("{:<48} {:>9.0} ms", "until a record put to each has arrived", arrived * 1e3);
    println!("{:<48} {:>9.0} MiB", "peak memory", measured.peak_bytes as f64 / f64::from(1 << 20));
    Ok(())
}
