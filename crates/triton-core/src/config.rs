//! The config file: logical streams by name.
//!
//! ```yaml
//! my_stream:                 # the logical name, which programs and the command use
//!   name: my_stream_v2       # the real stream
//!   partition_key: value     # the field whose value chooses the shard; null: keys chosen at random
//!   backend: local           # optional: the backend that holds the stream (default: kinesis)
//!   aggregate: true          # optional: pack records into aggregates, as the Kinesis Producer Library does
//!   region: us-west-1        # optional: a key of the Kinesis backend
//!   shards: 4                # optional: a key of both: the number of shards to create the stream with
//! ```
//!
//! Every stream has the first four keys. The others belong to the backends: each reads [its
//! own](StreamConfig::settings), and the [registry](crate::Registry) refuses a key that no backend knows. Keys of other
//! backends are allowed, so that a stream goes live by deleting one line.

mod keys;
mod search;
mod section;
mod settings;
mod similar;
mod yaml;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{ConfigError, Error, Result};
use crate::record::KeySource;

use self::section::{Section, Streams};
use self::similar::similar;
use self::yaml::Source;

pub use self::keys::KnownKeys;
pub use self::search::user_folder;
pub use self::settings::Settings;

/// The largest config file that is read.
const MAX_BYTES: u64 = 1 << 20;
const TOO_LARGE: &str = "over 1 MiB, too large for a config";

/// The backend of a stream whose section names none.
const DEFAULT_BACKEND: &str = "kinesis";

/// Every stream of a config file.
///
/// ```
/// use triton_core::Config;
///
/// let config = Config::parse("clicks: {name: clicks_v2, partition_key: user, backend: local}", "triton.yaml")?;
/// let clicks = config.stream("clicks")?;
/// assert_eq!((clicks.name.as_str(), clicks.backend.as_str()), ("clicks_v2", "local"));
/// assert_eq!(config.stream("clikcs").unwrap_err().to_string(), "no stream 'clikcs' in triton.yaml");
/// # Ok::<(), triton_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    source: Arc<Source>,
    streams: BTreeMap<String, StreamConfig>,
}

/// The config of one logical stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamConfig {
    /// The logical name: the key in the config file.
    pub logical_name: String,
    /// The real stream's name.
    pub name: String,
    /// Where its records' partition keys come from.
    pub partition_key: KeySource,
    /// The name of the backend that holds the stream.
    pub backend: String,
    /// Whether records are packed into aggregates, in the format of the Kinesis Producer Library.
    pub aggregate: bool,
    /// The section's other keys, which the backends read.
    pub settings: Settings,
}

impl StreamConfig {
    /// A stream whose logical name is its real name, with random partition keys and without settings, on the default
    /// backend.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            logical_name: name.clone(),
            name,
            partition_key: KeySource::Random,
            backend: DEFAULT_BACKEND.into(),
            aggregate: false,
            settings: Settings::default(),
        }
    }

    fn of_section(logical_name: String, section: Section, source: &Arc<Source>) -> Self {
        Self {
            settings: Settings::of_section(source, &logical_name),
            logical_name,
            name: section.name,
            partition_key: section.partition_key.map_or(KeySource::Random, KeySource::Field),
            backend: section.backend.unwrap_or_else(|| DEFAULT_BACKEND.into()),
            aggregate: section.aggregate,
        }
    }

    /// With another source of partition keys.
    pub fn with_partition_key(self, partition_key: KeySource) -> Self {
        Self { partition_key, ..self }
    }

    /// On another backend.
    pub fn with_backend(self, backend: impl Into<String>) -> Self {
        Self { backend: backend.into(), ..self }
    }

    /// With records packed into aggregates, or not.
    pub fn with_aggregate(self, aggregate: bool) -> Self {
        Self { aggregate, ..self }
    }
}

impl Config {
    /// Reads a config file.
    ///
    /// # Errors
    /// [`Error::Config`] if the file cannot be read, is over 1 MiB, is not YAML, or has an invalid value for one of the
    /// four keys; with line and column where known. The backends' keys are checked by the
    /// [registry](crate::Registry::check).
    pub fn load(file: impl AsRef<Path>) -> Result<Self> {
        let file = file.as_ref();
        let unreadable = |error: std::io::Error| {
            let problem = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file".into(),
                _ => format!("cannot be read ({error})"),
            };
            ConfigError::new(file, problem)
        };
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(ConfigError::new(file, TOO_LARGE).into());
        }
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::new(file, "not UTF-8 text"))?;
        Self::parse(&text, file)
    }

    /// Parses the text of a config file; `file` is its name in errors, and relative paths start in its folder.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str, file: impl Into<PathBuf>) -> Result<Self> {
        let source = Arc::new(Source { file: file.into(), text: text.into() });
        if text.len() as u64 > MAX_BYTES {
            return Err(ConfigError::new(&source.file, TOO_LARGE).into());
        }
        let streams: Option<Streams> = serde_yaml::from_str(text).map_err(|error| source.error(&error))?;
        let streams = streams.map(|Streams(streams)| streams).unwrap_or_default();
        for (stream, section) in &streams {
            if let Some(problem) = section.problem() {
                let error = ConfigError::new(&source.file, format!("{stream}: {problem}"));
                return Err(ConfigError { location: source.locate_section(stream, 1), ..error }.into());
            }
        }
        let streams =
            streams.into_iter().map(|(name, section)| (name.clone(), StreamConfig::of_section(name, section, &source)));
        Ok(Self { streams: streams.collect(), source })
    }

    /// The file that was read.
    pub fn file(&self) -> &Path {
        &self.source.file
    }

    /// Every stream, sorted by logical name.
    pub fn streams(&self) -> impl Iterator<Item = &StreamConfig> {
        self.streams.values()
    }

    /// The stream of this logical name.
    ///
    /// # Errors
    /// [`Error::UnknownStream`], with a name of similar spelling if there is one.
    pub fn stream(&self, logical_name: &str) -> Result<&StreamConfig> {
        self.streams.get(logical_name).ok_or_else(|| Error::UnknownStream {
            stream: logical_name.into(),
            file: self.source.file.clone(),
            similar: similar(logical_name, self.streams.keys().map(String::as_str)),
        })
    }

    /// Checks that every key and every backend is known.
    ///
    /// # Errors
    /// [`Error::Config`] with line and column, and with a known name of similar spelling if there is one.
    pub fn check_keys(&self, known: &KnownKeys<'_>) -> Result<()> {
        Ok(keys::check(&self.source, known)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, "/etc/triton.yaml")
    }

    fn message(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_file_of_older_tritons_is_read() {
        let config = parse("my_stream:\n  name: my_stream_v2\n  partition_key: value\n  region: us-west-1\n").unwrap();
        let stream = config.stream("my_stream").unwrap();
        assert_eq!(stream.name, "my_stream_v2");
        assert_eq!(stream.partition_key, KeySource::Field("value".into()));
        assert_eq!(stream.backend, "kinesis");
    }

    #[test]
    fn a_null_partition_key_is_allowed_and_a_missing_one_is_not() {
        let config = parse("a: {name: a, partition_key: null}\nb: {name: b, partition_key: }").unwrap();
        assert_eq!(config.stream("a").unwrap().partition_key, KeySource::Random);
        assert_eq!(config.stream("b").unwrap().partition_key, KeySource::Random);
        assert_eq!(message("a:\n  name: a\n"), "/etc/triton.yaml: line 2, column 3: a: missing field `partition_key`");
        assert_eq!(message("a:\n  partition_key: a\n"), "/etc/triton.yaml: line 2, column 3: a: missing field `name`");
    }

    #[test]
    fn errors_have_a_line_and_column() {
        assert_eq!(
            message("a:\n  name: a\n  partition_key: b: c\n"),
            "/etc/triton.yaml: line 3, column 19: mapping values are not allowed here"
        );
        assert_eq!(
            message("a: {name: a, partition_key: b}\nb: {name: b, partition_key: c}\na: {name: c, partition_key: d}\n"),
            "/etc/triton.yaml: line 3, column 1: duplicate stream name 'a'"
        );
        let wrong = message("a:\n  name: [1]\n  partition_key: b\n");
        assert!(wrong.starts_with("/etc/triton.yaml: line 2, column 9: a.name: invalid type: sequence"), "{wrong}");
        assert_eq!(
            message("a: {name: a, partition_key: b}\nb: {name: '', partition_key: c}"),
            "/etc/triton.yaml: line 2, column 1: b: name is empty"
        );
        let list = message("- a\n- b\n");
        assert!(list.contains("expected a map of stream names"), "{list}");
    }

    #[test]
    fn an_empty_file_has_no_streams() {
        for text in ["", "# nothing yet\n", "---\n"] {
            assert_eq!(parse(text).unwrap().streams().count(), 0, "{text:?}");
        }
    }

    #[test]
    fn a_huge_or_missing_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("triton.yaml");
        let missing = Config::load(&file).unwrap_err().to_string();
        assert_eq!(missing, format!("{}: no such file", file.display()));
        std::fs::write(&file, "#".repeat((1 << 20) + 1)).unwrap();
        assert!(Config::load(&file).unwrap_err().to_string().ends_with("over 1 MiB, too large for a config"));
        std::fs::write(&file, b"\xff").unwrap();
        assert!(Config::load(&file).unwrap_err().to_string().ends_with("not UTF-8 text"));
    }

    #[test]
    fn aliases_that_multiply_are_refused() {
        let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
        for (level, name) in ('b'..='i').enumerate() {
            let before = (b'a' + level as u8) as char;
            text.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", ")));
        }
        assert!(parse(&text).is_err());
    }

    #[test]
    fn a_misspelled_name_is_reported_with_the_right_one() {
        let config = parse("test_stream: {name: a, partition_key: b}").unwrap();
        let Err(Error::UnknownStream { similar, .. }) = config.stream("test_steam") else { panic!("found") };
        assert_eq!(similar.as_deref(), Some("test_stream"));
        let Err(Error::UnknownStream { similar, .. }) = config.stream("orders") else { panic!("found") };
        assert_eq!(similar, None);
    }

    #[test]
    fn a_null_name_is_refused() {
        for text in ["a: {name: null, partition_key: b}", "a: {name: ~, partition_key: b}"] {
            assert!(message(text).contains("null is not a name"), "{text}");
        }
    }

    #[test]
    fn a_large_file_that_is_cut_inside_a_character_is_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("triton.yaml");
        std::fs::write(&file, format!("#{}", "日".repeat(1 << 20))).unwrap();
        let error = Config::load(&file).unwrap_err().to_string();
        assert!(error.ends_with("over 1 MiB, too large for a config"), "{error}");
        std::fs::write(&file, format!("#é{}", "é".repeat(1 << 20))).unwrap();
        let error = Config::load(&file).unwrap_err().to_string();
        assert!(error.ends_with("over 1 MiB, too large for a config"), "{error}");
    }
}
