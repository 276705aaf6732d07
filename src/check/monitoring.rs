//! Checks that metrics can be written, that the daemon can listen, and that the ping host is reachable.
//!
//! Called by [`super::Check`]. It leaves no metrics file, serves nothing and sends no ping.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::name::CheckName;
use super::result::{CheckResults, Outcome};
use crate::error_chain::Chain;
use crate::health;
use crate::telemetry::metrics::MetricsStore;
use crate::telemetry::ping::PingUrl;

/// The time limit for a connection to the host of `PING_URL`.
const PATIENCE: Duration = Duration::from_secs(5);

/// The settings of monitoring.
#[derive(Debug, Default)]
pub struct Monitoring {
    /// `METRICS_FILE`
    pub metrics_file: Option<PathBuf>,
    /// `LISTEN`
    pub listen: Option<String>,
    /// `PING_URL`
    pub ping: Option<PingUrl>,
}

impl Monitoring {
    /// Checks the settings that are set.
    pub(super) async fn examine(&self, results: &mut CheckResults<'_>) {
        if let Some(path) = &self.metrics_file {
            results.add(CheckName::MetricsFile, metrics(path));
        }
        if let Some(address) = &self.listen {
            results.add(CheckName::Listen, listening(address, health::bind(address).await.map(drop)));
        }
        if let Some(url) = &self.ping {
            results.add(CheckName::PingUrl, reached(url.connect(PATIENCE).await));
        }
    }
}

fn metrics(path: &Path) -> Outcome {
    let Err(error) = MetricsStore::try_to_write(path) else {
        return Outcome::ok(format!("{} can be written", path.display()));
    };
    let hint = match error.kind() {
        io::ErrorKind::IsADirectory => "set METRICS_FILE to a file in it, such as pg_s3_backup.prom",
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "make its directory, or correct METRICS_FILE",
        io::ErrorKind::PermissionDenied => "let this user write to its directory, or correct METRICS_FILE",
        _ => "check its directory, or correct METRICS_FILE",
    };
    Outcome::fail(format!("{} cannot be written: {error}", path.display()), hint)
}

fn listening(address: &str, bound: io::Result<()>) -> Outcome {
    match bound {
        Ok(()) => Outcome::ok(format!("a daemon can listen on {address}")),
        // Usually the daemon.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let hint = "if that is not the daemon (see `pg-s3-backup health`), set LISTEN to a free port";
            Outcome::warn(format!("{address} is in use"), hint)
        }
        Err(error) => {
            let hint = "set LISTEN to an address of this host and a port that this user may listen on";
            Outcome::fail(format!("a daemon cannot listen on {address}: {}", Chain(&error)), hint)
        }
    }
}

/// A failed ping fails no backup.
fn reached(connected: Result<String, String>) -> Outcome {
    match connected {
        Ok(detail) => Outcome::ok(detail),
        Err(why) => Outcome::warn(why, "correct PING_URL, or let this host reach it: pings do not fail a backup"),
    }
}
