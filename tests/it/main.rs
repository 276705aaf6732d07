//! The integration tests: the built program against a real PostgreSQL and a real, signature-checking S3 server.
//!
//! One binary, a module a theme. `make test` runs them; the servers are started by the project's own scripts.

mod blocking;
mod command_line;
mod completions;
mod connections;
mod dialects;
mod documents;
mod dump_faults;
mod examples;
mod listing;
mod memory;
mod packaging;
mod preflight;
mod refusals;
mod round_trip;
mod secrets;
mod settings;
mod settings_sources;
mod signals;
mod storage_faults;
mod support;
