//! Signals that ask the program to stop.
//!
//! `lib` listens; `backup` stops at the first signal and cleans up. A second Ctrl-C drops the run without cleaning up. Nothing
//! here ends the process.

use std::fmt;
use std::future::poll_fn;
use std::io::IsTerminal as _;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::exit_code::ExitCode;

/// A terminal sends Ctrl-C to the process group, and wrappers forward it: signals within this time are one request.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// A signal that asks to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGHUP: the terminal is gone.
    Hup,
    /// SIGINT: Ctrl-C.
    Int,
    /// SIGTERM: an orchestrator, systemd, `kill`.
    Term,
}

impl Interrupt {
    /// The exit code of a run that it stopped.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Hup => ExitCode::HungUp,
            Self::Int => ExitCode::Interrupted,
            Self::Term => ExitCode::Terminated,
        }
    }
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hup => "SIGHUP",
            Self::Int => "SIGINT",
            Self::Term => "SIGTERM",
        })
    }
}

/// What SIGHUP means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangUp {
    /// Stop: the terminal is closed.
    Stop,
    /// Nothing: it asks a service to reload its settings, and the daemon does so for each run.
    Reload,
    /// Not handled: it is ignored (`nohup`), or it is unknown whether it is.
    Unhandled,
}

impl HangUp {
    /// For a single run, or for the daemon.
    #[must_use]
    pub fn of(is_daemon: bool) -> Self {
        let has_terminal = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
        match is_ignored(SignalKind::hangup()) {
            Some(false) if is_daemon && !has_terminal => Self::Reload,
            Some(false) => Self::Stop,
            Some(true) | None => Self::Unhandled,
        }
    }
}

/// The received signals; cheap to clone.
#[derive(Clone, Debug)]
pub struct Interrupts(watch::Receiver<StopRequest>);

/// The requests so far.
#[derive(Clone, Copy, Debug, Default)]
struct StopRequest {
    stop: Option<(Interrupt, Instant)>,
    forced: Option<Interrupt>,
}

impl Interrupts {
    /// Starts to listen, within a tokio runtime.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn listen(hang_up: HangUp) -> std::io::Result<Self> {
        let (mut int, term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let hup = match hang_up {
            HangUp::Unhandled => None,
            HangUp::Stop | HangUp::Reload => Some((signal(SignalKind::hangup())?, hang_up)),
        };
        let (sender, receiver) = watch::channel(StopRequest::default());
        tokio::spawn(async move {
            let interrupt = first(&mut int, term, hup).await;
            let stop = Some((interrupt, Instant::now()));
            sender.send_replace(StopRequest { stop, forced: None });
            second(|context| int.poll_recv(context), SAME_REQUEST).await;
            tracing::warn!(
                "SIGINT again: stopping without cleaning up: an invisible upload may stay in S3, or a restore's scratch database on the server"
            );
            sender.send_replace(StopRequest { stop, forced: Some(Interrupt::Int) });
            // While the sender exists, receivers wait.
            sender.closed().await;
        });
        Ok(Self(receiver))
    }

    /// Waits for a signal that asks to stop.
    pub async fn received(&self) -> Interrupt {
        self.received_at().await.0
    }

    /// Runs work to its end, or drops it when a signal asks to stop.
    ///
    /// # Errors
    /// Those of the work, and the signal.
    pub async fn until_signal<T, E: From<Interrupt>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        tokio::select! {
            done = work => done,
            interrupt = self.received() => Err(interrupt.into()),
        }
    }

    /// [`Self::received`] with the time of the signal.
    pub async fn received_at(&self) -> (Interrupt, Instant) {
        self.request(|request| request.stop).await
    }

    /// Waits for a signal that asks to stop without cleaning up.
    pub async fn forced(&self) -> Interrupt {
        self.request(|request| request.forced).await
    }

    async fn request<T>(&self, of: impl Fn(&StopRequest) -> Option<T>) -> T {
        let mut receiver = self.0.clone();
        match receiver.wait_for(|request| of(request).is_some()).await.map(|request| of(&request)) {
            Ok(Some(requested)) => requested,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

/// Waits for the first signal that asks to stop; logs a SIGHUP that does not.
async fn first(int: &mut Signal, mut term: Signal, mut hup: Option<(Signal, HangUp)>) -> Interrupt {
    loop {
        let hung = async {
            match &mut hup {
                Some((signal, meaning)) => signal.recv().await.map(|()| *meaning),
                None => std::future::pending().await,
            }
        };
        let interrupt = tokio::select! {
            _ = int.recv() => Interrupt::Int,
            _ = term.recv() => Interrupt::Term,
            meaning = hung => {
                if meaning == Some(HangUp::Reload) {
                    tracing::info!("SIGHUP ignored: each backup reloads its settings");
                    continue;
                }
                Interrupt::Hup
            }
        };
        tracing::warn!(signal = %interrupt, "stopping");
        return interrupt;
    }
}

/// Waits for the next signal after `same_request` has passed.
async fn second(mut poll: impl FnMut(&mut Context<'_>) -> Poll<Option<()>>, same_request: Duration) {
    let end = Instant::now() + same_request;
    while Instant::now() < end {
        // A signal within this time is ignored.
        let _ = timeout_at(end, poll_fn(&mut poll)).await;
    }
    poll_fn(poll).await;
}

/// Whether the process was started with a signal ignored; `None` if the system does not say.
fn is_ignored(kind: SignalKind) -> Option<bool> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some(mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn signals_in_quick_succession_are_one_request() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        sender.send(()).expect("it is there");
        let waited =
            timeout(Duration::from_millis(20), second(|context| receiver.poll_recv(context), SAME_REQUEST * 1000));
        assert!(waited.await.is_err(), "the same request");
        sender.send(()).expect("it is there");
        second(|context| receiver.poll_recv(context), Duration::ZERO).await;
    }

    #[test]
    fn detects_ignored_signal() {
        // Rust's runtime ignores SIGPIPE; SIGKILL cannot be ignored.
        assert_eq!(is_ignored(SignalKind::pipe()), Some(true));
        assert_eq!(is_ignored(SignalKind::from_raw(9)), Some(false));
    }
}
