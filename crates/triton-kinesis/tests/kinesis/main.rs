//! The backend against a Kinesis server over HTTP, plain and under faults.

mod conformance;
mod faults;
mod place;
mod positions;
