//! What one run of the command knows: its global options, the config, and the backends with their connections.

#[cfg_attr(not(feature = "kinesis"), path = "session/no_kinesis.rs")]
mod kinesis;

use std::env;
#[cfg(feature = "local")]
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use triton_stream::{Backend, Config, CreateOptions, Stream, StreamAdmin, StreamClient, StreamConfig, Triton};

use crate::args::Global;
use crate::exit::{Code, Failure};

use self::kinesis::KinesisAccess;

/// The name of the backend of streams on this machine.
const LOCAL: &str = "local";

/// The name of the backend that AWS variables and flags point to.
const KINESIS: &str = "kinesis";

/// What the subcommands work with. Streams of one run share connections and files.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) global: &'a Global,
    triton: Triton,
    /// For what Kinesis alone has.
    pub(crate) kinesis: KinesisAccess,
}

impl<'a> Session<'a> {
    /// Finds and reads the config, where there is one.
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

    /// What a stream's name stands for: what the config says, or a local stream where nothing says otherwise.
    pub(crate) fn configure(&self, name: &str) -> Result<StreamConfig> {
        if self.global.local {
            let configured = self.config().and_then(|config| config.stream(name).ok().cloned());
            return Ok(configured.unwrap_or_else(|| StreamConfig::new(name)).with_backend(LOCAL));
        }
        if self.config().is_some() {
            return Ok(self.triton.stream_config(name)?);
        }
        if let Some(reason) = self.points_to_aws() {
            let message =
                format!("no config says what '{name}' is, and {reason} points to AWS: not taking a local stream");
            return Err(Failure::new(Code::Config, message)
                .with_help("write a triton.yaml ('triton init'), or use --local for a stream on this machine")
                .into());
        }
        let stream = self.triton.stream_config(name)?;
        self.note_local_stream(&stream)?;
        Ok(stream)
    }

    /// Where streams are listed when no config lists them: the AWS account that the user points to, or this machine.
    pub(crate) fn unconfigured_place(&self) -> StreamConfig {
        let backend = if !self.global.local && self.points_to_aws().is_some() { KINESIS } else { LOCAL };
        StreamConfig::new("").with_backend(backend)
    }

    /// What shows that the user means AWS, so that a local stream would be a surprise.
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

    /// What creates and changes streams where this one is.
    pub(crate) async fn admin(&self, config: &StreamConfig) -> Result<Arc<dyn StreamAdmin>> {
        self.kinesis.note_default_region(config).await?;
        Ok(self.backend(config)?.admin(config).await?)
    }

    /// How the stream is created, by its config.
    pub(crate) fn create_options(&self, config: &StreamConfig) -> Result<CreateOptions> {
        Ok(self.backend(config)?.create_options(config)?)
    }
}

#[cfg(feature = "local")]
impl Session<'_> {
    /// Says that no config is used, and where the stream is.
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
    /// There are no local streams; opening this one says so.
    fn note_local_stream(&self, _: &StreamConfig) -> Result<()> {
        Ok(())
    }
}

/// Variables that machines set for every program, whether or not anybody there uses AWS.
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

/// The id of a shard by its number.
pub(crate) async fn shard_id(client: &dyn StreamClient, number: usize) -> Result<triton_stream::ShardId> {
    let shards = client.shards().await?;
    let out_of_range =
        || triton_stream::Error::ShardOutOfRange { number, stream: client.name().into(), count: shards.len() };
    Ok(shards.get(number).ok_or_else(out_of_range)?.id.clone())
}
