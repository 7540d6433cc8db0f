//! The state of one run: the global options, the config, and the backends with their connections.

#[cfg_attr(not(feature = "kinesis"), path = "session/no_kinesis.rs")]
mod kinesis;

use std::env;
#[cfg(feature = "local")]
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use triton_stream::flow::random_seed;
use triton_stream::{
    Backend, Config, CreateOptions, RetryPolicy, ShardId, ShardRef, Stream, StreamAdmin, StreamClient, StreamConfig,
    Triton,
};

use crate::args::Global;
use crate::exit::{self, Code, Failure};

use self::kinesis::KinesisAccess;

/// Name of the backend of local streams.
const LOCAL: &str = "local";

/// Name of the backend that AWS variables and flags point to.
const KINESIS: &str = "kinesis";

/// The config and the backends of one run. Its streams share connections and files.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) global: &'a Global,
    triton: Triton,
    /// Features that only Kinesis has.
    pub(crate) kinesis: KinesisAccess,
}

impl<'a> Session<'a> {
    /// Finds and reads the config, if there is one.
    pub(crate) fn new(global: &'a Global) -> Result<Self> {
        let config = match &global.config {
            Some(file) => Some(Config::load(file)?),
            None => Config::find()?,
        };
        let kinesis = KinesisAccess::new(global);
        let builder = kinesis.register(Triton::builder());
        let triton = match config {
            Some(config) => builder.from_config(config)?,
            None => builder.local(),
        };
        Ok(Self { global, triton, kinesis })
    }

    /// The config that was named or found.
    pub(crate) fn config(&self) -> Option<&Config> {
        self.triton.config()
    }

    /// The config of a stream: its section of the config file. Without a file, a local stream, unless the user points
    /// to AWS.
    pub(crate) fn configure(&self, name: &str) -> Result<StreamConfig> {
        if self.global.local {
            let configured = self.config().and_then(|config| config.stream(name).ok().cloned());
            return Ok(configured.unwrap_or_else(|| StreamConfig::new(name)).with_backend(LOCAL));
        }
        if self.config().is_some() {
            return Ok(self.triton.stream_config(name)?);
        }
        if let Some(reason) = self.points_to_aws() {
            let message = format!("no config describes '{name}', and {reason} points to AWS: not using a local stream");
            return Err(Failure::new(Code::Config, message)
                .with_help("write a triton.yaml ('triton init'), or use --local for a stream on this machine")
                .into());
        }
        let stream = self.triton.stream_config(name)?;
        self.note_local_stream(&stream)?;
        Ok(stream)
    }

    /// A stream without a name, to reach a backend when no config lists streams: Kinesis if the user points to AWS,
    /// else local.
    pub(crate) fn unnamed_stream(&self) -> StreamConfig {
        let backend = if !self.global.local && self.points_to_aws().is_some() { KINESIS } else { LOCAL };
        StreamConfig::new("").with_backend(backend)
    }

    /// The flag or variable that points to AWS. A user who has set one does not expect a local stream.
    pub(crate) fn points_to_aws(&self) -> Option<String> {
        points_to_aws(self.global)
    }

    /// The backend that a stream is on.
    pub(crate) fn backend(&self, config: &StreamConfig) -> Result<&Arc<dyn Backend>> {
        Ok(self.triton.backend(config)?)
    }

    /// A client for the stream. A local stream is created on first use; one on Kinesis has to exist.
    pub(crate) async fn open(&self, config: &StreamConfig) -> Result<Arc<dyn StreamClient>> {
        self.kinesis.note_default_region(config).await?;
        Ok(self.backend(config)?.open(config).await?)
    }

    /// The stream under its logical name.
    pub(crate) async fn stream(&self, name: &str) -> Result<Stream> {
        let config = self.configure(name)?;
        let client = self.open(&config).await?;
        Ok(Stream::new(&config, client))
    }

    /// The admin of the account or folder that holds the stream, which creates and changes streams.
    pub(crate) async fn admin(&self, config: &StreamConfig) -> Result<Arc<dyn StreamAdmin>> {
        self.kinesis.note_default_region(config).await?;
        Ok(self.backend(config)?.admin(config).await?)
    }

    /// Options to create the stream with, from its config.
    pub(crate) fn create_options(&self, config: &StreamConfig) -> Result<CreateOptions> {
        Ok(self.backend(config)?.create_options(config)?)
    }
}

#[cfg(feature = "local")]
impl Session<'_> {
    /// Prints that no config was found, and the stream's file.
    fn note_local_stream(&self, stream: &StreamConfig) -> Result<()> {
        if !self.global.quiet {
            let streams = triton_stream::local::LocalBackend::default().streams(stream)?;
            let file = streams.folder().join("streams").join(format!("{}.db", stream.name));
            crate::exit::note(&format!("no config found; '{}' is a local stream ({})", stream.name, shorten(&file)));
        }
        Ok(())
    }
}

#[cfg(not(feature = "local"))]
impl Session<'_> {
    /// Prints nothing: this build has no local streams, and opening the stream fails.
    fn note_local_stream(&self, _: &StreamConfig) -> Result<()> {
        Ok(())
    }
}

/// AWS variables that are often set machine-wide, even where nobody uses AWS.
const NO_SIGN_OF_AWS: [&str; 2] = ["AWS_CA_BUNDLE", "AWS_PAGER"];

fn points_to_aws(global: &Global) -> Option<String> {
    let flags =
        [("--profile", &global.profile), ("--region", &global.region), ("--endpoint-url", &global.endpoint_url)];
    if let Some((flag, _)) = flags.iter().find(|(_, value)| value.is_some()) {
        return Some((*flag).to_owned());
    }
    let mut variables: Vec<String> = env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("AWS_") && !NO_SIGN_OF_AWS.contains(&name.as_str()))
        .collect();
    variables.sort_unstable();
    variables.into_iter().next().map(|variable| format!("${variable}"))
}

/// A path with the home folder as `~`.
#[cfg(feature = "local")]
fn shorten(path: &Path) -> String {
    let below_home = env::var_os("HOME").and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned));
    match below_home {
        Some(rest) if rest != path => format!("~/{}", rest.display()),
        _ => path.display().to_string(),
    }
}

/// The ids of the shards that the user names, one for each. A number means another shard once retention has removed one before it, so the id
/// that it stands for is said.
pub(crate) async fn shard_ids(global: &Global, client: &dyn StreamClient, shards: &[ShardRef]) -> Result<Vec<ShardId>> {
    let ids = triton_stream::backend::shard_ids(client, shards, RetryPolicy::default(), random_seed()).await?;
    for (shard, id) in shards.iter().zip(&ids) {
        if shard.number().is_some() && !global.quiet {
            exit::note(&format!("shard {shard} is {id}"));
        }
    }
    Ok(ids)
}
