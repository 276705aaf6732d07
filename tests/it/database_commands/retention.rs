//! `prune`: each database has a plan of its own, and nothing of one is touched by another's.

use crate::support::program::Program;
use crate::support::servers::s3;
use crate::support::stored::{FUTURE, name_of_day};

use super::{NAMES, bucket_with, json, program, put, put_backups};

const PRUNE_INCOMPLETE: i32 = 13;

fn prune(bucket: &str, databases: &str) -> Program {
    program(bucket, databases, "prune").args(["--keep-last", "1", "--min-keep", "1"])
}

#[test]
fn each_database_keeps_by_its_own_plan() {
    let bucket = bucket_with(&NAMES, &[1, 2]);
    // Newer than the others: an origin of ages that must not count for them.
    put_backups(&bucket, "app", "app", &[40]);
    put_backups(&bucket, "elsewhere", "another", &[1, 2, 3]);
    s3().begin_uploads(&bucket, &[format!("pg/app/{}", name_of_day(3)), format!("pg/elsewhere/{}", name_of_day(3))]);
    let plan = prune(&bucket, "all,!App").arg("--dry-run").run();
    let text = plan.assert_code(0).stdout_text();
    assert_eq!(text.matches("DATABASE ").count(), NAMES.len() - 1, "{text}");
    assert!(text.contains("DATABASE a/b\n") && text.contains("pg/a%2Fb/: 1 backup to keep, 1 to delete"), "{text}");
    let plan = json(prune(&bucket, "all,!App").args(["--dry-run", "--json"]).run().assert_code(0));
    assert_eq!(plan["databases"].as_array().map(Vec::len), Some(NAMES.len() - 1));
    assert_eq!(plan["databases"][0]["backups"][1]["action"], "delete", "{plan:#}");
    let outcome = prune(&bucket, "all,!App").args(["--json", "--sweep-after", "1s"]).run();
    let report = json(outcome.assert_code(0));
    for one in report["databases"].as_array().expect("an array") {
        let is_app = one["database"] == "app";
        assert_eq!((&one["success"], &one["retained"]), (&true.into(), &1.into()), "{one}");
        assert_eq!(one["deleted"], if is_app { 2 } else { 1 }, "{one}");
    }
    assert_eq!(report["left_alone"][0]["location"], format!("s3://{bucket}/pg/elsewhere/"), "{report:#}");
    let left = s3().keys(&bucket, "");
    let newest = |key: &&String| key.contains(&name_of_day(2)) || key.contains(&name_of_day(40));
    assert_eq!(left.iter().filter(newest).count(), 2 * (NAMES.len() + 1), "{left:?}");
    assert_eq!(left.len(), 2 * (NAMES.len() + 4), "what is not meant is not touched: {left:?}");
}

#[test]
fn a_database_that_is_blocked_stops_no_other() {
    let bucket = bucket_with(&["app", "shop", "wiki"], &[1, 2]);
    put(&bucket, &format!("pg/shop/{FUTURE}"), &[b'x'; 400]);
    let outcome = prune(&bucket, "all").arg("--json").run();
    let report = json(outcome.assert_code(PRUNE_INCOMPLETE));
    let of = |field: &str| -> Vec<String> {
        report["databases"].as_array().expect("an array").iter().map(|one| one[field].to_string()).collect()
    };
    assert_eq!(of("success"), ["true", "false", "true"], "{report:#}");
    assert_eq!(of("deleted"), ["1", "0", "1"], "{report:#}");
    assert_eq!(report["success"], false);
    let error = report["error"].as_str().expect("why");
    assert!(error.contains("1 of 3 databases failed: shop"), "{error}");
    assert!(outcome.stderr.contains("shop") && outcome.stderr.contains("future"), "{}", outcome.stderr);
    let outcome = prune(&bucket, "all").run();
    let text = outcome.assert_code(PRUNE_INCOMPLETE).stdout_text();
    assert!(text.contains("pg/app/: 1 backup kept") && text.contains("pg/wiki/") && !text.contains("shop"), "{text}");
}

#[test]
fn a_failure_before_any_database_has_the_same_form() {
    for arguments in [&["--json"] as &[&str], &["--json", "--dry-run"]] {
        let program = prune("no-such-bucket-of-several", "all").args(arguments);
        let report = json(program.run().assert_code(3));
        assert_eq!((&report["success"], report["databases"].as_array().map(Vec::len)), (&false.into(), Some(0)));
        assert!(report["error"].as_str().is_some_and(|error| error.contains("bucket")), "{report:#}");
    }
}

#[test]
fn aborts_a_stale_upload_of_a_database_without_objects() {
    let bucket = bucket_with(&["app"], &[1]);
    put_backups(&bucket, "elsewhere", "another", &[1]);
    let upload = |path: &str| format!("pg/{path}/{}", name_of_day(3));
    let uploads = ["alone", "elsewhere", "excluded", "no~name"].map(upload);
    s3().begin_uploads(&bucket, &uploads);
    // A server's times have full seconds.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let program = prune(&bucket, "all,!excluded").args(["--json", "--sweep-after", "1s"]);
    let plan = json(program.clone().arg("--dry-run").run().assert_code(0));
    assert_eq!(plan["databases"][0]["database"], "alone", "{plan:#}");
    assert_eq!(plan["databases"][0]["stale_uploads"], serde_json::json!([name_of_day(3)]), "{plan:#}");
    let report = json(program.run().assert_code(0));
    assert_eq!(report["databases"][0]["uploads_aborted"], 1, "{report:#}");
    let mut open = s3().open_uploads(&bucket);
    open.sort_unstable();
    assert_eq!(open, uploads[1..]);
}
