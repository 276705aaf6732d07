//! Parallel workers of the server: it divides CREATE INDEX among processes, however many sessions are at work.
//!
//! Where the sessions of a restore keep every CPU of the server busy, workers only take turns with them, and a sort that is divided
//! costs more than one that is not: 3 to 5 % of a restore's time by two sessions on two CPUs (735 MB, PostgreSQL 15). The plan knows
//! what other sessions can do meanwhile.
//! How many CPUs a server has, SQL does not say, so this holds only for a server on this machine. Elsewhere the server decides.

use std::fs;

use super::RestoreSession;

impl RestoreSession {
    /// The CPUs that the server's session may use, if it runs on this machine and its process can be seen.
    #[must_use]
    pub fn server_cpus(&self, database: &str) -> Option<usize> {
        let pid = self.backend.as_ref()?.pid();
        // Another machine's process id may be that of any process here; the title of a server's process has its database.
        let title = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        is_title_of(&title, database).then(|| cpus_of(pid))?
    }

    /// Lets the server divide the statements that follow among parallel workers, as far as it is set to, or not.
    pub async fn set_parallel_workers(&mut self, are_allowed: bool) {
        if std::mem::replace(&mut self.has_parallel_workers, are_allowed) != are_allowed {
            let value = if are_allowed { "DEFAULT" } else { "0" };
            self.send(format!("SET max_parallel_maintenance_workers = {value};\n")).await;
        }
    }
}

/// The CPUs that a process of this machine may use.
#[cfg(target_os = "linux")]
fn cpus_of(pid: u32) -> Option<usize> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    let cpus = rustix::thread::sched_getaffinity(Some(pid)).ok()?;
    usize::try_from(cpus.count()).ok()
}

#[cfg(not(target_os = "linux"))]
fn cpus_of(_: u32) -> Option<usize> {
    None
}

/// Whether a process has the title of a session with this database: `postgres: [cluster: ]role database client …`.
fn is_title_of(title: &[u8], database: &str) -> bool {
    let title = String::from_utf8_lossy(title);
    title.starts_with("postgres: ") && title.split(' ').any(|word| word == database)
}

#[cfg(test)]
mod tests {
    use super::is_title_of;

    #[test]
    fn a_title_has_the_database_as_a_word() {
        let database = "pg_s3_restore_0123456789abcdef";
        for (title, expected) in [
            ("postgres: app pg_s3_restore_0123456789abcdef 127.0.0.1(4242) idle\0\0", true),
            ("postgres: 15/main: app pg_s3_restore_0123456789abcdef [local] idle", true),
            ("postgres: app pg_s3_restore_0123456789abcdee [local] idle", false),
            ("psql -d pg_s3_restore_0123456789abcdef ", false),
            ("postgres: checkpointer ", false),
            ("", false),
        ] {
            assert_eq!(is_title_of(title.as_bytes(), database), expected, "{title:?}");
        }
    }
}
