//! The conformance suite on SQLite files.

use std::sync::Arc;

use triton_core::conformance;
use triton_core::testing::Faults;
use triton_core::testing::conformance::Suite;
use triton_local::LocalStreams;

fn suite() -> Suite {
    let folder = tempfile::tempdir().expect("a folder");
    Suite::new(Arc::new(LocalStreams::new(folder.path()))).holding(folder)
}

conformance!(local, suite());
conformance!(local_under_faults, suite().with_faults(Faults::all(), 1));
