//! A backup that succeeds: what is in the bucket then, and what is said about it.

use crate::support::program::Program;
use crate::support::servers::{postgres, s3};

#[test]
fn a_backup_is_taken_and_listed() {
    let database = postgres().create_database("shop");
    database.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    let bucket = s3().create_bucket("shop");
    let program = || {
        Program::new()
            .env("S3_URL", &s3().url)
            .env("S3_ACCESS_KEY", &s3().access_key)
            .env("S3_SECRET_KEY", &s3().secret_key)
            .env("S3_BUCKET", &bucket)
    };
    program().env("POSTGRES_CONNECTION_STRING", &database.uri()).arg("backup").run().assert_code(0);
    let listed = program().arg("list").run();
    listed.assert_code(0);
    assert!(listed.stdout_text().contains(&database.name));
}
