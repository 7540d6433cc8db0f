//! The deterministic simulation: the real [`Producer`](triton_core::Producer) and [`Reader`](triton_core::Reader) over a
//! model of Kinesis, on a clock that a seed drives.
//!
//! A seed is one run. It decides the stream, what is put and read, and everything that goes wrong; the same seed gives the
//! same run, byte for byte. What breaks an invariant is told with its seed, and `replay` shows it call by call.

mod check;
mod command;
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
