//! `prune` without faults: it deletes backups that no rule keeps, with their sidecars, shows its plan, and obeys safety checks.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::support::program::{Outcome, Program};
use crate::support::proxy::{Calls, Fault, FaultProxy, Rule, S3Verb, Seen};
use crate::support::servers::s3;
use crate::support::setup::{prune_program, s3_program};
use crate::support::stored::{EMPTY_GZIP, FUTURE, VALID_MANIFEST, name_of_day, name_of_hour, put_backups};

/// Keys near the destination that are not its backups.
fn unrelated_keys() -> Vec<String> {
    let old = "postgres-backup-2024-01-01_00-00-00.sql.gz";
    let near = ["app2", "app_test", "app.old", "apple", "ap", "App", "app/x", "app/x/y", "x/app", "other"];
    let inside = [
        "",
        "README.txt",
        "dump.sql.gz",
        "pg_dump-2024-01-01.sql.gz",
        "base.tar.gz",
        "backup-2024-01-01_00-00-00.sql.gz",
        "mysql-backup-2024-01-01_00-00-00.sql.gz",
        "Postgres-backup-2024-01-01_00-00-00.sql.gz",
        "xpostgres-backup-2024-01-01_00-00-00.sql.gz",
        "postgres-backup",
        "postgres-backup-",
        "postgres-backup-latest.sql.gz",
        "postgres-backup-2024-02-30_00-00-00.sql.gz",
        "postgres-backup-2023-02-29_00-00-00.sql.gz",
        "postgres-backup-2024-13-01_00-00-00.sql.gz",
        "postgres-backup-2024-01-01_24-00-00.sql.gz",
        "postgres-backup-2024-01-01_23-59-60.sql.gz",
        "postgres-backup-2024-1-1_00-00-00.sql.gz",
        "postgres-backup-2024-01-01_00-00-00.sql",
        "postgres-backup-2024-01-01_00-00-00.dump",
        "postgres-backup-2024-01-01_00-00-00.sql.gz.part",
        "postgres-backup-2024-01-01_00-00-00.sql.gz.sha256",
        "postgres-backup-2024-01-01_00-00-00.sql.gz.json.bak",
        "postgres-backup-2024-01-01_00-00-00.sql.gz.json.json",
        "postgres-backup-2024-01-01_00-00-00.sql.gz.globals.sql",
        "postgres-backup-2024-01-01_00-00-00.sql.gzip",
        "postgres-backup-2024-01-01T00-00-00.sql.gz",
        "postgres-backup-2024-01-01_00-00-00.sql.gz ",
        "postgres-backup-shop-2024-01-01_00-00-00.sql.gz",
        "postgres-backup-2024-01-01_00-00-01.sql.gz/",
        "postgres-backup-2024-01-01_00-00-02.sql.gz/inner.sql.gz",
    ];
    let near = near.iter().flat_map(|path| [format!("{path}/{old}"), format!("{path}/{old}.json")]);
    let inside = inside.iter().map(|name| format!("app/{name}"));
    let top = [old.to_owned(), format!("{old}.json"), "app-marker/".to_owned()];
    near.chain(inside).chain(top).collect()
}

#[test]
fn deletes_only_backups_that_no_rule_keeps_of_2500() {
    let bucket = s3().create_bucket("thousands");
    let names: Vec<String> = (0..2_500).map(name_of_hour).collect();
    let mut keys: Vec<String> = names.iter().map(|name| format!("app/{name}")).collect();
    keys.extend(unrelated_keys());
    s3().put_many(&bucket, &keys);
    // Each has a manifest; some have more sidecars.
    let manifests: Vec<String> = names.iter().map(|name| format!("app/{name}.json")).collect();
    s3().put_all(&bucket, &manifests.iter().map(|key| (key.as_str(), VALID_MANIFEST)).collect::<Vec<_>>());
    let sidecars = |name: &String| [".globals.sql.gz", ".drill.json"].map(|suffix| format!("app/{name}{suffix}"));
    let others: Vec<String> = names.iter().step_by(50).flat_map(sidecars).collect();
    s3().put_many(&bucket, &others);
    let before = s3().every_key(&bucket);
    assert_eq!(before.len(), keys.len() + manifests.len() + others.len(), "all are stored");

    // The newest backup of each of the last 30 days is of 23 o'clock, except on the last day, which ends at 3 o'clock.
    let newest_of_day = |hour: u32| hour % 24 == 23 || hour == 2_499;
    let days: Vec<u32> = (0..2_500).rev().filter(|hour| newest_of_day(*hour)).take(30).collect();
    let retained: BTreeSet<String> = (2_490..2_500).chain(days).map(name_of_hour).collect();
    let is_to_delete = |key: &String| {
        let file_name = key.strip_prefix("app/").unwrap_or_default();
        let name = names.iter().find(|name| file_name.starts_with(name.as_str()));
        name.is_some_and(|name| !retained.contains(name))
    };
    let expected: BTreeSet<String> = before.iter().filter(|key| !is_to_delete(key)).cloned().collect();

    let proxy = FaultProxy::start(s3().addr());
    let program = prune_program(&bucket).env("S3_URL", proxy.url()).env("S3_PATH", "app");
    let program = program.args(["--keep-last", "10", "--keep-daily", "30"]);
    let refused = program.run();
    refused.assert_code(13);
    assert!(refused.stderr.contains("2462 of 2500 backups would be deleted"), "{}", refused.stderr);
    assert_eq!(s3().every_key(&bucket), before, "nothing is deleted");
    // It reads only the manifests of the last 10 backups and of the newest of 30 days, each once.
    assert!(proxy.count(S3Verb::GetObject) <= 40, "{} manifests read", proxy.count(S3Verb::GetObject));

    let forced = program.arg("--force").timeout(Duration::from_mins(10)).run();
    forced.assert_code(0);
    assert_eq!(s3().every_key(&bucket), expected);
    assert!(forced.stdout_text().contains("38 backups kept, 2462 deleted"), "{}", forced.stdout_text());
    assert_eq!(proxy.count(S3Verb::DeleteObjects), 0, "one by one");
}

#[test]
fn without_path_keeps_keys_below() {
    let bucket = s3().create_bucket("top");
    let old = name_of_day(1);
    put_backups(&bucket, "", &[1, 8, 9, 10]);
    let others = [format!("app/{old}"), format!("app/{old}.json"), format!("x/{old}")];
    s3().put_many(&bucket, &others);
    prune_program(&bucket).args(["--keep-last=3"]).run().assert_code(0);
    let kept = [8, 9, 10].into_iter().flat_map(|day| [name_of_day(day), format!("{}.json", name_of_day(day))]);
    assert_eq!(s3().every_key(&bucket), kept.chain(others).collect());
}

#[test]
fn deletes_sidecars_after_their_backup_and_orphaned_sidecars_too() {
    let bucket = s3().create_bucket("sidecars");
    put_backups(&bucket, "app", &[2, 3, 10, 11, 12]);
    let spared = [name_of_day(13) + ".json", name_of_day(10) + ".drill.json", name_of_day(1) + ".txt"];
    let gone = [name_of_day(1) + ".json", name_of_day(1) + ".drill.json", name_of_day(2) + ".globals.sql.gz"];
    let below = |name: &String| format!("app/{name}");
    s3().put_many(&bucket, &spared.iter().chain(&gone).map(below).collect::<Vec<_>>());
    let proxy = FaultProxy::start(s3().addr());
    let outcome =
        prune_program(&bucket).env("S3_URL", proxy.url()).env("S3_PATH", "/app/").arg("--retention-days=5").run();
    outcome.assert_code(0);
    let kept = [10, 11, 12].into_iter().flat_map(|day| [name_of_day(day), name_of_day(day) + ".json"]);
    assert_eq!(s3().every_key(&bucket), kept.chain(spared).map(|name| format!("app/{name}")).collect());
    let deletes: Vec<String> =
        proxy.log().iter().filter(|seen| seen.verb == S3Verb::DeleteObject).map(Seen::key).collect();
    let at = |name: String| deletes.iter().position(|key| *key == format!("app/{name}")).expect("deleted");
    assert!(at(name_of_day(2)) < at(name_of_day(2) + ".json"), "{deletes:?}");
    assert!(at(name_of_day(2)) < at(name_of_day(2) + ".globals.sql.gz"), "{deletes:?}");
    assert_eq!(deletes.len(), 7, "each once: {deletes:?}");
}

#[test]
fn keeps_sidecars_when_their_object_appears() {
    let bucket = s3().create_bucket("turns-up");
    put_backups(&bucket, "app", &[10, 11, 12, 13]);
    s3().put_many(&bucket, &[format!("app/{}.json", name_of_day(1)), format!("app/{}.json", name_of_day(2))]);
    let proxy = FaultProxy::start(s3().addr());
    let program = prune_program(&bucket).env("S3_URL", proxy.url()).env("S3_PATH", "app").arg("--keep-last=3");
    let preview = json(&program.clone().args(["--dry-run", "--json"]).run(), 0);
    assert_eq!(preview["orphans"], serde_json::json!([name_of_day(1), name_of_day(2)]));
    proxy.reset_counts();
    proxy.rule(Rule::on(S3Verb::ListObjects, Calls::From(2), Fault::slow_down()));
    let running = program.env("BACKUP_MAX_UPLOAD_OUTAGE", "1m").spawn();
    // The second check of an orphan waits until its backup exists.
    proxy.wait_for(S3Verb::ListObjects, 4, Duration::from_mins(1));
    s3().put_many(&bucket, &[format!("app/{}", name_of_day(2))]);
    proxy.clear_rules();
    running.wait().assert_code(0);
    let keys = s3().every_key(&bucket);
    assert!(!keys.contains(&format!("app/{}.json", name_of_day(1))), "{keys:?}");
    assert!(keys.contains(&format!("app/{}.json", name_of_day(2))), "{keys:?}");
}

#[test]
fn manifests_reveal_invalid_backups() {
    let bucket = s3().create_bucket("invalid");
    put_backups(&bucket, "app", &[1, 2, 3, 4]);
    let partial = r#"{"object_bytes": 900, "partial": true}"#;
    let size_mismatch = r#"{"object_bytes": 2, "partial": false}"#;
    let [damaged, empty] = ["{\"object_bytes\": ", ""];
    let manifests = [(5, partial), (6, damaged), (7, size_mismatch), (8, empty), (9, partial)];
    let backups = manifests.map(|(day, manifest)| (format!("app/{}", name_of_day(day)), manifest));
    let manifests = backups.clone().map(|(key, manifest)| (key + ".json", manifest));
    let body = "x".repeat(900);
    let objects = backups.iter().map(|(key, _)| (key.as_str(), body.as_str()));
    let objects: Vec<(&str, &str)> = objects.chain(manifests.iter().map(|(key, body)| (key.as_str(), *body))).collect();
    s3().put_all(&bucket, &objects);
    let program = prune_program(&bucket).env("S3_PATH", "app").args(["--keep-last=3", "--min-keep=3"]);
    let plan = json(&program.clone().args(["--dry-run", "--json"]).run(), 0);
    let rows = plan["backups"].as_array().expect("rows").iter();
    let rows: Vec<String> = rows.map(|row| format!("{} {}", row["action"], row["status"]).replace('"', "")).collect();
    // The last three, and the last three valid ones: a damaged manifest counts as no manifest.
    let expected = ["keep partial", "keep valid", "keep size_mismatch", "keep valid", "delete partial", "keep valid"];
    assert_eq!(rows[..6], expected);
    program.run().assert_code(0);
    let keys = s3().every_key(&bucket);
    let kept: Vec<u32> = (1..10).filter(|day| keys.contains(&format!("app/{}", name_of_day(*day)))).collect();
    assert_eq!(kept, [4, 6, 7, 8, 9]);
}

#[test]
fn dry_run_shows_each_backup_and_deletes_nothing() {
    let bucket = s3().create_bucket("dry");
    put_backups(&bucket, "app", &[1, 2, 20, 21, 22, 23]);
    let before = s3().every_key(&bucket);
    let program = prune_program(&bucket).env("S3_PATH", "app").args(["--retention-days=7", "--dry-run"]);
    let outcome = program.run();
    let text = outcome.assert_code(0).stdout_text();
    let expected = format!(
        "NAME                                       SIZE PLAN   WHY\n\
         postgres-backup-2026-01-23_02-00-00.sql.gz   1B keep   newest, min-keep, days\n\
         postgres-backup-2026-01-22_02-00-00.sql.gz   1B keep   min-keep, days\n\
         postgres-backup-2026-01-21_02-00-00.sql.gz   1B keep   min-keep, days\n\
         postgres-backup-2026-01-20_02-00-00.sql.gz   1B keep   days\n\
         postgres-backup-2026-01-02_02-00-00.sql.gz   1B delete 21 days old\n\
         postgres-backup-2026-01-01_02-00-00.sql.gz   1B delete 22 days old\n\
         s3://{bucket}/app/: 4 backups to keep, 2 to delete (124 B)\n"
    );
    assert_eq!(text, expected);
    let all = program.clone().args(["--keep-last=2", "--keep-daily=2", "--keep-weekly=2", "--keep-monthly=2"]);
    let text = all.arg("--keep-yearly=2").run().stdout_text();
    // As this is no terminal, nothing is cut.
    assert!(text.contains("22 days old, not of the last 2, before the last 2 days, another of its week, "), "{text}");
    let report = json(&program.arg("--json").run(), 0);
    assert_eq!(
        (&report["retained"], &report["deleted"], &report["deleted_bytes"]),
        (&4.into(), &2.into(), &124.into())
    );
    assert_eq!(report["backups"][5]["reasons"], serde_json::json!(["22 days old"]));
    assert_eq!((&report["dry_run"], &report["blocked"]), (&true.into(), &false.into()));
    assert_eq!(s3().every_key(&bucket), before);
}

#[test]
fn empty_files_do_not_replace_backups() {
    // Eight empty files since the last of three backups; the newest has a damaged manifest.
    for (rules, left) in [(["--keep-last=3", "--min-keep=1"], 3), (["--retention-days=4", "--min-keep=3"], 8)] {
        let bucket = s3().create_bucket("pipes");
        put_backups(&bucket, "app", &[1, 2, 3]);
        for day in 4..12 {
            let body = if day == 7 { b"" } else { EMPTY_GZIP };
            s3().request("PUT", &format!("/{bucket}/app/{}", name_of_day(day)), body).expect("stored");
        }
        s3().request("PUT", &format!("/{bucket}/app/{}.json", name_of_day(11)), b"{").expect("stored");
        let program = prune_program(&bucket).env("S3_PATH", "app").args(rules);
        let plan = json(&program.clone().args(["--dry-run", "--json"]).run(), 0);
        assert_eq!((&plan["backups"][0]["status"], &plan["backups"][10]["action"]), (&"empty".into(), &"keep".into()));
        program.run().assert_code(0);
        let keys = s3().every_key(&bucket);
        for day in 1..4 {
            assert!(keys.contains(&format!("app/{}", name_of_day(day))), "{rules:?}: {keys:?}");
        }
        // The same rules delete the empty files: they keep the last three, or all that are younger than the given days.
        let files = (4..12).filter(|day| keys.contains(&format!("app/{}", name_of_day(*day)))).count();
        assert_eq!(files, left, "{rules:?}: {keys:?}");
    }
}

#[test]
fn does_not_count_names_in_the_future() {
    let bucket = s3().create_bucket("ahead");
    put_backups(&bucket, "app", &[1, 8, 9, 10, 11]);
    s3().put_many(&bucket, &[format!("app/{FUTURE}"), format!("app/{FUTURE}.json")]);
    let program = prune_program(&bucket).env("S3_PATH", "app").args(["--retention-days=7", "--min-keep=1"]);
    let dry = program.clone().args(["--dry-run", "--force"]).run();
    let text = dry.assert_code(0).stdout_text();
    assert!(text.contains(&format!("{FUTURE}   1B keep   in the future\n")), "{text}");
    assert!(text.contains("5 backups to keep, 1 to delete") && !text.contains("without --force"), "{text}");
    program.arg("--force").run().assert_code(0);
    let keys = s3().every_key(&bucket);
    let kept = [8, 9, 10, 11].into_iter().flat_map(|day| [name_of_day(day), format!("{}.json", name_of_day(day))]);
    assert_eq!(
        keys,
        kept.chain([FUTURE.to_owned(), format!("{FUTURE}.json")]).map(|name| format!("app/{name}")).collect()
    );
}

/// Stores backups of these days under `app`, with these sizes.
fn with_sizes(bucket: &str, sizes: &[(u32, usize)]) {
    let objects: Vec<(String, String)> =
        sizes.iter().map(|(day, bytes)| (format!("app/{}", name_of_day(*day)), "x".repeat(*bytes))).collect();
    s3().put_all(bucket, &objects.iter().map(|(key, body)| (key.as_str(), body.as_str())).collect::<Vec<_>>());
}

#[test]
fn reports_each_safety_check_and_force_overrides_it() {
    let gap: &[_] = &[(1, 900), (2, 900), (3, 900), (4, 900), (5, 900), (25, 900), (26, 900)];
    let shrunk: &[_] = &[(1, 900), (2, 900), (3, 900), (4, 900), (5, 900), (6, 900), (7, 400)];
    let most: &[_] = &[(1, 900), (2, 900), (3, 900), (4, 900), (5, 900), (6, 900), (7, 900)];
    let future: &[_] = &[(1, 900), (2, 900), (3, 900), (4, 900), (5, 900), (31 * 12 * 60, 900)];
    let cases = [
        (gap, "--retention-days=7", "no valid backup in the 20 days before"),
        (shrunk, "--keep-last=5", "has 400 B, less than half of the 900 B"),
        (most, "--keep-last=3", "4 of 7 backups would be deleted"),
        (future, "--keep-last=3", "is in the future"),
    ];
    for (backups, rule, reason) in cases {
        let bucket = s3().create_bucket("blocked");
        with_sizes(&bucket, backups);
        let before = s3().every_key(&bucket);
        let program = prune_program(&bucket).env("S3_PATH", "app").arg(rule);
        let blocked = program.run();
        blocked.assert_code(13);
        let warnings: Vec<&str> = blocked.stderr.lines().filter(|line| line.contains(" WARN ")).collect();
        assert!(
            warnings.iter().any(|line| line.contains(reason) && line.contains("prune --force")),
            "{}",
            blocked.stderr
        );
        assert_eq!(blocked.stdout_text(), "");
        let report = json(&program.clone().arg("--json").run(), 13);
        assert_eq!(
            (&report["success"], &report["blocked"], &report["deleted"]),
            (&false.into(), &true.into(), &0.into())
        );
        assert!(report["problems"][0].as_str().is_some_and(|problem| problem.contains(reason)), "{report}");
        let dry = program.clone().arg("--dry-run").run();
        dry.assert_code(0);
        assert!(dry.stderr.contains(reason) && dry.stdout_text().contains("without --force"), "{}", dry.stdout_text());
        assert!(!dry.stderr.contains("--dry-run"), "a dry run does not recommend --dry-run: {}", dry.stderr);
        assert_eq!(s3().every_key(&bucket), before, "{reason}: nothing is deleted");
        let forced = program.args(["--force", "--json"]).run();
        let report = json(&forced, 0);
        assert!(report["overridden"][0].as_str().is_some_and(|overridden| overridden.contains(reason)), "{report}");
        assert_eq!((&report["blocked"], &report["problems"]), (&false.into(), &serde_json::json!([])));
        assert!(forced.stderr.contains("overridden by --force: "), "{}", forced.stderr);
        assert!(!forced.stderr.contains("prune --force"), "the override is in effect: {}", forced.stderr);
        assert!(s3().every_key(&bucket).len() < before.len(), "{reason}: {}", forced.stderr);
    }
}

#[test]
fn without_a_rule_prune_names_the_variables() {
    let bucket = s3().create_bucket("no-rule");
    put_backups(&bucket, "", &[1, 2]);
    let before = s3().every_key(&bucket);
    // These two settings are no rules.
    for program in [prune_program(&bucket), prune_program(&bucket).args(["--min-keep=1", "--timezone=Europe/Berlin"])] {
        let outcome = program.run();
        outcome.assert_code(1);
        for variable in ["BACKUP_RETENTION_DAYS", "BACKUP_KEEP_LAST", "BACKUP_KEEP_YEARLY"] {
            assert!(outcome.stderr.contains(variable), "{}", outcome.stderr);
        }
    }
    let outcome = prune_program(&bucket).args(["--keep-last=0", "--keep-daily", "off"]).run();
    let stderr = &outcome.assert_code(1).stderr;
    assert!(stderr.contains("BACKUP_KEEP_LAST, BACKUP_KEEP_DAILY is off: `0` turns a rule off"), "{stderr}");
    for number in ["-1", "-36500"] {
        let outcome = prune_program(&bucket).args(["--keep-last", number]).run();
        let stderr = &outcome.assert_code(4).stderr;
        let refusal = format!("BACKUP_KEEP_LAST (--keep-last): `{number}` is not a whole number from 1 to 36500");
        assert!(stderr.contains(&refusal), "{stderr}");
    }
    assert_eq!(s3().every_key(&bucket), before);
}

#[test]
fn names_all_invalid_settings() {
    let wrong = |program: Program| {
        let program = program.env("BACKUP_RETENTION_DAYS", "-1").env("BACKUP_KEEP_WEEKLY", "many");
        program.env("BACKUP_MIN_KEEP", "0").env("BACKUP_TIMEZONE", "Europe/Atlantis").env_remove("S3_BUCKET")
    };
    let outcome = wrong(s3_program("unused").arg("prune")).run();
    outcome.assert_code(1);
    let variables = ["BACKUP_RETENTION_DAYS", "BACKUP_KEEP_WEEKLY", "BACKUP_MIN_KEEP", "BACKUP_TIMEZONE", "S3_BUCKET"];
    for variable in variables {
        assert!(outcome.stderr.contains(variable), "{variable}: {}", outcome.stderr);
    }
    assert!(
        !outcome.stderr.contains("no retention rule is set"),
        "a wrong rule does not count as missing: {}",
        outcome.stderr
    );
    let refused = prune_program("unused").args(["--keep-last=3", "--sweep-after=soon"]).run();
    refused.assert_code(64);
}

#[test]
fn succeeds_if_there_is_nothing_to_delete() {
    let bucket = s3().create_bucket("small");
    let program = prune_program(&bucket).env("BACKUP_KEEP_LAST", "3");
    assert!(program.run().assert_code(0).stdout_text().contains("0 backups kept, 0 deleted"));
    assert!(program.clone().arg("--dry-run").run().assert_code(0).stdout_text().contains("0 backups to keep"));
    put_backups(&bucket, "", &[1, 2, 3]);
    let report = json(&program.arg("--json").run(), 0);
    assert_eq!((&report["success"], &report["retained"], &report["deleted"]), (&true.into(), &3.into(), &0.into()));
    assert_eq!(s3().every_key(&bucket).len(), 6);
}

#[test]
fn concurrent_prunes_are_harmless() {
    let bucket = s3().create_bucket("twice");
    put_backups(&bucket, "app", &(1..=28).collect::<Vec<u32>>());
    let program = prune_program(&bucket).env("S3_PATH", "app").args(["--keep-last=14"]);
    let both = [program.spawn(), program.spawn()];
    for running in both {
        running.wait().assert_code(0);
    }
    let kept = (15..=28).flat_map(|day| [name_of_day(day), name_of_day(day) + ".json"]);
    assert_eq!(s3().every_key(&bucket), kept.map(|name| format!("app/{name}")).collect());
}

#[track_caller]
fn json(outcome: &Outcome, code: i32) -> Value {
    outcome.assert_code(code);
    serde_json::from_slice(&outcome.stdout).expect("one JSON object")
}
