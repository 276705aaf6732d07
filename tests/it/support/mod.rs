//! What the integration tests stand on. Used by every test module of `tests/it`; it never tests the product itself.
//!
//! | module | what it gives |
//! |---|---|
//! | [`proxy`] | [`proxy::FaultProxy`]: an HTTP proxy in front of the S3 server that fails the n-th call of a verb, and keeps a log of every request |
//! | [`web`] | [`web::Web`]: a small HTTP server with canned answers: |what AWS has apart from S3 ||
//! | [`connect_proxy`] | [`connect_proxy::ConnectProxy`]: an HTTP proxy that tunnels, and resolves names itself |
//! | [`tcp_proxy`] | [`tcp_proxy::TcpProxy`]: a plain TCP forwarder in front of the database that cuts, stalls and refuses |
//! | [`pgbouncer`] | [`pgbouncer::PgBouncer`]: a real connection pooler in front of the database |
//! | [`session`] | [`session::Session`]: a `psql` that stays open, to hold locks |
//! | [`fake_pg_dump`] | [`fake_pg_dump::FakeDump`]: a `pg_dump` that writes a prepared dump and ends as requested |
//! | [`servers`] | the database server and the S3 server shared by the test process, and private ones that a test may stop |
//! | [`program`] | [`program::Program`]: runs the built binary in an empty environment and watches it |
//! | [`setup`] | the usual `backup` of a database into a bucket, and its restore: download, check, gunzip, psql |
//! | [`stored`] | backups that were made long ago |
//! | [`port`] | ports that no other process gets, for servers that come and go |
//! | [`process`] | processes as seen in `/proc`: descendants, start times, signals |
//! | [`client`] | plain HTTP requests, as monitoring sends them, and waiting until something is so |
//! | [`faulty`], [`spooled`] | the stages of the fault tests: a bucket, a proxy, a dump; and a spool |
//! | [`hanging_disk`] | [`hanging_disk::HangingDisk`]: a file system that holds chosen calls |
//! | [`library`] | the library called without the program |
//! | [`background`] | the thread with a small runtime on which the proxies live |
//!
//! Everything here may be used from a plain `#[test]`: nothing needs an async test.

#![expect(dead_code, reason = "a tool box: not every test module uses every tool, and an executable has no public API")]

pub mod background;
pub mod client;
pub mod connect_proxy;
pub mod fake_pg_dump;
pub mod faulty;
pub mod hanging_disk;
pub mod library;
pub mod pgbouncer;
pub mod port;
pub mod process;
pub mod program;
pub mod proxy;
pub mod servers;
pub mod session;
pub mod setup;
pub mod spooled;
pub mod stored;
pub mod tcp_proxy;
pub mod web;
