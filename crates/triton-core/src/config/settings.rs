//! The keys of a stream's section that belong to backends.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::Result;

use super::yaml::Source;

/// The settings of a stream: the keys of its section, for its backend to read.
///
/// A backend reads its keys into a struct of its own. Keys that the struct lacks belong to other backends and are
/// ignored. An invalid value is reported with its line and column.
///
/// ```
/// use serde::Deserialize;
/// use triton_core::Config;
///
/// #[derive(Deserialize)]
/// struct RedisKeys {
///     database: Option<u8>,
/// }
///
/// let text = "clicks:\n  name: clicks\n  partition_key: user\n  database: many\n";
/// let config = Config::parse(text, "triton.yaml")?;
/// let error = config.stream("clicks")?.settings.read::<RedisKeys>().err().unwrap();
/// let problem = "triton.yaml: line 4, column 13: clicks.database: invalid type: string \"many\", expected u8";
/// assert_eq!(error.to_string(), problem);
/// # Ok::<(), triton_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Option<Section>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    source: Arc<Source>,
    name: String,
}

impl Settings {
    /// The settings in the section of this name.
    pub(super) fn of_section(source: &Arc<Source>, name: &str) -> Self {
        Self(Some(Section { source: Arc::clone(source), name: name.into() }))
    }

    /// The settings as a `T`. Without a config file, every key is missing.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if a key is missing or a value is invalid for `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        // The text is parsed again, since only the parser knows the line and column of a value.
        let (text, file, name) = match &self.0 {
            Some(Section { source, name }) => (source.text.as_str(), source.file.clone(), name.as_str()),
            None => ("settings: {}", PathBuf::new(), "settings"),
        };
        let read = SectionSeed(name, PhantomData).deserialize(serde_yaml::Deserializer::from_str(text));
        Ok(read.map_err(|error| Source { file, text: text.into() }.error(&error))?)
    }

    /// Resolves a path of the config; a relative path starts in the config file's folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        let folder = self.0.as_ref().and_then(|section| section.source.file.parent());
        folder.map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }
}

/// Reads one section of the file as a `T`, and ignores the others.
struct SectionSeed<'a, T>(&'a str, PhantomData<T>);

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for SectionSeed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<T, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for SectionSeed<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of stream names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<T, A::Error> {
        let mut read = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0 {
                read = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        read.ok_or_else(|| serde::de::Error::custom(format_args!("no stream '{}'", self.0)))
    }
}
