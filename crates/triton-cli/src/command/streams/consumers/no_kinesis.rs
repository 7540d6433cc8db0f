//! Replaces `kinesis.rs` in a build without Kinesis.

use anyhow::Result;

use crate::session::Session;

use super::ConsumersCommand;

pub(in crate::command::streams) async fn run(session: &Session<'_>, _: ConsumersCommand) -> Result<()> {
    Err(session.kinesis.missing())
}
