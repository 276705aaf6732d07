//! Several databases with `BACKUP_COMPRESSION=zstd`: they share the threads, and every command reads their backups beside those of
//! gzip.

use serde_json::Value;

use crate::support::program::Program;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{manifest, plain, s3_program};

use super::server::{key_of, reports};

#[test]
fn databases_share_the_threads_and_every_command_reads_their_zstd_backups() {
    let databases = ["zstd_a", "zstd_b"].map(|hint| postgres().create_database(hint));
    for database in &databases {
        // About 2 MiB of dump: several blocks.
        let fill =
            "CREATE TABLE t AS SELECT n, current_database() AS name, md5(n::text) FROM generate_series(1, 30000) AS n";
        database.psql(fill).expect("a table");
    }
    let bucket = s3().create_bucket("zstds");
    let names = databases.each_ref().map(|database| database.name.clone()).join(",");
    let program = |command: &str| -> Program {
        let program = s3_program(&bucket).env("S3_PATH", "srv").env("BACKUP_DATABASES", &names);
        program.env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres")).arg(command)
    };
    let backup = program("backup").args(["--json", "--database-jobs", "2", "--threads", "2"]);
    backup.run().assert_code(0);
    let outcome = backup.args(["--compression", "zstd"]).run();
    let reports = reports(&outcome.assert_code(0).stdout);
    let listed = program("list").arg("--quiet").run().assert_code(0).stdout_text();
    assert_eq!(listed.lines().count(), 4, "{listed}");
    for database in &databases {
        let report = &reports[&database.name];
        let key = key_of(&bucket, report);
        assert!(key.ends_with(".sql.zst") && listed.contains(key), "{key} in {listed}");
        let recorded = manifest(&bucket, key);
        assert_eq!((&recorded["compression"], &report["compression"]), (&"zstd".into(), &"zstd".into()));
        assert_eq!(recorded["compression_levels"][0], 2, "auto starts fast");
        let dump = plain(&bucket, key);
        let text = String::from_utf8_lossy(&dump);
        assert!(text.contains(&format!("\t{}\t", database.name)), "the database's own rows");
        let restore = s3_program(&bucket).env("S3_PATH", "srv").args(["restore", "--database", &database.name]);
        assert!(restore.run().assert_code(0).stdout == dump, "the newest, which is zstd's");
    }
    let checked = program("check").args(["--deep", "--json"]).run();
    let report: Value = serde_json::from_slice(&checked.assert_code(0).stdout).expect("JSON");
    assert_eq!(report.to_string().matches("\"zstd\"").count(), 2, "{report:#}");
    // Retention counts both codecs.
    program("prune").args(["--keep-last", "1", "--min-keep", "1"]).run().assert_code(0);
    let left = program("list").arg("--quiet").run().assert_code(0).stdout_text();
    assert!(left.lines().count() == 2 && left.lines().all(|name| name.ends_with(".sql.zst")), "{left}");
}
