//! The server over HTTP: each mend, and the faults that take some doing.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there fails it")]

mod client;
mod faults;
mod reshard;
mod shim;
