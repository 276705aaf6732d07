//! What `restore --table` reads of a backup: as much of a large one as of a small one.

use serde_json::Value;

use super::selective::dumped;
use super::{empty, restore_program};
use crate::support::servers::s3;
use crate::support::setup::{assert_same_dump, backup_program, index, object, only_backup};
use crate::support::tcp_proxy::TcpProxy;
use std::time::Duration;

/// The most plain bytes of a range: 16 MiB of rows, the rest of a row, and a block that was begun.
const MOST_OF_RANGE: u64 = 18 << 20;
/// Ranges that are read: those with what comes before the data, with the rows, and with what comes after the data.
const RANGES: u64 = 3;
/// Bytes of rows of a table: it has a range of its own.
const TABLE_BYTES: u64 = 16 << 20;
/// Bytes of a row in the dump, of which half is entropy: it compresses badly.
const ROW_BYTES: u64 = 265;

/// The backup has some 200 MiB of dump; `RESTORE_SELECTED_MIB` changes that (`make test-versions`: 1 GiB).
#[test]
fn a_small_table_of_many_large_ones_reads_three_ranges() {
    let mebibytes = std::env::var("RESTORE_SELECTED_MIB").ok().and_then(|size| size.parse().ok()).unwrap_or(200_u64);
    let (tables, rows) = ((mebibytes << 20) / TABLE_BYTES, TABLE_BYTES / ROW_BYTES);
    let source = empty("sizes");
    let make = format!(
        "DO $$ BEGIN FOR t IN 100..{} LOOP EXECUTE format('CREATE TABLE t%s AS SELECT g AS id, encode(sha512((g || ''a'' || %s)::bytea), ''hex'') AS a, \
         encode(sha512((g || ''b'' || %s)::bytea), ''hex'') AS b FROM generate_series(1, {rows}) g', t, t, t); COMMIT; END LOOP; END $$",
        99 + tables
    );
    source.psql(&make).expect("large tables");
    // In the middle, with all that may belong to a table.
    let small = format!(
        "CREATE TABLE t{}_small (id serial PRIMARY KEY, note text); INSERT INTO t{0}_small (note) SELECT md5(g::text) \
         FROM generate_series(1, 1000) g; CREATE INDEX ON t{0}_small (note); COMMENT ON TABLE t{0}_small IS 'small'",
        100 + tables / 2
    );
    source.psql(&small).expect("a small table");
    let bucket = s3().create_bucket("sizes");
    backup_program(&source, &bucket).timeout(Duration::from_mins(10)).run().assert_code(0);
    let key = only_backup(&bucket);
    let (index, stored) = (index(&bucket, &key), object(&bucket, &key).len() as u64);
    let largest = index.ranges().map(|range| range.plain_end - range.point.plain_at).max().expect("ranges");
    assert!(
        largest <= MOST_OF_RANGE && index.points.len() as u64 > tables,
        "{largest} bytes, {} points",
        index.points.len()
    );

    let proxy = TcpProxy::start(s3().addr());
    let target = empty("target");
    let url = format!("http://{}", proxy.address());
    let outcome = restore_program(&bucket, &target).env("S3_URL", url).args(["--table", "*_small", "--json"]).run();
    let report: Value = serde_json::from_slice(&outcome.assert_code(0).stdout).expect("one object");
    let flags = ["-t", "*_small*"];
    assert_same_dump(&dumped(&source, &flags), &dumped(&target, &flags));

    // All compress alike. The index, the manifest, the listing and heads of answers are less than a mebibyte.
    let most = RANGES * MOST_OF_RANGE * stored / index.plain_bytes + (1 << 20);
    let (read, said) = (proxy.bytes_to_client(), report["read_bytes"].as_u64().expect("a number"));
    assert!(read < most && said < read, "{read} of {stored} bytes, {said} reported, at most {most}");
    assert!(stored > 3 * most, "the backup of {stored} bytes is too small for the test");
}
