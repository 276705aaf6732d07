//! One table comes back as printed.

use super::blocks::block_after;
use super::{shell, with_s3};
use crate::support::servers::{postgres, s3};
use crate::support::setup::backup_program;

#[test]
fn restores_one_table_as_printed() {
    let (database, bucket) = (postgres().create_database("readme"), s3().create_bucket("readme"));
    database.psql("CREATE TABLE customer AS SELECT 7 AS n; CREATE TABLE audit_a (n int)").expect("tables");
    backup_program(&database, &bucket).run().assert_code(0);
    let before = database.dump();
    database.psql("DROP TABLE customer").expect("dropped");
    let block = block_after("docs/restore.md", "## One table");
    let text = format!("set -e\n{}", block.replace("postgresql://admin:secret@db.example/shop", &database.uri()));
    let program = with_s3(shell(&text)).env("S3_BUCKET", &bucket);
    program.run().assert_code(0);
    assert_eq!(database.dump(), before);
    let file = std::fs::read_to_string(program.home().join("audit.sql")).expect("the file");
    assert!(file.contains("CREATE TABLE public.audit_a") && !file.contains("customer"), "{file}");
}
