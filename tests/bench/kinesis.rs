//! Kinesis: the client's CPU time per record, compared with a plain loop over the AWS SDK and with boto3, and the cost of
//! tailing 1,000 shards.

mod job;
mod server;

use std::path::Path;

use anyhow::{Result, bail};

use crate::measure::{Measured, interleave, measure, measure_output, median};

pub(crate) use self::job::{Job, Load, stream_over};
pub(crate) use self::server::ServerProcess;

/// Enough shards that the write quota is not the limit: the library keeps to it (1,000 records and 1 MB per second and
/// shard), the plain loop does not.
const SHARDS: usize = 256;
/// Aggregated records are limited by their bytes only.
const AGGREGATED_SHARDS: usize = 32;
/// Shards tailed by one process.
const TAILED_SHARDS: usize = 1_000;

const STREAM: &str = "bench";
const AGGREGATED: &str = "bench-aggregated";

const SMALL: Load = Load { name: "100 B", records: 400_000, bytes: 100 };
const LARGE: Load = Load { name: "1 KiB", records: 150_000, bytes: 1024 };

/// Runs as a child process of this benchmark, if the arguments say so.
pub(crate) fn child(arguments: &[String]) -> Option<Result<()>> {
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match arguments[..] {
        ["--kinesis-server"] => Some(server::serve(false)),
        ["--shimmed-kinesis-server"] => Some(server::serve(true)),
        ["--kinesis", job, stream, records, bytes] => Some(job::run(job, stream, records, bytes)),
        _ => None,
    }
}

/// Prints the rows.
pub(crate) fn bench(triton: &Path, runs: usize) -> Result<()> {
    let bench = Bench { server: ServerProcess::start()?, runs };
    println!("\nKinesis, client CPU a record, medians of {runs} runs taking turns; {SHARDS} shards, with aggregates");
    println!("{AGGREGATED_SHARDS}; the peer makes one request at a time\n");
    println!("{:<48} {:>12} {:>12} {:>7}  goal", "row", "triton", "peer", "ratio");
    for load in [LARGE, SMALL] {
        // Only the larger records have goals.
        let goal = if load.bytes == LARGE.bytes { "<= 1.10" } else { "" };
        bench.put(Job::PutOrdered, "put in order", load, goal)?;
        bench.put(Job::PutRelaxed, "put in any order", load, goal)?;
        bench.put(Job::PutBatch, "StreamClient::put_batch", load, "")?;
        bench.put(Job::PutTyped, "put typed", load, "")?;
        bench.put_beside_boto3(load)?;
        bench.get(load)?;
    }
    // Calls of aggregates have up to 10 MiB, which only the shim accepts.
    Bench { server: ServerProcess::start_with_shim()?, runs }.aggregated()?;
    let size = std::fs::metadata(triton)?.len() as f64 / 1e6;
    println!("{:<48} {size:>9.1} MB  goal < 25 MB", "the command, stripped");
    Ok(())
}

struct Bench {
    server: ServerProcess,
    runs: usize,
}

impl Bench {
    fn put(&self, job: Job, what: &str, load: Load, goal: &str) -> Result<()> {
        let Self { server, runs } = self;
        let (ours, peer) = interleave(
            *runs,
            || server.fresh_stream(STREAM, SHARDS).and_then(|()| server.job(job, STREAM, load)),
            || server.fresh_stream(STREAM, SHARDS).and_then(|()| server.job(Job::PutPlain, STREAM, load)),
        )?;
        row(&format!("{what}, {} / SDK loop of blobs", load.name), load, &ours, &peer, goal);
        Ok(())
    }

    fn put_beside_boto3(&self, load: Load) -> Result<()> {
        let Self { server, runs } = self;
        let (ours, peer) = interleave(
            *runs,
            || server.fresh_stream(STREAM, SHARDS).and_then(|()| server.job(Job::PutTyped, STREAM, load)),
            || {
                let arguments = [load.records, load.bytes];
                server.fresh_stream(STREAM, SHARDS).and_then(|()| server.boto3("put-many", STREAM, &arguments))
            },
        )?;
        row(&format!("put typed, {} / boto3 and msgpack", load.name), load, &ours, &peer, "");
        Ok(())
    }

    fn get(&self, load: Load) -> Result<()> {
        let Self { server, runs } = self;
        server.fresh_stream(STREAM, SHARDS)?;
        measure(&mut server.job(Job::PutTyped, STREAM, load)?)?;
        let get = || server.job(Job::GetTyped, STREAM, load);
        let (ours, peer) = interleave(*runs, get, || server.job(Job::GetPlain, STREAM, load))?;
        row(&format!("get typed, {} / SDK loop that drops", load.name), load, &ours, &peer, "<= 1.20");
        let (ours, peer) = interleave(*runs, get, || server.boto3("get-many", STREAM, &[load.records]))?;
        row(&format!("get typed, {} / boto3 and msgpack", load.name), load, &ours, &peer, "");
        Ok(())
    }

    /// Small records in aggregates, compared with plain loops without.
    fn aggregated(&self) -> Result<()> {
        let Self { server, runs } = self;
        let load = SMALL;
        let ours = || {
            server.fresh_stream(AGGREGATED, AGGREGATED_SHARDS)?;
            server.job(Job::PutAggregated, AGGREGATED, load)
        };
        let peer = || {
            server.fresh_stream(STREAM, AGGREGATED_SHARDS)?;
            server.job(Job::PutPlain, STREAM, load)
        };
        let (packed, plain) = interleave(*runs, ours, peer)?;
        row(&format!("put aggregated, {} / SDK loop of blobs", load.name), load, &packed, &plain, "<= 0.40");

        let requests = |command: Result<std::process::Command>| {
            let before = server.put_requests()?;
            measure(&mut command?)?;
            anyhow::Ok(server.put_requests()? - before)
        };
        let (ours, peer) = (requests(ours())?, requests(peer())?);
        println!("{:<48} {ours:>12} {peer:>12} {:>7.3}  <= 0.05", "  requests", ours as f64 / peer as f64);

        for (stream, job) in [(AGGREGATED, Job::PutTypedAggregated), (STREAM, Job::PutTyped)] {
            server.fresh_stream(stream, if stream == STREAM { SHARDS } else { AGGREGATED_SHARDS })?;
            measure(&mut server.job(job, stream, load)?)?;
        }
        let (ours, peer) = interleave(
            *runs,
            || server.job(Job::GetTyped, AGGREGATED, load),
            || server.job(Job::GetPlain, STREAM, load),
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

/// Tails many shards in one process, which polls each once a second.
pub(crate) fn shards() -> Result<()> {
    let server = ServerProcess::start()?;
    server.fresh_stream(STREAM, TAILED_SHARDS)?;
    let load = Load { name: "", records: 0, bytes: 0 };
    let (output, measured) = measure_output(&mut server.job(Job::Idle, STREAM, load)?)?;
    let numbers = output.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let &[start, start_cpu, idle, arrived] = &numbers[..] else { bail!("four numbers are expected: {output}") };
    println!("\n{TAILED_SHARDS} shards of Kinesis, tailed in one process by polling\n");
    println!("{:<48} {:>9.0} ms", "until all are tailed", start * 1e3);
    println!("{:<48} {:>9.0} ms", "  CPU time of that", start_cpu * 1e3);
    println!("{:<48} {:>9.1} %", "CPU while idle, of a core", idle * 1e2);
    println!("{:<48} {:>9.0} us", "  a poll", idle * 1e6 / TAILED_SHARDS as f64);
    println!("{:<48} {:>9.0} ms", "until a record put to each has arrived", arrived * 1e3);
    println!("{:<48} {:>9.0} MiB", "peak memory", measured.peak_bytes as f64 / f64::from(1 << 20));
    Ok(())
}
