//! Retention Manager: what is to be deleted, and what speaks against it.
//!
//! `policy` is what was configured, `plan` decides (pure, clock-free), `freeze` says when not to (SPEC §7).

mod freeze;
mod plan;
mod policy;
#[cfg(test)]
mod tests;

pub use freeze::{Freeze, freezes};
pub use plan::{Backup, Decision, Plan, Reason, Soundness, Verdict};
pub use policy::{RetentionPolicy, Rules, Unit};
