//! Runs the `pg_dump` of a backup with `--schema-only` and discards its output.
//!
//! Called by [`super::source`]. It verifies that this `pg_dump` connects, gets its locks and reads the catalogue. Its output is
//! judged like a backup's.

use std::fs::File;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::pipeline::scanner::{ScanReport, Scanner};
use crate::postgres::{Coverage, Dump, Facts, PostgresSettings, Tools};
use crate::verified_dump::{self, IncompleteDump};

use super::result::Outcome;

/// A catalogue of a hundred thousand tables takes minutes.
const DEADLINE: Duration = Duration::from_mins(10);
/// As much of the output as is in memory.
const BLOCK: usize = 64 << 10;

/// Why the schema dump failed.
#[derive(Debug, thiserror::Error)]
enum Mishap {
    #[error("read the output of pg_dump")]
    Read(#[source] std::io::Error),
    #[error("wait for pg_dump")]
    Wait(#[source] std::io::Error),
    #[error(transparent)]
    IncompleteDump(IncompleteDump),
}

/// Runs it. At the deadline `pg_dump` is stopped; if the check is interrupted, it is killed.
pub(super) async fn dump_schema(tools: &Tools, settings: &PostgresSettings, facts: &Facts) -> Outcome {
    let (mut dump, stdout) = match Dump::schema_only(tools, settings, &settings.pinned(&facts.place)) {
        Ok(started) => started,
        Err(error) => return Outcome::error(&error),
    };
    let limit = DEADLINE.min(settings.stall_timeout);
    let outcome = timeout(limit, follow(&mut dump, stdout)).await;
    match outcome {
        Ok(Ok(scan)) => passed(&scan, settings),
        Ok(Err(mishap)) => {
            dump.stop().await;
            let detail = crate::error_chain::Chain(&mishap).to_string();
            let hint = advice(&detail);
            Outcome::fail(detail, hint)
        }
        Err(_) => {
            dump.stop().await;
            let detail = format!("pg_dump --schema-only did not end within {}", humantime::format_duration(limit));
            Outcome::fail(detail, "check pg_locks for sessions that hold locks, and the server's load")
        }
    }
}

async fn follow(dump: &mut Dump, stdout: File) -> Result<ScanReport, Mishap> {
    let mut stdout = tokio::fs::File::from_std(stdout);
    let (mut scanner, mut block) = (Scanner::default(), vec![0; BLOCK]);
    loop {
        match stdout.read(&mut block).await.map_err(Mishap::Read)? {
            0 => break,
            count => scanner.scan(&block[..count]),
        }
    }
    let scan = scanner.finish();
    let end = dump.wait().await.map_err(Mishap::Wait)?;
    verified_dump::judge_end(&end, scan.clone()).map_err(Mishap::IncompleteDump)?;
    Ok(scan)
}

/// The hint for the server's message.
fn advice(detail: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    if has(&["max_locks_per_transaction", "out of shared memory"]) {
        "raise max_locks_per_transaction, and restart the server: a dump locks every table at once"
    } else if has(&["statement timeout", "lock timeout", "could not obtain lock"]) {
        // `pg_dump` takes its locks with a statement timeout.
        "a statement timeout is a lock that another session holds for longer than BACKUP_LOCK_WAIT_TIMEOUT: look at \
         pg_locks, or raise it"
    } else if has(&["permission denied", "row-level security"]) {
        "grant the role what `privileges` names, or use another role"
    } else {
        "see pg_dump's messages in the log"
    }
}

fn passed(scan: &ScanReport, settings: &PostgresSettings) -> Outcome {
    let words = settings.arguments.words().join(" ");
    let with = if words.is_empty() { String::new() } else { format!(" with {words}") };
    let detail = format!("pg_dump --schema-only{with} completed ({} bytes)", scan.bytes);
    match settings.arguments.coverage() {
        Coverage::Complete => Outcome::ok(detail),
        Coverage::Partial => {
            let detail = format!("{detail}; its arguments leave a part of the database out");
            Outcome::warn(
                detail,
                "remove the arguments that leave something out from PG_DUMP_ARGS if you need all of it",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::advice;

    #[test]
    fn hint_matches_the_servers_message() {
        let memory = "pg_dump: error: query failed: ERROR:  out of shared memory; HINT:  You might need to increase \
                      max_locks_per_transaction.";
        for (detail, word) in [
            (memory, "max_locks_per_transaction"),
            ("ERROR:  canceling statement due to statement timeout", "BACKUP_LOCK_WAIT_TIMEOUT"),
            ("ERROR:  permission denied for table pg_subscription", "privileges"),
            ("its dump is not complete", "in the log"),
        ] {
            assert!(advice(detail).contains(word), "{detail}: {}", advice(detail));
        }
    }
}
