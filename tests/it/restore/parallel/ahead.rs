//! A session goes on with the next range of its table, and asks S3 for it while the server still works on the last rows of the one
//! before.

use super::create;
use crate::restore::backed_up;
use crate::support::client::eventually;
use crate::support::proxy::FaultProxy;
use crate::support::servers::{own_postgres, s3};
use crate::support::setup::{index, only_backup};

/// The first value of the column `a`. All have as many digits.
const FIRST: u64 = 1_000_001;
/// Bytes of a row in the dump.
const ROW: u64 = 7 + 1 + 1 + 1 + 1000 + 1;
/// They fit into the pipe and the buffers between the program and the server.
const HELD: u64 = 100;

/// A table of four ranges: the last one is read beforehand, for what comes after the rows. In a restore, each row that is `held` takes
/// a second until the server's directory has a file `released`.
fn table(held: &str) -> String {
    format!(
        "CREATE TABLE t AS SELECT g AS a, {held} AS held, repeat('x', 1000) AS b FROM generate_series({FIRST}, {FIRST} + 55999) g; \
         ALTER TABLE t ADD CHECK (NOT held OR current_database() !~ '^pg_s3_restore_' OR \
            pg_sleep(CASE WHEN (pg_stat_file('released', true)).size IS NULL THEN 1 ELSE 0 END) IS NOT NULL);"
    )
}

/// Where the ranges inside the rows begin, in the plain dump and in the object; and where the rows begin.
fn points(bucket: &str) -> ([(u64, u64); 2], u64) {
    let index = index(bucket, &only_backup(bucket));
    let rows_at = index.entries.iter().find_map(|entry| entry.copy.as_ref()).expect("rows").data_at;
    let inside: Vec<_> = index.points.iter().filter(|point| point.plain_at > rows_at).collect();
    ([0, 1].map(|number| (inside[number].plain_at, inside[number].codec_at)), rows_at)
}

#[test]
fn the_next_range_of_a_table_is_asked_for_before_the_last_one_is_committed() {
    let (_without, bucket) = backed_up(&table("false"));
    let (inside, rows_at) = points(&bucket);
    let last_rows = inside.map(|(plain_at, _)| {
        assert_eq!((plain_at - rows_at) % ROW, 0, "rows of other lengths");
        let next = FIRST + (plain_at - rows_at) / ROW;
        format!("g BETWEEN {} AND {}", next - HELD, next - 1)
    });
    let (_source, bucket) = backed_up(&table(&last_rows.join(" OR ")));
    assert_eq!(points(&bucket).0.map(|(plain_at, _)| plain_at), inside.map(|(plain_at, _)| plain_at));
    let third = format!("bytes={}-", points(&bucket).0[1].1);

    let (server, proxy) = (own_postgres(&[]), FaultProxy::start(s3().addr()));
    let running = create(&bucket, &server, ("made", 2)).env("S3_URL", proxy.url()).spawn();
    let is_asked_for =
        || proxy.log().iter().any(|seen| seen.header("range").is_some_and(|range| range.starts_with(&third)));
    eventually(is_asked_for, || format!("{third} not among {:?}", proxy.log()));
    // One session may still be on its way to the held rows.
    let both = "SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE 'COPY%'";
    eventually(|| server.psql("postgres", both).as_deref() == Ok("t"), || running.stderr_so_far());

    let released =
        "DO $$ BEGIN EXECUTE format('COPY (SELECT 1) TO %L', current_setting('data_directory') || '/released'); END $$";
    server.psql("postgres", released).expect("released");
    running.wait().assert_code(0);
    // Each session loaded its ranges by one COPY statement.
    let transactions = server.psql("made", "SELECT count(DISTINCT xmin::text) FROM t");
    assert_eq!(transactions.as_deref(), Ok("2"));
}
