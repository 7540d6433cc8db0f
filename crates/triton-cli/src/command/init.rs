//! `triton init`: a first config, to be read and changed.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::args::Global;
use crate::exit::{Code, Failure};
use crate::printer;

const TEMPLATE: &str = "\
# Logical streams: the name that programs use, and the stream that it stands for.
demo:
  name: demo               # the real stream
  partition_key: null      # the field whose value chooses the shard; null: keys chosen at random
  backend: local           # a SQLite file on this machine; delete this line to use AWS Kinesis
  shards: 4                # number of shards when the stream is created
  region: us-east-1        # for Kinesis
";

pub(crate) fn run(global: &Global) -> Result<()> {
    let file = global.config.clone().unwrap_or_else(|| PathBuf::from("triton.yaml"));
    match OpenOptions::new().write(true).create_new(true).open(&file) {
        Ok(mut opened) => opened.write_all(TEMPLATE.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message = format!("{} exists already; it was left as it is", file.display());
            return Err(Failure::new(Code::Config, message).with_help("use --config FILE to write another one").into());
        }
        Err(error) => Err(error),
    }
    .with_context(|| format!("{} cannot be written", file.display()))?;
    printer::print_all(&next_steps(&file))
}

fn next_steps(file: &Path) -> String {
    format!("wrote {}\n\nnext:\n  echo hi | triton put -s demo\n  triton get -s demo --from all -e\n", file.display())
}
