//! Log, progress, metrics, pings and systemd notifications, without secrets.

mod log;
pub mod metrics;
mod notify;
pub mod ping;
mod progress;
mod redact;
mod running;
mod terminal;

pub use log::{LogFormat, LogSettings, LogWriter, install};
pub use notify::Notifier;
pub use ping::{PingUrl, Pings};
pub use progress::{Display, ProgressStyleChoice};
pub use redact::{Redactor, without_credentials};
pub use running::{DumpGuard, RunningDump, RunningDumps};
