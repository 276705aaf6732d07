//! The commands of docs/encryption.md run as printed.

use super::blocks::block_after;
use super::{path_of_shell, with_s3};
use crate::examples::shell;
use crate::support::servers::{own_postgres, postgres, s3};
use crate::support::setup::installed;

pub const PAGE: &str = "docs/encryption.md";
pub const BLOCKS: &[&str] = &["## Keys", "## Reading a backup", "By hand"];

#[test]
fn keys_are_made_and_read_what_was_backed_up() {
    installed("age");
    let (database, bucket) = (postgres().create_database("readme"), s3().create_bucket("readme"));
    database.psql("CREATE TABLE t AS SELECT 7 AS n").expect("a table");
    let steps = [BLOCKS[0], BLOCKS[1]].map(|marker| block_after(PAGE, marker)).concat();
    let server = own_postgres(&[]);
    let by_hand = block_after(PAGE, BLOCKS[2]);
    let name = "postgres-backup-2026-11-23_02-00-00.sql.gz.age";
    let text = format!(
        "set -e\n{steps}\nunset BACKUP_AGE_IDENTITY_FILE\nname=$(pg-s3-backup list --quiet)\n\
         BACKUP_AGE_IDENTITY_FILE=key.txt pg-s3-backup restore --raw --output \"$name\"\ncreatedb shop_restored\n{}",
        by_hand.replace(name, "\"$name\"")
    );
    let path = format!("{}:{}", server.bin.display(), path_of_shell());
    let program = with_s3(shell(&text)).env("S3_BUCKET", &bucket).env("PATH", path);
    let program = program.env("POSTGRES_CONNECTION_STRING", database.uri());
    let program = program.env("PGHOST", &server.host).env("PGPORT", server.port.to_string());
    let program = program.env("PGUSER", &server.user).env("PGPASSWORD", &server.password);
    program.run().assert_code(0);
    let dump = std::fs::read_to_string(program.home().join("shop.sql")).expect("the file");
    assert!(dump.contains("CREATE TABLE public.t"), "{dump}");
    assert_eq!(server.psql("shop_restored", "SELECT n FROM t"), Ok("7".to_owned()));
}
