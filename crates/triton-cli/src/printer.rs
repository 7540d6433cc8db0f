//! Stdout on a thread of its own: what is rendered there never blocks the runtime, and a slow reader slows the source.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::exit::ClosedPipe;

/// Items that wait to be printed.
const WAITING: usize = 2;

#[derive(Debug)]
pub(crate) struct Printer<T> {
    items: mpsc::Sender<T>,
    thread: JoinHandle<io::Result<()>>,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Printed {
    /// It is on its way.
    Taken,
    /// Nobody reads the output any more, or it cannot be written; [`Printer::finish`] tells which.
    Closed,
}

impl<T: Send + 'static> Printer<T> {
    /// Prints what `render` makes of each item.
    pub(crate) fn start(mut render: impl FnMut(T, &mut Vec<u8>) + Send + 'static) -> Self {
        let (items, mut waiting) = mpsc::channel(WAITING);
        let thread = tokio::task::spawn_blocking(move || {
            let mut stdout = io::stdout().lock();
            let mut buffer = Vec::new();
            while let Some(item) = waiting.blocking_recv() {
                render(item, &mut buffer);
                stdout.write_all(&buffer)?;
                stdout.flush()?;
                buffer.clear();
                // One large record does not keep its memory for ever.
                buffer.shrink_to(1 << 20);
            }
            Ok(())
        });
        Self { items, thread }
    }

    /// Waits until the item can be taken.
    pub(crate) async fn print(&self, item: T) -> Printed {
        match self.items.send(item).await {
            Ok(()) => Printed::Taken,
            Err(_) => Printed::Closed,
        }
    }

    /// Waits until everything is printed.
    ///
    /// # Errors
    /// [`ClosedPipe`], or what else keeps stdout from being written.
    pub(crate) async fn finish(self) -> Result<()> {
        drop(self.items);
        written(self.thread.await.context("the printing thread panicked")?)
    }
}

/// Prints a short text at once.
///
/// # Errors
/// [`ClosedPipe`], or what else keeps stdout from being written.
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
