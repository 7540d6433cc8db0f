//! The backend against a Kinesis server over HTTP, plain and under faults.

mod conformance;
mod ends;
mod fan_out;
mod faults;
mod fixture;
mod positions;
mod wrong_positions;
