//! From SQLite's and the file system's errors to Triton's.

use std::path::Path;
use std::sync::Arc;

use rusqlite::ErrorCode;
use triton_core::{Cause, Error};

/// How a failure of SQLite on this file is told. Transactions roll back, so nothing is left half written; whether the
/// last commit made it to the disk is unknown only after an I/O error.
pub(crate) fn from_sqlite(file: &Path, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    let problem = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "locked by another process for too long".into(),
        Some(ErrorCode::DiskFull) => "the disk is full".into(),
        Some(ErrorCode::ReadOnly) => "the file or its folder is read-only".into(),
        Some(ErrorCode::DatabaseCorrupt) => "the file is corrupt".into(),
        Some(ErrorCode::NotADatabase) => "not a stream of Triton, or corrupt".into(),
        Some(ErrorCode::CannotOpen) => "cannot be opened".into(),
        Some(ErrorCode::PermissionDenied) => "permission denied".into(),
        Some(ErrorCode::SystemIoFailure) => "reading or writing failed".into(),
        _ => "SQLite failed".into(),
    };
    let may_have_written = matches!(code, Some(ErrorCode::SystemIoFailure) | None);
    // As one line: rusqlite's error has a source that says the same again.
    let source = Cause::from(Box::<dyn std::error::Error + Send + Sync>::from(error.to_string()));
    Error::Storage { file: file.into(), problem, may_have_written, source: Some(source) }
}

/// A failure of the file system, or of what a file holds.
pub(crate) fn storage(file: &Path, problem: impl Into<String>, source: Option<std::io::Error>) -> Error {
    let source = source.map(|error| Arc::new(error) as Cause);
    Error::Storage { file: file.into(), problem: problem.into(), may_have_written: false, source }
}

/// The thread that serves a file is gone, which only a panic in it explains.
pub(crate) fn thread_gone(file: &Path) -> Error {
    Error::Contract { backend: file.display().to_string(), problem: "its thread has ended".into() }
}
