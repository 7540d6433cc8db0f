//! Mutants: mistakes made on purpose in a copy of the core, each of which the simulation has to find.
//!
//! They are listed in `mutants.toml`. A mutant replaces text of one file. The copy, below the target folder, contains
//! only the core and the simulation, so that it builds in seconds.

mod copy;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

pub(crate) use self::copy::Copy;

/// A mistake in the code, and the invariant that it violates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    pub(crate) name: String,
    /// The invariant's number in `docs/architecture.md`.
    pub(crate) invariant: u8,
    /// Path relative to the workspace.
    file: String,
    /// Text that occurs exactly once in the file.
    find: String,
    replace: String,
}

/// How a mutant was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) seed: u64,
    /// The invariant whose check has found it.
    pub(crate) invariant: u8,
}

impl Mutant {
    /// The mutants of a workspace, in the order of its `mutants.toml`.
    pub(crate) fn load(workspace: &Path) -> Result<Vec<Self>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct List {
            mutant: Vec<Mutant>,
        }
        let path = workspace.join("crates/triton-sim/mutants.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let List { mutant: mutants } = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let mut names = BTreeSet::new();
        if let Some(twice) = mutants.iter().find(|mutant| !names.insert(&mutant.name)) {
            bail!("{}: two mutants are named '{}'", path.display(), twice.name);
        }
        Ok(mutants)
    }

    /// Selects `count` of the mutants by a salt, such as a commit hash, and keeps their order.
    pub(crate) fn sample(mutants: Vec<Self>, count: usize, salt: &str) -> Vec<Self> {
        let rank = |mutant: &Self| {
            let mut hasher = DefaultHasher::new();
            (salt, &mutant.name).hash(&mut hasher);
            hasher.finish()
        };
        let mut ranks: Vec<u64> = mutants.iter().map(rank).collect();
        ranks.sort_unstable();
        let chosen = &ranks[..count.min(ranks.len())];
        mutants.into_iter().filter(|mutant| chosen.contains(&rank(mutant))).collect()
    }

    /// Returns the text of the file with the mistake in it.
    fn apply(&self, text: &str) -> Result<String> {
        let count = text.matches(&self.find).count();
        ensure!(count == 1, "mutant '{}': its `find` matches {count} times in {}, not once", self.name, self.file);
        ensure!(self.find != self.replace, "mutant '{}' changes nothing", self.name);
        Ok(text.replacen(&self.find, &self.replace, 1))
    }

    /// Checks that the copy compiles with this mutant. The error names the mutant.
    pub(crate) fn check(&self, copy: &Copy) -> Result<()> {
        copy.with(self, || copy.check()).with_context(|| format!("mutant '{}'", self.name))
    }

    /// Returns the first seed from 1 to `count` that finds the mutant.
    pub(crate) fn find(&self, copy: &Copy, count: u64) -> Result<Option<Found>> {
        let simulate = || -> Result<Option<Found>> {
            copy.build()?;
            let count = count.to_string();
            let output = output_within(copy.simulation(&["seeds", "--until-violation", "--count", &count]), LONGEST)?;
            let Some(output) = output else { return Ok(None) };
            let found = output.lines().find_map(Found::parse);
            ensure!(
                found.is_some() || output.contains("\n0 seeds with violations"),
                "the simulation failed:\n{output}"
            );
            Ok(found)
        };
        copy.with(self, simulate).with_context(|| format!("mutant '{}'", self.name))
    }
}

impl Found {
    /// Parses a line that `seeds` prints for a violation.
    fn parse(line: &str) -> Option<Self> {
        let (seed, violation) = line.strip_prefix("seed ")?.split_once(' ')?;
        let (_, invariant) = violation.split_once(" breaks ")?;
        let (invariant, _) = invariant.split_once(' ')?;
        Some(Self { seed: seed.parse().ok()?, invariant: invariant.parse().ok()? })
    }
}

/// Wall-clock limit of a simulation, for loops in which virtual time does not advance.
const LONGEST: Duration = Duration::from_secs(300);

/// Returns the output of a command, or kills it and returns `None` if it takes longer than `limit`.
fn output_within(mut command: std::process::Command, limit: Duration) -> Result<Option<String>> {
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().context("the simulation cannot be run")?;
    let mut stdout = child.stdout.take().context("the simulation has no output")?;
    let (sender, output) = mpsc::channel();
    std::thread::spawn(move || sender.send(std::io::read_to_string(&mut stdout)));
    let output = match output.recv_timeout(limit) {
        Ok(output) => Some(output?),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => bail!("the output of the simulation was lost"),
    };
    if output.is_none() {
        child.kill()?;
    }
    child.wait()?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Violation;

    fn mutant(name: &str) -> Mutant {
        Mutant {
            name: name.into(),
            invariant: 4,
            file: "lib.rs".into(),
            find: "a < b".into(),
            replace: "a <= b".into(),
        }
    }

    #[test]
    fn a_mutant_applies_if_its_text_occurs_once() {
        assert_eq!(mutant("m").apply("if a < b {").unwrap(), "if a <= b {");
        for text in ["if a > b {", "a < b && a < b"] {
            assert!(mutant("m").apply(text).unwrap_err().to_string().contains("'m'"), "{text}");
        }
    }

    #[test]
    fn every_mutant_of_the_list_applies() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for mutant in Mutant::load(&workspace).unwrap() {
            let text = std::fs::read_to_string(workspace.join(&mutant.file)).unwrap();
            mutant.apply(&text).unwrap();
        }
    }

    #[test]
    fn a_violation_is_parsed_as_it_is_printed() {
        let violation = Violation { invariant: 10, millis: 1_500, what: "a breaks 2 (b)".into() };
        let line = format!("seed 17 {violation}");
        assert_eq!(Found::parse(&line), Some(Found { seed: 17, invariant: 10 }));
        assert_eq!(Found::parse("    triton-sim replay 17 --trace"), None);
    }

    #[test]
    fn a_sample_depends_on_its_salt_alone() {
        let names = |salt: &str| -> Vec<String> {
            let all = (0..20).map(|number| mutant(&number.to_string())).collect();
            Mutant::sample(all, 3, salt).into_iter().map(|mutant| mutant.name).collect()
        };
        assert_eq!(names("one"), names("one"));
        assert_ne!(names("one"), names("two"));
        assert_eq!(names("one").len(), 3);
    }
}
