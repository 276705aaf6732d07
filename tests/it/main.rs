//! The integration tests: the built program against a real PostgreSQL and a real, signature-checking S3 server.
//!
//! One binary, a module a theme. `make test` runs them; the servers are started by the project's own scripts.

mod aws_chain;
mod blocking;
mod bottleneck;
mod check;
mod command_line;
mod completions;
mod connections;
mod connections_tls;
mod daemon;
mod daemon_outages;
mod daemon_start;
mod dialects;
mod documents;
mod dump_faults;
mod examples;
mod globals;
mod globals_faults;
mod image;
mod libpq;
mod listing;
mod listing_large;
mod memory;
mod mixed;
mod monitoring;
mod packaging;
mod pings;
mod preflight;
mod private_stores;
mod prune;
mod prune_faults;
mod refusals;
mod retention_of_backup;
mod round_trip;
mod secrets;
mod settings;
mod settings_sources;
mod signals;
mod spool;
mod spool_damage;
mod spool_full;
mod standby;
mod storage_faults;
mod support;
mod sweep;
