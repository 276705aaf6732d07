//! `BACKUP_DATABASES` with encryption: one run for all, and each command on the backups of each.

use pg_s3_backup::databases::sub_path;
use serde_json::Value;

use super::{IDENTITY, reader};
use crate::support::age::AgeKey;
use crate::support::program::Program;
use crate::support::servers::database::unique_name;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{gunzipped, s3_program};

#[track_caller]
fn json(program: &Program) -> Value {
    let outcome = program.clone().arg("--json").run();
    serde_json::from_slice(&outcome.assert_code(0).stdout).unwrap_or_else(|_| panic!("{}", outcome.stdout_text()))
}

/// The results of a check, one for each database.
fn results(program: &Program, name: &str) -> Vec<Value> {
    let report = json(program);
    let checks = report["checks"].as_array().expect("checks").clone();
    checks.into_iter().filter(|check| check["check"] == name).collect()
}

#[test]
fn every_command_acts_on_the_encrypted_backups_of_several_databases() {
    let databases = ["first", "second"].map(|hint| postgres().create_database(hint));
    for database in &databases {
        database.psql(&format!("CREATE TABLE t AS SELECT '{}'::text AS name", database.name)).expect("a table");
    }
    let (bucket, key) = (s3().create_bucket("several"), AgeKey::new());
    let names = databases.each_ref().map(|database| database.name.as_str());
    let several = |program: Program| program.env("S3_PATH", "pg").env("BACKUP_DATABASES", names.join(","));
    let backup = several(s3_program(&bucket)).env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres"));
    let backup = backup.env("BACKUP_AGE_RECIPIENTS", &key.recipient).args(["backup", "--database-jobs", "2"]);
    for _ in 0..2 {
        let report = json(&backup);
        for one in report["databases"].as_array().expect("databases") {
            assert_eq!(one["recipients"][0], key.recipient.as_str(), "{one:#}");
        }
    }
    let listed = json(&several(s3_program(&bucket)).arg("list"));
    let listed = listed.as_array().expect("backups");
    assert!(listed.len() == 4 && listed.iter().all(|one| one["encrypted"] == true && one["status"] == "valid"));
    // Each is that database's own, by Debian's age.
    let keys = s3().keys(&bucket, "");
    for name in names {
        let path = format!("pg/{}/", sub_path::of(name));
        let of_database: Vec<&String> = keys.iter().filter(|object| object.starts_with(&path)).collect();
        assert!(of_database.len() == 8 && of_database.iter().all(|object| object.contains(".sql.gz.age")), "{keys:?}");
        for object in
            of_database.iter().filter(|object| object.ends_with(".sql.gz.age") && !object.contains(".globals."))
        {
            let dump = gunzipped(&key.decrypted(&s3().get(&bucket, object).expect("the backup")));
            assert!(String::from_utf8_lossy(&dump).contains(&format!("\n{name}\n")), "{object}");
        }
    }
    let check = several(reader(&bucket, &key)).args(["check", "--bucket-only", "--deep"]);
    let open = results(&check, "dump_integrity");
    assert!(open.len() == 2 && open.iter().all(|check| check["status"] == "ok"), "{open:?}");
    let closed = results(&check.clone().env_remove(IDENTITY), "decryption");
    assert!(closed.len() == 2 && closed.iter().all(|check| check["status"] == "skip"), "{closed:?}");

    let restored = unique_name("restored");
    let restore =
        reader(&bucket, &key).env("S3_PATH", "pg").env("RESTORE_CONNECTION_STRING", postgres().uri("postgres"));
    let restore = restore.args(["restore", "--database", names[1], "--create-db", &restored]);
    restore.clone().env_remove(IDENTITY).run().assert_code(1);
    restore.run().assert_code(0);
    let restored = postgres().adopt_database(&restored);
    assert_eq!(restored.psql("SELECT name FROM t").as_deref(), Ok(names[1]));

    let prune = several(s3_program(&bucket)).args(["prune", "--keep-last", "1", "--min-keep", "1"]);
    let report = json(&prune);
    assert!(report["databases"].as_array().expect("databases").iter().all(|one| one["deleted"] == 1), "{report:#}");
    let left = s3().keys(&bucket, "");
    assert!(left.len() == 8 && left.iter().all(|key| keys.contains(key)), "each with its sidecars: {left:?}");
}
