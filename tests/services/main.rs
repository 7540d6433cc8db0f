//! Triton beside software that others wrote. `make test-services` installs what these tests need and runs them; without
//! it they fail.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there fails it")]

mod boto3;
#[path = "../e2e/home.rs"]
#[expect(dead_code, reason = "these tests need less of it than the others")]
mod home;
