//! The server over HTTP: the compatibility shim and the injected faults.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there fails it")]

mod client;
mod ends;
mod faults;
mod lists;
mod positions;
mod reshard;
mod shim;
