//! The search for the config file.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::Result;

use super::Config;

impl Config {
    /// Finds and reads the config: `$TRITON_CONFIG`, else the first that exists of `./triton.yaml`,
    /// `$XDG_CONFIG_HOME/triton/triton.yaml` and `/etc/triton.yaml`. Returns `None` if there is none.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn find() -> Result<Option<Self>> {
        if let Some(file) = env::var_os("TRITON_CONFIG").filter(|file| !file.is_empty()) {
            return Self::load(PathBuf::from(file)).map(Some);
        }
        let user = user_folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("triton/triton.yaml"));
        let candidates = [Some("triton.yaml".into()), user, Some("/etc/triton.yaml".into())];
        let found = candidates.into_iter().flatten().find(|file: &PathBuf| exists(file));
        found.map(Self::load).transpose()
    }
}

/// Whether a file of this name exists. A dangling link counts: its config cannot be read, which is not the same as no
/// config.
fn exists(file: &Path) -> bool {
    file.symlink_metadata().is_ok()
}

/// A folder of the XDG base directory specification: the variable's, else a folder below the home folder. Relative
/// paths are ignored, as the specification demands.
pub fn user_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}
