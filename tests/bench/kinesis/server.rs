//! The Kinesis server of the benchmarks, in a process of its own, so that its time and memory are not counted.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result};
use triton_core::{CreateOptions, Error, StreamAdmin as _};
use triton_kinesis::{ConnectOptions, Kinesis};
use triton_test_server::{Operation, Server, ServerOptions};

use super::job::{Job, Load};

/// Runs the server in this process, with the compatibility shim or, faster, without. Prints its URL, then the number of
/// PutRecords requests so far for each line of stdin, until stdin is closed.
pub(super) fn serve(has_shim: bool) -> Result<()> {
    let server = Server::start(ServerOptions::default().with_shim(has_shim))?;
    println!("{}", server.endpoint_url());
    for line in std::io::stdin().lock().lines() {
        line?;
        println!("{}", server.faults().requests(Operation::PutRecords));
    }
    Ok(())
}

/// The server's process, and the clients' connection to it.
pub(crate) struct ServerProcess {
    process: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    url: String,
}

impl ServerProcess {
    /// Starts the server without the shim: faster, and limited to 5 MiB per call.
    pub(crate) fn start() -> Result<Self> {
        Self::start_as("--kinesis-server")
    }

    /// Starts the server with the compatibility shim.
    pub(crate) fn start_with_shim() -> Result<Self> {
        Self::start_as("--shimmed-kinesis-server")
    }

    fn start_as(flag: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.arg(flag).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut stdout = BufReader::new(process.stdout.take().context("a pipe")?);
        let stdin = process.stdin.take().context("a pipe")?;
        let mut url = String::new();
        stdout.read_line(&mut url)?;
        Ok(Self { process, pipes: RefCell::new((stdin, stdout)), url: url.trim_end().to_owned() })
    }

    /// Number of PutRecords requests so far.
    pub(super) fn put_requests(&self) -> Result<u64> {
        let (stdin, stdout) = &mut *self.pipes.borrow_mut();
        writeln!(stdin)?;
        let mut count = String::new();
        stdout.read_line(&mut count)?;
        Ok(count.trim_end().parse()?)
    }

    fn environment(&self, command: &mut Command) {
        command.env_clear().envs([
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &self.url),
        ]);
    }

    pub(crate) fn job(&self, job: Job, stream: &str, load: Load) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--kinesis", job.name(), stream, &load.records.to_string(), &load.bytes.to_string()]);
        self.environment(&mut command);
        Ok(command)
    }

    pub(super) fn boto3(&self, job: &str, stream: &str, arguments: &[usize]) -> Result<Command> {
        let python = std::env::var("TRITON_PYTHON").context("$TRITON_PYTHON: run 'make bench'")?;
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/services/client.py")).args([job, stream]);
        command.args(arguments.iter().map(usize::to_string));
        self.environment(&mut command);
        Ok(command)
    }

    /// A client of the server in this process.
    pub(crate) async fn kinesis(&self) -> Result<Kinesis> {
        let credentials = aws_sdk_kinesis::config::Credentials::new("key", "secret", None, None, "bench");
        let config = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
            .credentials_provider(credentials)
            .region("us-east-1")
            .load()
            .await;
        Ok(Kinesis::over(config, ConnectOptions::default().with_endpoint_url(&self.url))?)
    }

    /// Creates the stream anew, with this number of shards.
    pub(crate) fn fresh_stream(&self, stream: &str, shards: usize) -> Result<()> {
        crate::runtime()?.block_on(async {
            let kinesis = self.kinesis().await?;
            match kinesis.delete(stream).await {
                Ok(()) | Err(Error::StreamNotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(kinesis.create(stream, CreateOptions::default().with_shards(shards)).await?)
        })
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
