//! A backup that succeeds: what is in the bucket then, and what is said about it.

use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, list_program, only_backup, restored};

#[test]
fn a_backup_is_taken_and_listed_and_restored() {
    let database = postgres().create_database("shop");
    database.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n").expect("a table");
    let bucket = s3().create_bucket("shop");
    backup_program(&database, &bucket).run().assert_code(0).assert_no_children_left();
    let key = only_backup(&bucket);
    let listed = list_program(&bucket).run();
    listed.assert_code(0);
    assert!(listed.stdout_text().contains(&key) && listed.stdout_text().contains(&database.name));
    assert_eq!(restored(&bucket, &key).dump(), database.dump());
}
