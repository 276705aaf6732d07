//! The servers, proxies and fakes of the integration tests. Used by every test module of `tests/it`; it does not test the product.
//!
//! | module | what it has |
//! |---|---|
//! | [`proxy`] | [`proxy::FaultProxy`]: an HTTP proxy between program and S3 server that fails the n-th call of a verb, and logs every request |
//! | [`web`] | [`web::Web`]: a small HTTP server with canned answers, for AWS services other than S3 |
//! | [`connect_proxy`] | [`connect_proxy::ConnectProxy`]: an HTTP proxy that tunnels, and resolves names itself |
//! | [`tcp_proxy`] | [`tcp_proxy::TcpProxy`]: a TCP forwarder between program and database that resets, stalls and refuses connections |
//! | [`pgbouncer`] | [`pgbouncer::PgBouncer`]: a real connection pooler of one database |
//! | [`session`] | [`session::Session`]: a `psql` that stays open, to hold locks |
//! | [`fake_pg_dump`] | [`fake_pg_dump::FakeDump`]: a `pg_dump` that writes a prepared dump and ends as requested |
//! | [`servers`] | the database server and the S3 server shared by the test process, and private ones that a test may stop |
//! | [`program`] | [`program::Program`]: runs the built binary in an empty environment and watches it |
//! | [`setup`] | the usual `backup` of a database into a bucket, and its restore: download, verify, gunzip, psql |
//! | [`stored`] | old backups |
//! | [`planted`] | backups with restart points anywhere, and an index that says anything |
//! | [`browser`] | [`browser::Browser`]: a headless Chromium, for the status page |
//! | [`port`] | ports that no other process gets, for servers that stop and start |
//! | [`process`] | processes as seen in `/proc`: descendants, start times, signals |
//! | [`age`] | [`age::AgeKey`]: keys of Debian's `age`, and what it encrypts and decrypts |
//! | [`client`] | plain HTTP requests, and waiting for a condition |
//! | [`faulty`], [`spooled`] | the set-up of the fault tests: a bucket, a proxy, a dump, and a spool |
//! | [`hanging_disk`] | [`hanging_disk::HangingDisk`]: a file system that holds chosen calls |
//! | [`indexed`] | [`indexed::indexed`]: any dump, compressed and indexed without a database and without S3 |
//! | [`library`] | the library called without the program |
//! | [`background`] | a thread with a small runtime, on which the proxies run |
//!
//! A plain `#[test]` can use everything here: no test is async.

#![expect(dead_code, reason = "helpers of many test modules; an executable has no public API")]

pub mod age;
pub mod background;
pub mod browser;
pub mod client;
pub mod connect_proxy;
pub mod fake_pg_dump;
pub mod faulty;
pub mod hanging_disk;
pub mod indexed;
pub mod library;
pub mod pgbouncer;
pub mod planted;
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
