//! Cron Scheduler: when backups are due.

mod schedule;

pub use schedule::Schedule;
