//! Stdout on a thread of its own: what is rendered there never blocks the runtime, and a slow reader slows the source.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Items that wait to be printed.
const WAITING: usize = 2;

#[derive(Debug)]
pub(crate) struct Printer<T> {
    items: mpsc::Sender<T>,
    thread: JoinHandle<io::Result<()>>,
}

/// Nobody reads the output any more, or it cannot be written; [`Printer::finish`] tells which.
#[derive(Debug)]
pub(crate) struct Closed;

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

    pub(crate) async fn print(&self, item: T) -> Result<(), Closed> {
        self.items.send(item).await.map_err(|_| Closed)
    }

    /// Waits until everything is printed.
    pub(crate) async fn finish(self) -> Result<()> {
        drop(self.items);
        self.thread.await.context("the printing thread panicked")?.context("stdout cannot be written")
    }
}
