//! A database server that a test stops and starts again. Used by the tests of restarts.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::OwnPostgres;
use crate::support::process;

/// The mode of a shutdown.
#[derive(Clone, Copy, Debug)]
pub enum Shutdown {
    /// Sessions are ended gracefully.
    Fast,
    /// Like a crash.
    Immediate,
}

/// A server that stops when it is dropped.
#[derive(Debug)]
pub struct Restarted<'a>(pub &'a OwnPostgres);

impl Restarted<'_> {
    /// Stops it, and waits until it has ended.
    pub fn stop(&self, shutdown: Shutdown) {
        let mode = match shutdown {
            Shutdown::Fast => "fast",
            Shutdown::Immediate => "immediate",
        };
        self.pg_ctl(&["stop", "-m", mode]);
    }

    /// Starts it on the same port, and waits until it accepts connections.
    pub fn start(&self) {
        self.pg_ctl(&["start", "-o", &format!("-p {}", self.0.port)]);
    }

    fn pg_ctl(&self, words: &[&str]) {
        let data = std::fs::metadata(&self.0.data_dir).expect("a data directory");
        let mut pg_ctl = Command::new(self.0.bin.join("pg_ctl"));
        pg_ctl.arg("-D").arg(&self.0.data_dir).args(["-w", "-s"]).args(words);
        pg_ctl.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if data.uid() != std::fs::metadata("/proc/self").expect("ourselves").uid() {
            pg_ctl.uid(data.uid()).gid(data.gid());
        }
        assert!(pg_ctl.status().expect("pg_ctl runs").success(), "pg_ctl {words:?}");
    }
}

impl Drop for Restarted<'_> {
    fn drop(&mut self) {
        // It may be stopped already; the watchdog does not know the second server's number.
        let process = std::fs::read_to_string(self.0.data_dir.join("postmaster.pid")).unwrap_or_default();
        if let Some(pid) = process.lines().next() {
            process::signal(pid, "QUIT");
        }
    }
}
