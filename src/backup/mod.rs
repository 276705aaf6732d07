//! Backup Manager: takes one backup, from connecting to the report.
//!
//! `run` is the story, `target` where the dump goes, `stream` the middle, or `spooled` with a spool, from which `resume`
//! delivers what an earlier run left; `ownership` says whose backups lie where it goes; `name`, `manifest`, `sidecars` and
//! `restore_instructions` are what it leaves behind, `limits` and `watch` what may end it early. Called by `commands::take`.

mod error;
mod limits;
mod ownership;
mod report;
mod resume;
mod run;
mod settings;
mod sidecars;
mod spooled;
pub mod stall;
mod stream;
mod upload_target;
mod watch;

pub use error::{BackupError, DumpError};
pub use limits::Limits;
pub use ownership::MixedDatabases;
pub use report::{Attempt, Report};
pub use run::Backup;
pub use settings::BackupSettings;
