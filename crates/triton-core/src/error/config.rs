//! What is wrong with a config file.

use std::fmt;
use std::path::PathBuf;

/// What is wrong with a config file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, both counted from 1, where known.
    pub location: Option<(usize, usize)>,
    /// What is wrong.
    pub problem: String,
    /// For an unknown name: a known one of similar spelling.
    pub similar: Option<String>,
}

impl ConfigError {
    /// An error of the file as a whole.
    pub fn new(file: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self { file: file.into(), location: None, problem: problem.into(), similar: None }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some((line, column)) = self.location {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {}
