//! Prints to stdout on a thread of its own: rendering never blocks the runtime, and a slow reader of stdout slows the
//! source.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::exit::ClosedPipe;

/// Number of items queued for the thread.
const QUEUED: usize = 2;

#[derive(Debug)]
pub(crate) struct Printer<T> {
    items: mpsc::Sender<T>,
    thread: JoinHandle<io::Result<()>>,
}

/// Outcome of [`Printer::print`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Printed {
    /// The item is queued.
    Queued,
    /// Stdout is closed, or cannot be written; [`Printer::finish`] returns which.
    Closed,
}

impl<T: Send + 'static> Printer<T> {
    /// Starts a thread that prints each item as `render` appends it.
    pub(crate) fn start(mut render: impl FnMut(T, &mut Vec<u8>) + Send + 'static) -> Self {
        let (items, mut waiting) = mpsc::channel(QUEUED);
        let thread = tokio::task::spawn_blocking(move || {
            let mut stdout = io::stdout().lock();
            let mut buffer = Vec::new();
            while let Some(item) = waiting.blocking_recv() {
                render(item, &mut buffer);
                stdout.write_all(&buffer)?;
                stdout.flush()?;
                buffer.clear();
                // One large record does not keep its memory forever.
                buffer.shrink_to(1 << 20);
            }
            Ok(())
        });
        Self { items, thread }
    }

    /// Queues an item, and waits for room if there is none.
    pub(crate) async fn print(&self, item: T) -> Printed {
        match self.items.send(item).await {
            Ok(()) => Printed::Queued,
            Err(_) => Printed::Closed,
        }
    }

    /// Waits until everything is printed.
    ///
    /// # Errors
    /// [`ClosedPipe`], or the error of a write.
    pub(crate) async fn finish(self) -> Result<()> {
        drop(self.items);
        written(self.thread.await.context("the printing thread panicked")?)
    }
}

/// Prints a short text.
///
/// # Errors
/// [`ClosedPipe`], or the error of a write.
pub(crate) fn print_all(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

fn written(outcome: io::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ClosedPipe.into()),
        outcome => outcome.context("stdout cannot be written"),
    }
}
