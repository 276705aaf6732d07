//! A database server that a test stops and starts again. Used by the tests of restarts.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
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

    /// The same with a directory of its data on a small disk, which holds what is there. The disk is a tmpfs in the server's own
    /// mount namespace, so it goes with the server.
    ///
    /// # Panics
    /// Where it cannot be mounted: it needs root.
    pub fn start_with_small_disk(&self, directory: &Path, size: &str) {
        let script = "mkdir \"$1.small\" && mount -t tmpfs -o \"size=$2,mode=0700,uid=$UID_,gid=$GID_\" tmpfs \"$1.small\" && \
                      cp -a \"$1/.\" \"$1.small\" && mount --move \"$1.small\" \"$1\"";
        self.start_after_mount(script, &self.0.data_dir.join(directory), OsStr::new(size));
    }

    /// The same with a directory in the place of another one, which only this server sees.
    ///
    /// # Panics
    /// Where it cannot be mounted: it needs root.
    pub fn start_with_directory(&self, place: &Path, directory: &Path) {
        self.start_after_mount("mount --bind \"$2\" \"$1\"", place, directory.as_os_str());
    }

    /// Starts it in a mount namespace of its own, after a script with these two arguments.
    fn start_after_mount(&self, script: &str, place: &Path, argument: &OsStr) {
        let data = std::fs::metadata(&self.0.data_dir).expect("a data directory");
        let script =
            format!("{script} && shift 2 && exec setpriv --reuid \"$UID_\" --regid \"$GID_\" --clear-groups \"$@\"");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", &script, "sh"]).args([place.as_os_str(), argument]);
        unshare.env("UID_", data.uid().to_string()).env("GID_", data.gid().to_string());
        let port = format!("-p {}", self.0.port);
        unshare.arg(self.0.bin.join("pg_ctl")).arg("-D").arg(&self.0.data_dir).args(["-w", "-s", "start", "-o", &port]);
        unshare.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(unshare.status().expect("unshare runs").success(), "nothing mounted: as root?");
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
