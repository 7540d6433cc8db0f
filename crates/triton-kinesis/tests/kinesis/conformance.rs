//! The conformance suite: without faults, under faults of the client, and under faults of the
//! server and the connection to it.

use std::sync::Arc;
use std::time::Duration;

use triton_core::testing::Faults;
use triton_core::testing::conformance::{Retention, Suite};
use triton_core::{RecordId, async_trait};
use triton_test_server::{Fault, Operation, PastRetention};

use crate::fixture::{FanOut, Fixture};

/// The server's dates count seconds; the rest is for responses that are slow to arrive.
const CLOCK_GRAIN: Duration = Duration::from_millis(2_500);

#[async_trait]
impl Retention for Fixture {
    async fn expire(&self, stream: &str, newest: &[RecordId]) {
        for RecordId { shard, sequence_number, .. } in newest {
            let form = PastRetention::InvalidArgument;
            self.server.faults().trim(stream, shard.as_str(), &sequence_number.to_string(), form);
        }
    }
}

async fn plain() -> Suite {
    let fixture = Fixture::new().await;
    Suite::new(Arc::new(fixture.kinesis.clone()), fixture).with_clock_grain(CLOCK_GRAIN)
}

async fn under_faults() -> Suite {
    plain().await.with_faults(Faults::all(), 1)
}

/// Occasional faults of the network and of a busy Kinesis. A record whose acknowledgement was lost is put again.
async fn under_random_faults() -> Suite {
    let fixture = Fixture::new().await;
    let mut chances = Vec::new();
    for fault in [
        Fault::ThrottleCall,
        Fault::ThrottleEntries,
        Fault::FailEntries,
        Fault::ReorderEntries,
        Fault::InternalErrorBefore,
        Fault::InternalErrorAfter,
        Fault::UnavailableBefore,
        Fault::ResetBefore,
        Fault::ResetAfter,
        Fault::TruncatedAfter,
        Fault::EmptyAfter,
        Fault::GarbageAfter,
    ] {
        chances.push((Operation::PutRecords, fault, 0.02));
    }
    chances.push((Operation::PutRecords, Fault::SilenceBefore, 0.004));
    chances.push((Operation::PutRecords, Fault::SilenceAfter, 0.004));
    for fault in [
        Fault::ThrottleCall,
        Fault::InternalErrorBefore,
        Fault::UnavailableBefore,
        Fault::ResetBefore,
        Fault::ResetAfter,
        Fault::TruncatedAfter,
        Fault::EmptyAfter,
        Fault::GarbageAfter,
        Fault::ExpiredIterator,
        Fault::EmptyPage,
    ] {
        chances.push((Operation::GetRecords, fault, 0.02));
    }
    for operation in [Operation::GetShardIterator, Operation::ListShards] {
        for fault in [Fault::ThrottleCall, Fault::InternalErrorBefore, Fault::ResetBefore, Fault::TruncatedAfter] {
            chances.push((operation, fault, 0.02));
        }
    }
    fixture.server.faults().inject_randomly(1, chances);
    Suite::new(Arc::new(fixture.impatient.clone()), fixture)
        .with_clock_grain(CLOCK_GRAIN)
        // Allows duplicates; the server injects the faults.
        .with_faults(Faults::default(), 1)
}

/// With fan-out, one consumer per client.
async fn pushed() -> Suite {
    let fixture = Fixture::pushing().await;
    Suite::new(Arc::new(FanOut::over(&fixture.kinesis)), fixture).with_clock_grain(CLOCK_GRAIN)
}

async fn pushed_under_faults() -> Suite {
    pushed().await.with_faults(Faults::all(), 1)
}

/// The faults of subscriptions, much more often than in practice.
async fn fan_out_under_random_faults() -> Suite {
    let fixture = Fixture::pushing().await;
    let mut chances = Vec::new();
    for fault in [
        Fault::ThrottleCall,
        Fault::ResourceInUse,
        Fault::InternalErrorBefore,
        Fault::InternalErrorAfter,
        Fault::UnavailableBefore,
        Fault::ResetBefore,
        Fault::ResetAfter,
        Fault::ResetMidStream,
        Fault::FailureMidStream,
        Fault::TakenMidStream,
        Fault::GarbageMidStream,
        Fault::BareMidStream,
        Fault::EndMidStream,
    ] {
        chances.push((Operation::SubscribeToShard, fault, 0.06));
    }
    chances.push((Operation::SubscribeToShard, Fault::SilenceMidStream, 0.02));
    fixture.server.faults().inject_randomly(1, chances);
    Suite::new(Arc::new(FanOut::over(&fixture.impatient)), fixture).with_clock_grain(CLOCK_GRAIN)
}

triton_core::conformance!(on_a_server, plain().await);
triton_core::conformance!(under_faults_of_the_client, under_faults().await);
triton_core::conformance!(under_faults_of_the_server, under_random_faults().await);
triton_core::conformance!(by_fan_out, pushed().await);
triton_core::conformance!(by_fan_out_under_faults_of_the_client, pushed_under_faults().await);
triton_core::conformance!(by_fan_out_under_faults_of_subscriptions, fan_out_under_random_faults().await);
