//! Signals that ask the program to stop.
//!
//! `lib` listens once; `backup` waits on the result beside its work and cleans up in order.

use std::fmt;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Which signal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGINT: Ctrl-C.
    Int,
    /// SIGTERM: an orchestrator, systemd, `kill`.
    Term,
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int => "SIGINT",
            Self::Term => "SIGTERM",
        })
    }
}

/// The signals of this process, as a value; cheap to clone.
#[derive(Clone, Debug)]
pub struct Interrupts(watch::Receiver<Option<Interrupt>>);

impl Interrupts {
    /// Begins to listen. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where the system refuses a handler.
    pub fn listen() -> std::io::Result<Self> {
        let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let interrupt = tokio::select! {
                _ = int.recv() => Interrupt::Int,
                _ = term.recv() => Interrupt::Term,
            };
            tracing::warn!(signal = %interrupt, "stopping");
            sender.send_replace(Some(interrupt));
            // Kept open, so that waiting on it does not end by itself.
            sender.closed().await;
        });
        Ok(Self(receiver))
    }

    /// Waits for a signal.
    pub async fn received(&self) -> Interrupt {
        let mut receiver = self.0.clone();
        match receiver.wait_for(Option::is_some).await.map(|interrupt| *interrupt) {
            Ok(Some(interrupt)) => interrupt,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}
