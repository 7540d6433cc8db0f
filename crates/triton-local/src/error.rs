//! Maps the errors of SQLite and of the file system to Triton's.

use std::path::Path;
use std::sync::Arc;

use rusqlite::ErrorCode;
use triton_core::{Cause, Error};

/// Maps an error of SQLite. A failed transaction is rolled back; only after an I/O error is it unknown whether the
/// commit reached the disk.
pub(crate) fn from_sqlite(file: &Path, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    let problem = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "locked by another process for too long".into(),
        Some(ErrorCode::DiskFull) => "the disk is full".into(),
        Some(ErrorCode::ReadOnly) => "the file or its folder is read-only".into(),
        Some(ErrorCode::DatabaseCorrupt) => "the file is corrupt".into(),
        Some(ErrorCode::NotADatabase) => "not a Triton stream, or corrupt".into(),
        Some(ErrorCode::CannotOpen) => "cannot be opened".into(),
        Some(ErrorCode::PermissionDenied) => "permission denied".into(),
        Some(ErrorCode::SystemIoFailure) => "reading or writing failed".into(),
        _ => "SQLite failed".into(),
    };
    let may_have_written = matches!(code, Some(ErrorCode::SystemIoFailure) | None);
    // As text: the source of rusqlite's error repeats its message.
    let source = Cause::from(Box::<dyn std::error::Error + Send + Sync>::from(error.to_string()));
    Error::Storage { file: file.into(), problem, may_have_written, source: Some(source) }
}

/// An error of the file system, or about a file's content.
pub(crate) fn storage(file: &Path, problem: impl Into<String>, source: Option<std::io::Error>) -> Error {
    let source = source.map(|error| Arc::new(error) as Cause);
    Error::Storage { file: file.into(), problem: problem.into(), may_have_written: false, source }
}

/// The error for a file whose thread has ended, which happens only if the thread panicked.
pub(crate) fn thread_gone(file: &Path) -> Error {
    Error::Contract { backend: file.display().to_string(), problem: "its thread has ended".into() }
}
