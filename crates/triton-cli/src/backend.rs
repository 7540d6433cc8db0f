//! The one place where config becomes a backend.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use triton_core::{Backend, Config, CreateOptions, Error, Stream, StreamAdmin, StreamClient, StreamConfig};
use triton_kinesis::{ConnectOptions, Kinesis, KinesisStream};
use triton_local::LocalStreams;

use crate::command::Global;
use crate::exit::{self, Code, Failure};

/// A config that was named or found, or none.
pub(crate) fn find_config(global: &Global) -> Result<Option<Config>> {
    if let Some(file) = &global.config {
        return Ok(Some(Config::load(file)?));
    }
    if let Some(file) = env::var_os("TRITON_CONFIG").filter(|file| !file.is_empty()) {
        return Ok(Some(Config::load(PathBuf::from(file))?));
    }
    let user = user_folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("triton/triton.yaml"));
    let candidates = [Some("triton.yaml".into()), user, Some("/etc/triton.yaml".into())];
    match candidates.into_iter().flatten().find(|file: &PathBuf| is_there(file)) {
        Some(file) => Ok(Some(Config::load(file)?)),
        None => Ok(None),
    }
}

/// A link that leads nowhere is a config that cannot be read, and no reason to do without one.
fn is_there(file: &Path) -> bool {
    file.symlink_metadata().is_ok()
}

/// What a stream's name stands for: what the config says, or a local stream where nothing says otherwise.
pub(crate) fn configure(global: &Global, name: &str) -> Result<StreamConfig> {
    let config = find_config(global)?;
    if global.local {
        let configured = config.and_then(|config| config.stream(name).ok().cloned());
        let mut stream = configured.unwrap_or_else(|| StreamConfig::local(name));
        stream.backend = Backend::Local;
        return Ok(stream);
    }
    if let Some(config) = config {
        return Ok(config.stream(name)?.clone());
    }
    if let Some(reason) = points_to_aws(global) {
        let message = format!("no config says what '{name}' is, and {reason} points to AWS: not taking a local stream");
        return Err(Failure::new(Code::Config, message)
            .with_help("write a triton.yaml ('triton init'), or use --local for a stream on this machine")
            .into());
    }
    let stream = StreamConfig::local(name);
    if !global.quiet {
        let file = local_streams(&stream)?.folder().join("streams").join(format!("{name}.db"));
        exit::note(&format!("no config found; '{name}' is a local stream ({})", shorten(&file)));
    }
    Ok(stream)
}

/// Variables that machines set for every program, whether or not anybody there uses AWS.
const SAYS_NOTHING: [&str; 2] = ["AWS_CA_BUNDLE", "AWS_PAGER"];

/// What shows that the user means AWS, so that a local stream would be a surprise.
pub(crate) fn points_to_aws(global: &Global) -> Option<String> {
    let flags =
        [("--profile", &global.profile), ("--region", &global.region), ("--endpoint-url", &global.endpoint_url)];
    if let Some((flag, _)) = flags.iter().find(|(_, value)| value.is_some()) {
        return Some((*flag).to_owned());
    }
    let mut variables: Vec<String> = env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("AWS_") && !SAYS_NOTHING.contains(&name.as_str()))
        .collect();
    variables.sort_unstable();
    variables.into_iter().next().map(|variable| format!("${variable}"))
}

/// A client for the stream. A local stream is made on first use; one on Kinesis has to be there.
pub(crate) async fn open(global: &Global, config: &StreamConfig) -> Result<Arc<dyn StreamClient>> {
    match config.backend {
        Backend::Local => {
            let options = CreateOptions::default().with_shards(config.shards);
            Ok(local_streams(config)?.open_or_create(&config.name, options).await?)
        }
        _ => Ok(kinesis(global, config).await?.open(&config.name).await?),
    }
}

/// A client for a stream that has to be there, local or not.
pub(crate) async fn open_existing(global: &Global, config: &StreamConfig) -> Result<Arc<dyn StreamClient>> {
    Ok(admin(global, config).await?.open(&config.name).await?)
}

/// The stream under its logical name.
pub(crate) async fn stream(global: &Global, name: &str) -> Result<Stream> {
    let config = configure(global, name)?;
    let client = open(global, &config).await?;
    Ok(Stream::new(&config, client))
}

/// The stream under its logical name, whose records Kinesis pushes to a consumer.
pub(crate) async fn fan_out(global: &Global, name: &str, consumer: &str) -> Result<Stream> {
    let config = configure(global, name)?;
    let client = on_kinesis(global, &config).await?.fan_out(consumer).await?;
    if client.has_new_consumer() && !global.quiet {
        exit::note(&format!(
            "consumer '{consumer}' is registered now, and costs money until it is removed: 'triton streams consumers \
             delete -s {name} {consumer} --yes'"
        ));
    }
    Ok(Stream::new(&config, Arc::new(client)))
}

/// A stream that has consumers, which a local one has not.
pub(crate) async fn on_kinesis(global: &Global, config: &StreamConfig) -> Result<KinesisStream> {
    if config.backend == Backend::Local {
        let message = format!("'{}' is a local stream: only Kinesis has enhanced fan-out", config.logical_name);
        return Err(Failure::new(Code::Usage, message)
            .with_help("a local stream pushes anyway, to any number of readers")
            .into());
    }
    Ok(kinesis(global, config).await?.stream(&config.name)?)
}

/// What makes and changes streams where this one is.
pub(crate) async fn admin(global: &Global, config: &StreamConfig) -> Result<Arc<dyn StreamAdmin>> {
    match config.backend {
        Backend::Local => Ok(Arc::new(local_streams(config)?)),
        _ => Ok(Arc::new(kinesis(global, config).await?)),
    }
}

/// The Kinesis that a stream is on: what the flags say, else the config, else the environment.
pub(crate) async fn kinesis(global: &Global, config: &StreamConfig) -> Result<Kinesis> {
    let mut options = ConnectOptions::of_stream(config).map_err(as_config)?;
    options.profile.clone_from(&global.profile);
    if global.region.is_some() {
        options.region.clone_from(&global.region);
    }
    if global.endpoint_url.is_some() {
        options.endpoint_url.clone_from(&global.endpoint_url);
    }
    options.allow_insecure_endpoint = global.insecure_endpoint;
    let mut connections = global.connections.0.lock().await;
    if let Some((_, kinesis)) = connections.iter().find(|(known, _)| *known == options) {
        return Ok(kinesis.clone());
    }
    let kinesis = Kinesis::connect(options.clone()).await.map_err(as_config)?;
    connections.push((options, kinesis.clone()));
    if kinesis.has_default_region() && !global.quiet {
        exit::note(&format!("no region is set: taking {}", kinesis.region()));
    }
    Ok(kinesis)
}

/// Connections by what they were made from: streams of one place share one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<tokio::sync::Mutex<Vec<(ConnectOptions, Kinesis)>>>);

/// What is wrong with a region, an endpoint or an ARN is wrong in the config, or in a flag that stands for it.
fn as_config(error: Error) -> Failure {
    let failure = Failure::new(Code::Config, error.to_string());
    match error.to_string().contains("plain HTTP") {
        true => failure.with_help("use https, or --insecure-endpoint if that is what you want"),
        false => failure,
    }
}

/// The folder of local streams: the config's, or the user's own.
fn local_streams(config: &StreamConfig) -> Result<LocalStreams> {
    let folder = match &config.path {
        Some(folder) => folder.clone(),
        None => user_folder("XDG_DATA_HOME", ".local/share")
            .ok_or_else(|| {
                Failure::new(Code::Config, "no folder for local streams: $HOME is not set")
                    .with_help("set $XDG_DATA_HOME, or give the stream a path in the config")
            })?
            .join("triton"),
    };
    Ok(LocalStreams::new(folder))
}

/// A folder of the XDG base directory specification, which ignores paths that are relative.
fn user_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}

/// A path with the home folder as `~`.
pub(crate) fn shorten(path: &Path) -> String {
    let below_home = env::var_os("HOME").and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned));
    match below_home {
        Some(rest) if rest != path => format!("~/{}", rest.display()),
        _ => path.display().to_string(),
    }
}

/// The id of a shard by its number.
pub(crate) async fn shard_id(client: &dyn StreamClient, number: usize) -> Result<triton_core::ShardId> {
    let shards = client.shards().await?;
    let out_of_range = || Error::ShardOutOfRange { number, stream: client.name().into(), count: shards.len() };
    Ok(shards.get(number).ok_or_else(out_of_range)?.id.clone())
}
