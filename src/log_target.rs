//! The targets that say whether an event is for a person at a terminal or for a log.
//!
//! A leaf: every module that logs may use it, and `telemetry` filters by it.

/// The target of events that only a person at a terminal gets: one plain line without fields.
pub const FOR_PEOPLE: &str = concat!(env!("CARGO_CRATE_NAME"), "::for_people");
/// The target of events that only a log gets: one event with all its fields.
pub const FOR_MACHINES: &str = concat!(env!("CARGO_CRATE_NAME"), "::for_machines");

/// The span of one database in a run of several; its only field is the name.
pub const DATABASE_SPAN: &str = "database";
