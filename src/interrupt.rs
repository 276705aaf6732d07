//! Signals that ask the program to stop.
//!
//! `lib` listens once; `backup` waits on the result beside its work and cleans up in order. Who presses Ctrl-C again does
//! not want to wait for that: the run is dropped where it stands. Nothing here ends the process.

use std::fmt;
use std::future::poll_fn;
use std::io::IsTerminal as _;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::exit_code::ExitCode;

/// A terminal sends Ctrl-C to an entire process group, and wrappers pass it on once more: what comes so soon is the same
/// request, not a more urgent one.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// Which signal came.
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
    /// The exit code of a process that it ended.
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
    /// Stop: whoever started this has gone.
    Stop,
    /// Nothing: a service is told in this way to read its settings anew, which the daemon does for each run.
    GoOn,
    /// The system's own business: it is ignored (`nohup`), or nobody can say whether it is.
    LeftAlone,
}

impl HangUp {
    /// For a command that does one thing, or for one that stays.
    #[must_use]
    pub fn of(is_daemon: bool) -> Self {
        let has_terminal = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
        match is_ignored(SignalKind::hangup()) {
            Some(false) if is_daemon && !has_terminal => Self::GoOn,
            Some(false) => Self::Stop,
            Some(true) | None => Self::LeftAlone,
        }
    }
}

/// The signals of this process, as a value; cheap to clone.
#[derive(Clone, Debug)]
pub struct Interrupts(watch::Receiver<StopRequest>);

/// What was asked for so far.
#[derive(Clone, Copy, Debug, Default)]
struct StopRequest {
    stop: Option<(Interrupt, Instant)>,
    at_once: Option<Interrupt>,
}

impl Interrupts {
    /// Begins to listen. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where the system refuses a handler.
    pub fn listen(hang_up: HangUp) -> std::io::Result<Self> {
        let (mut int, term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let hup = match hang_up {
            HangUp::LeftAlone => None,
            HangUp::Stop | HangUp::GoOn => Some((signal(SignalKind::hangup())?, hang_up)),
        };
        let (sender, receiver) = watch::channel(StopRequest::default());
        tokio::spawn(async move {
            let interrupt = first(&mut int, term, hup).await;
            let stop = Some((interrupt, Instant::now()));
            sender.send_replace(StopRequest { stop, at_once: None });
            once_more(|context| int.poll_recv(context), SAME_REQUEST).await;
            tracing::warn!("SIGINT again: stopping at once. What was started in S3 may be left open, invisibly");
            sender.send_replace(StopRequest { stop, at_once: Some(Interrupt::Int) });
            // Kept open, so that waiting on it does not end by itself.
            sender.closed().await;
        });
        Ok(Self(receiver))
    }

    /// Waits for a signal that asks to stop.
    pub async fn received(&self) -> Interrupt {
        self.received_at().await.0
    }

    /// As [`Self::received`], with the moment when it came.
    pub async fn received_at(&self) -> (Interrupt, Instant) {
        self.request(|request| request.stop).await
    }

    /// Waits for a signal that asks to stop without cleaning up.
    pub async fn forced(&self) -> Interrupt {
        self.request(|request| request.at_once).await
    }

    async fn request<T>(&self, of: impl Fn(&StopRequest) -> Option<T>) -> T {
        let mut receiver = self.0.clone();
        match receiver.wait_for(|request| of(request).is_some()).await.map(|request| of(&request)) {
            Ok(Some(wished)) => wished,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

/// The first signal that asks to stop; a SIGHUP that does not is told on the way.
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
                if meaning == Some(HangUp::GoOn) {
                    tracing::info!("SIGHUP: each backup reads its settings anew, so there is nothing to do");
                    continue;
                }
                Interrupt::Hup
            }
        };
        tracing::warn!(signal = %interrupt, "stopping");
        return interrupt;
    }
}

/// Waits for what comes after `same_wish` has passed.
async fn once_more(mut poll: impl FnMut(&mut Context<'_>) -> Poll<Option<()>>, same_wish: Duration) {
    let end = Instant::now() + same_wish;
    while Instant::now() < end {
        // One that comes so soon counts as little as none.
        let _ = timeout_at(end, poll_fn(&mut poll)).await;
    }
    poll_fn(poll).await;
}

/// Whether whoever started this process has it ignore a signal; `None` where the system does not tell.
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
    async fn what_comes_twice_at_once_is_one_wish_and_what_comes_later_another() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        sender.send(()).expect("it is there");
        let waited =
            timeout(Duration::from_millis(20), once_more(|context| receiver.poll_recv(context), SAME_REQUEST * 1000));
        assert!(waited.await.is_err(), "the same request");
        sender.send(()).expect("it is there");
        once_more(|context| receiver.poll_recv(context), Duration::ZERO).await;
    }

    #[test]
    fn whether_a_signal_is_ignored_is_what_the_system_says() {
        // Rust's own start has every program ignore SIGPIPE; nobody can ignore SIGKILL.
        assert_eq!(is_ignored(SignalKind::pipe()), Some(true));
        assert_eq!(is_ignored(SignalKind::from_raw(9)), Some(false));
    }
}
