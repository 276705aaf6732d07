//! Tests of the metrics of several databases: what a run records, keeps and forgets.

use super::super::{NEXT_RUN, RunResult, state};
use super::*;

const ROOT: &str = "s3://b/backups";
const APP: (&str, &str) = ("app", "s3://b/backups/app");
const SHOP: (&str, &str) = ("Shop", "s3://b/backups/Shop");

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + seconds, 0).expect("in range")
}

fn backup(ended: DateTime<Utc>) -> RunResult<'static> {
    RunResult { bytes: Some((1000, 100)), ..RunResult::without_backup(ended, Duration::from_secs(3), 0) }
}

fn failure(ended: DateTime<Utc>, exit_code: u8) -> RunResult<'static> {
    RunResult::without_backup(ended, Duration::ZERO, exit_code)
}

fn run<'a>(ended: DateTime<Utc>, databases: &'a [(&'a str, &'a str)], failed: u64) -> ServerRun<'a> {
    let exit_code = if failed == 0 { 0 } else { 11 };
    ServerRun { ended, elapsed: Duration::from_secs(7), exit_code, databases, failed }
}

/// A directory with a metrics file, and what is in it.
struct File(tempfile::TempDir);

impl File {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("backup.prom")
    }

    fn single(&self, destination: &str) -> MetricsStore {
        MetricsStore::open(Some(destination), Some(self.path()))
    }

    fn server(&self) -> MetricsStore {
        self.single(ROOT).of_server()
    }

    /// The value of a sample.
    fn value(&self, name: &str, labels: &str) -> Option<f64> {
        let text = std::fs::read_to_string(self.path()).expect("the file");
        let start = format!("pg_s3_backup_{name}{{{labels}}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
    }

    fn success(&self, labels: &str) -> Option<f64> {
        self.value("last_success_timestamp_seconds", labels)
    }
}

const OF_ROOT: &str = "destination=\"s3://b/backups\"";
const OF_APP: &str = "destination=\"s3://b/backups/app\",database=\"app\"";
const OF_SHOP: &str = "destination=\"s3://b/backups/Shop\",database=\"Shop\"";

fn success(known: &MetricsStore, now: DateTime<Utc>) -> Vec<(String, Option<DateTime<Utc>>)> {
    let known = known.databases(now).expect("several databases");
    known.into_iter().map(|known| (known.database, known.last_success)).collect()
}

#[test]
fn each_database_has_its_own_values_and_the_run_has_their_number() {
    let file = File::new();
    let store = file.server();
    store.of_database(APP.0, APP.1).ended(&backup(at(1)));
    store.of_database(SHOP.0, SHOP.1).ended(&failure(at(2), 11));
    store.of_database(SHOP.0, SHOP.1).looked(3, 300, None);
    assert_eq!(file.value("databases_expected", OF_ROOT), None, "it has not ended");
    store.server_ended(&run(at(3), &[APP, SHOP], 1));
    assert_eq!(file.success(OF_APP), Some(1_795_000_001.0));
    assert_eq!([file.success(OF_SHOP), file.success(OF_ROOT)], [None; 2], "not everything was backed up");
    let of = |name: &str, labels: &str| file.value(name, labels);
    assert_eq!([OF_ROOT, OF_APP, OF_SHOP].map(|labels| of("last_run_exit_code", labels)), [11.0, 0.0, 11.0].map(Some));
    assert_eq!(of("databases_expected", OF_ROOT), Some(2.0));
    assert_eq!(of("databases_failed", OF_ROOT), Some(1.0));
    assert_eq!(of("stored_backups", OF_SHOP), Some(3.0));
    for (labels, results) in [(OF_ROOT, [0.0, 1.0]), (OF_APP, [1.0, 0.0]), (OF_SHOP, [0.0, 1.0])] {
        let count = |result| of("runs_total", &format!("{labels},result=\"{result}\""));
        assert_eq!(["success", "failure"].map(count), results.map(Some), "{labels}");
    }
    store.of_database(SHOP.0, SHOP.1).ended(&backup(at(10)));
    store.server_ended(&run(at(11), &[APP, SHOP], 0));
    assert_eq!(file.success(OF_ROOT), Some(1_795_000_011.0));
    assert_eq!(of("last_success_duration_seconds", OF_ROOT), Some(7.0));
    let known = |seconds| Some(at(seconds));
    assert_eq!(success(&store, at(20)), [("Shop".to_owned(), known(10)), ("app".to_owned(), known(1))]);
    assert_eq!(store.render(), std::fs::read_to_string(file.path()).expect("the file"));
}

#[test]
fn failed_runs_keep_every_database() {
    let file = File::new();
    let store = file.server();
    store.of_database(APP.0, APP.1).ended(&backup(at(1)));
    store.server_ended(&run(at(2), &[APP, SHOP], 1));
    let kept = || {
        assert_eq!(file.success(OF_APP), Some(1_795_000_001.0));
        assert_eq!(
            file.value("build_info", &format!("{OF_SHOP},version=\"{}\"", env!("CARGO_PKG_VERSION"))),
            Some(1.0)
        );
        assert_eq!(file.value("databases_expected", OF_ROOT), Some(2.0));
    };
    // It did not get as far as the databases.
    file.server().ended(&failure(at(3), 10));
    kept();
    // A wrong setting hides the destination: the run's is the one without a database.
    MetricsStore::open(None, Some(file.path())).ended(&failure(at(4), 1));
    kept();
    assert_eq!(file.value("last_run_exit_code", OF_ROOT), Some(1.0));
    // BACKUP_DATABASES was lost, or another destination was set.
    file.single(ROOT).ended(&failure(at(5), 12));
    let elsewhere = ("app", "s3://b/elsewhere/app");
    let other = file.single("s3://b/elsewhere").of_server();
    other.of_database(elsewhere.0, elsewhere.1).ended(&failure(at(6), 12));
    other.server_ended(&run(at(6), &[elsewhere], 1));
    kept();
    // A run that does not know its destination belongs to neither.
    let before = std::fs::read_to_string(file.path()).expect("the file");
    MetricsStore::open(None, Some(file.path())).ended(&failure(at(6), 1));
    assert_eq!(std::fs::read_to_string(file.path()).expect("the file"), before);
    assert_eq!(success(&file.server(), at(9)).len(), 2, "what is elsewhere is no database of this run");
    // After a backup of one database, the file is about this destination.
    file.server().server_ended(&run(at(7), &[APP, SHOP], 1));
    kept();
    assert_eq!(file.value("databases_failed", "destination=\"s3://b/elsewhere\""), None);
}

#[test]
fn database_that_is_gone_has_no_values_any_more() {
    let file = File::new();
    let store = file.server();
    store.of_database(APP.0, APP.1).ended(&backup(at(1)));
    store.of_database(SHOP.0, SHOP.1).ended(&backup(at(1)));
    store.server_ended(&run(at(2), &[APP, SHOP], 0));
    // Its database failed, but the server was asked.
    store.server_ended(&run(at(3), &[SHOP], 1));
    assert_eq!([OF_APP, OF_SHOP].map(|labels| file.success(labels)), [None, Some(1_795_000_001.0)]);
    assert_eq!(success(&store, at(9)), [("Shop".to_owned(), Some(at(1)))]);
}

#[test]
fn database_that_the_run_did_not_get_to_has_its_exit_code() {
    let file = File::new();
    let store = file.server();
    store.of_database(APP.0, APP.1).ended(&backup(at(1)));
    store.of_database(SHOP.0, SHOP.1).looked(0, 0, None);
    let had_run = || {
        let known = store.databases(at(9)).expect("several databases");
        known.into_iter().map(|known| (known.database, known.had_run)).collect::<Vec<_>>()
    };
    assert_eq!(had_run(), [("Shop".to_owned(), false), ("app".to_owned(), true)]);
    store.server_ended(&ServerRun { exit_code: 143, ..run(at(2), &[APP, SHOP], 1) });
    let codes = || [OF_APP, OF_SHOP].map(|labels| file.value("last_run_exit_code", labels));
    assert_eq!(codes(), [0.0, 143.0].map(Some));
    assert_eq!(had_run(), [("Shop".to_owned(), true), ("app".to_owned(), true)]);
    store.of_database(SHOP.0, SHOP.1).ended(&failure(at(3), 11));
    store.server_ended(&ServerRun { exit_code: 143, ..run(at(4), &[APP, SHOP], 1) });
    assert_eq!(codes(), [0.0, 11.0].map(Some), "its own is known");
}

#[test]
fn values_survive_the_change_to_several_databases_and_back() {
    let file = File::new();
    let single = file.single(ROOT);
    single.looked(4, 400, Some(at(0)));
    single.ended(&backup(at(1)));
    // This program had one destination for each database before.
    let (runs, success) =
        ("destination=\"s3://b/backups/app\",result=\"success\"", "destination=\"s3://b/backups/app\"");
    let app = file.single(APP.1);
    app.ended(&failure(at(2), 12));
    app.looked(2, 200, Some(at(2)));
    assert_eq!([file.success(OF_ROOT), file.success(success)], [1.0, 2.0].map(|more| Some(1_795_000_000.0 + more)));

    let store = file.server();
    store.server_ended(&run(at(3), &[APP], 1));
    assert_eq!(file.value("stored_backups", OF_ROOT), Some(5.0), "a failed run forgets nothing");
    assert_eq!([file.success(OF_ROOT), file.success(OF_APP)], [1.0, 2.0].map(|more| Some(1_795_000_000.0 + more)));
    store.of_database(APP.0, APP.1).ended(&backup(at(4)));
    store.server_ended(&run(at(5), &[APP], 0));
    assert_eq!(file.value("stored_backups", OF_ROOT), None, "it is known for each database");
    assert_eq!(file.value("stored_backups", OF_APP), Some(3.0));
    assert_eq!(file.value("runs_total", &format!("{OF_ROOT},result=\"success\"")), Some(2.0));

    let app = file.single(APP.1);
    app.ended(&failure(at(6), 11));
    assert_eq!(file.success(success), Some(1_795_000_004.0), "without the label of the database");
    assert_eq!(file.value("databases_expected", OF_ROOT), Some(1.0));
    app.ended(&backup(at(7)));
    assert_eq!((file.value("runs_total", runs), file.success(OF_ROOT)), (Some(2.0), None));
    let root = file.single(ROOT);
    root.ended(&backup(at(8)));
    assert_eq!(file.value("databases_expected", OF_ROOT), None);
    assert!(root.databases(at(9)).is_none());
}

#[test]
fn daemon_values_are_those_of_the_run_and_the_next_drill_that_of_each_database() {
    let file = File::new();
    let store = file.server();
    store.of_database(APP.0, APP.1).ended(&backup(at(1)));
    store.planned(None, Some(at(100)));
    store.drill_planned(Some(at(5)), Some(at(200)));
    store.server_ended(&run(at(6), &[APP, SHOP], 0));
    let next = |name: &str| [OF_ROOT, OF_APP, OF_SHOP].map(|labels| file.value(name, labels));
    assert_eq!(next("next_drill_timestamp_seconds"), [Some(1_795_000_200.0); 3]);
    assert_eq!(next("next_run_timestamp_seconds"), [Some(1_795_000_100.0), None, None]);
    assert_eq!(next("drill_in_progress"), [Some(1.0), None, None]);
    store.drill_planned(None, None);
    assert_eq!(next("next_drill_timestamp_seconds"), [None; 3]);
    store.drill_planned(None, Some(at(200)));
    file.server().server_ended(&run(at(7), &[APP, SHOP], 0));
    assert_eq!(next("next_drill_timestamp_seconds"), [None; 3], "that daemon has ended");
    assert!(file.server().with(|record| record.get(&NEXT_RUN)).is_none());
}

#[test]
fn state_of_the_version_before_is_continued() {
    let file = File::new();
    let state = format!(
        r#"{{"version": 1, "destinations": {{"{ROOT}": {{"{}": {{"success": 7}}, "{}": {{"": 1795000000}}}}}}}}"#,
        RUNS.name, LAST_SUCCESS.name
    );
    std::fs::write(state::path_of(&file.path()), state).expect("written");
    file.server().server_ended(&run(at(1), &[APP], 1));
    assert_eq!(file.success(OF_ROOT), Some(1_795_000_000.0));
    assert_eq!(file.value("runs_total", &format!("{OF_ROOT},result=\"success\"")), Some(7.0));
}

#[test]
fn databases_may_be_saved_at_the_same_time() {
    let file = File::new();
    let store = file.server();
    let databases: Vec<(String, String)> = (0..8).map(|n| (format!("d{n}"), format!("{ROOT}/d{n}"))).collect();
    std::thread::scope(|scope| {
        for (database, destination) in &databases {
            let labels = format!("destination=\"{destination}\",database=\"{database}\",result=\"skipped\"");
            let (file, store) = (&file, &store);
            scope.spawn(move || {
                for n in 1..=10 {
                    store.of_database(database, destination).skipped();
                    // Another one that ends now must not replace it with what was before.
                    let runs = file.value("runs_total", &labels).map(|runs| runs.to_string());
                    assert_eq!(runs, Some(n.to_string()), "{database}");
                }
            });
        }
    });
    assert_eq!(file.0.path().read_dir().expect("the directory").count(), 2, "no temporary file is left");
}
