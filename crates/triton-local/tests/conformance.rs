//! The conformance suite on SQLite files.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{TransactionBehavior, params};
use triton_core::testing::Faults;
use triton_core::testing::conformance::{Retention, Suite};
use triton_core::{RecordId, async_trait, conformance};
use triton_local::LocalStreams;

/// Removes records from the files of a folder as a writer does, which looks for those past retention once a minute.
#[derive(Debug)]
struct LocalRetention {
    folder: tempfile::TempDir,
}

#[async_trait]
impl Retention for LocalRetention {
    async fn expire(&self, stream: &str, newest: &[RecordId]) {
        let file = self.folder.path().join(format!("streams/{stream}.db"));
        let mut file = rusqlite::Connection::open(file).expect("a database");
        file.busy_timeout(Duration::from_secs(60)).expect("a timeout");
        let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate).expect("a transaction");
        transaction.execute("DELETE FROM record", []).expect("removed");
        for RecordId { shard, sequence_number, .. } in newest {
            let through = u64::try_from(*sequence_number).expect("a sequence number of a local stream");
            let removed_through = "UPDATE shard SET removed_through = ?2 WHERE number = ?1";
            transaction.execute(removed_through, params![shard.number(), through]).expect("noted");
        }
        transaction.commit().expect("a commit");
    }
}

fn suite() -> Suite {
    let folder = tempfile::tempdir().expect("a folder");
    Suite::new(Arc::new(LocalStreams::new(folder.path())), LocalRetention { folder })
}

conformance!(local, suite());
conformance!(local_under_faults, suite().with_faults(Faults::all(), 1));
