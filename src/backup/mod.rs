//! Backup Manager: takes one backup, from connecting to the report, or one of each database of a server (`server`).
//!
//! `run` is the sequence of steps. `upload_target` starts the upload under a `free_name`, `stream` dumps into it, and `fill`
//! commits. `resume` delivers what an earlier run left in the spool. `ownership` checks which database the destination's
//! backups belong to. `sidecars` writes globals and manifest. `limits`, `watch` and `stall` may end a run early. Backups that
//! run at the same time have one `shared`. Called by `commands::run_backup`.

mod error;
mod estimate;
mod fill;
mod free_name;
mod index;
mod limits;
mod ownership;
mod report;
mod resume;
mod run;
mod server;
mod settings;
mod shared;
mod sidecars;
mod source;
mod stall;
mod stream;
mod upload_target;
mod watch;

pub use error::{BackupError, DumpError, StallFinding};
pub use limits::Limits;
pub use ownership::MixedDatabases;
pub use report::{Attempt, Report};
pub use run::Backup;
pub use server::{DatabaseRun, DatabaseRuns, ServerBackup, ShowProgress, meant_databases};
pub use settings::BackupSettings;
