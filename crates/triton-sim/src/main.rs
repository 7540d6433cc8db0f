//! The deterministic simulation: the real [`Producer`](triton_core::Producer) and [`Reader`](triton_core::Reader) over
//! a model of Kinesis, on a clock that a seed drives.
//!
//! A seed is one run. It decides the stream, the puts, the readers and every fault; the same seed gives the same run,
//! byte for byte. A violation of an invariant is reported with its seed, and `replay` prints the run call by call.

mod check;
mod command;
mod connect;
mod model;
mod mutants;
mod payload;
mod producer;
mod quota;
mod reader;
mod run;
mod scenario;
mod trace;

fn main() -> anyhow::Result<std::process::ExitCode> {
    command::run()
}
