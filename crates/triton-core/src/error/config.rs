//! What is wrong with a config file.

use std::fmt;
use std::path::PathBuf;

/// What is wrong with a config file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, both counted from 1, where there is such a place.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub problem: String,
    /// Where a name is not known: one that is, and is spelled much the same.
    pub similar: Option<String>,
}

impl ConfigError {
    /// What is wrong with the file, without a place in it.
    pub fn new(file: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self { file: file.into(), place: None, problem: problem.into(), similar: None }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {}
