//! Triton with third-party software. `make test-services` installs what these tests need and runs them; without
//! it they fail.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there fails it")]

mod aggregate;
mod boto3;
#[path = "../e2e/home.rs"]
#[expect(dead_code, reason = "these tests need less of it than the others")]
mod home;

use std::path::Path;
use std::process::Command;

/// A Python program of this folder, with its packages.
fn python(program: &str) -> Command {
    let python = std::env::var("TRITON_PYTHON").expect("$TRITON_PYTHON: run 'make test-services'");
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("services").join(program));
    command
}
