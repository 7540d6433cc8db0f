//! End-to-end tests: the built `triton` command, real processes, real files.
//!
//! They run the command in the target folder and fail without it; `make test` builds it first.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there fails it")]

mod caught_up;
mod crash;
mod direct;
mod first_run;
mod follow;
mod home;
mod input;
mod keyed;
mod kinesis;
mod lagging_lists;
mod lagging_puts;
mod live_reshard;
mod mistakes;
mod one_program;
mod shards;
mod shared_work;
mod signals;
mod storage;
