//! Several databases of a server in one run.

mod odd_names;
mod server;
