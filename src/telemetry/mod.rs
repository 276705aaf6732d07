//! Telemetry: what the program tells while it works: log lines and progress, with secrets taken out.

mod log;
pub mod metrics;
pub mod ping;
mod progress;
mod redact;

pub use log::{LogFormat, LogSettings, LogWriter, install};
pub use ping::{PingUrl, Pings};
pub use progress::{Display, ProgressStyleChoice};
pub use redact::{Redactor, without_credentials};
