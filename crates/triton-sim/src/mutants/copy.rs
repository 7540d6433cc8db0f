//! The copy of the workspace that mutants are built from: only the core and the simulation.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use anyhow::{Context, Result, bail};

use super::Mutant;

/// The crates of the copy.
const CRATES: [&str; 2] = ["crates/triton-core", "crates/triton-sim"];

/// A copy of the workspace below its target folder. All mutants share the built dependencies.
#[derive(Debug)]
pub(crate) struct Copy {
    source: PathBuf,
    folder: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Makes a copy, or updates the one of an earlier run. Unchanged files are not written, so that they are not built
    /// again.
    pub(crate) fn new(source: &Path, target: &Path) -> Result<Self> {
        let (folder, target) = (target.join("mutants/workspace"), target.join("mutants/target"));
        let copy = Self { source: source.to_owned(), folder, target };
        for name in CRATES {
            copy.update(Path::new(name)).with_context(|| format!("{name} cannot be copied"))?;
        }
        let manifest = manifest(&fs::read_to_string(source.join("Cargo.toml"))?)?;
        write(&copy.folder.join("Cargo.toml"), manifest.as_bytes())?;
        fs::copy(source.join("Cargo.lock"), copy.folder.join("Cargo.lock"))?;
        Ok(copy)
    }

    /// Synchronizes a folder of the copy with its source.
    fn update(&self, folder: &Path) -> io::Result<()> {
        let (from, to) = (self.source.join(folder), self.folder.join(folder));
        fs::create_dir_all(&to)?;
        let mut kept = BTreeSet::new();
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            kept.insert(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.update(&folder.join(entry.file_name()))?;
            } else {
                write(&to.join(entry.file_name()), &fs::read(entry.path())?)?;
            }
        }
        for entry in fs::read_dir(to)? {
            let entry = entry?;
            if kept.contains(&entry.file_name()) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Builds the copy without a mutant, so that an error of the workspace is not attributed to a mutant.
    pub(crate) fn prepare(&self) -> Result<()> {
        self.build().context("the workspace without a mutant")
    }

    /// Runs `work` while the copy contains a mutant.
    pub(super) fn with<T>(&self, mutant: &Mutant, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let file = self.folder.join(&mutant.file);
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        fs::write(&file, mutant.apply(&text)?)?;
        let outcome = work();
        fs::write(&file, text)?;
        outcome
    }

    pub(super) fn check(&self) -> Result<()> {
        self.cargo(&["check", "--package", "triton-core"])
    }

    pub(super) fn build(&self) -> Result<()> {
        self.cargo(&["build", "--package", "triton-sim"])
    }

    /// A command that runs the built simulation.
    pub(super) fn simulation(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.target.join("debug/triton-sim"));
        command.args(arguments);
        command
    }

    fn cargo(&self, arguments: &[&str]) -> Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(arguments).args(["--quiet", "--color", "never"]);
        command.current_dir(&self.folder).env("CARGO_TARGET_DIR", &self.target);
        let output = command.output().context("cargo cannot be run")?;
        if !output.status.success() {
            bail!("does not compile:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// Writes a file unless it is unchanged.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|before| before == text) { Ok(()) } else { fs::write(path, text) }
}

/// The workspace's manifest with only the copied crates, and with the profile that finds mutants fastest: with more
/// optimization the build takes longer, with less the seeds do.
fn manifest(text: &str) -> Result<String> {
    let mut manifest: toml::Table = text.parse()?;
    let workspace = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut).context("no workspace")?;
    workspace.insert("members".into(), CRATES.map(toml::Value::from).to_vec().into());
    workspace.remove("default-members");
    manifest.insert("profile".into(), toml::toml! { dev = { opt-level = 1, debug = false } }.into());
    Ok(toml::to_string(&manifest)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_holds_the_core_and_the_simulation_alone() {
        let text =
            manifest("[workspace]\nmembers = ['crates/*']\ndefault-members = ['a']\n[profile.release]\nlto = true");
        let expected = toml::toml! {
            workspace = { members = ["crates/triton-core", "crates/triton-sim"] }
            profile = { dev = { opt-level = 1, debug = false } }
        };
        assert_eq!(text.unwrap().parse::<toml::Table>().unwrap(), expected);
    }
}
