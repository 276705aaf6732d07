//! `docs/several-databases.md`: its commands run as printed, and its tables are true.

use pg_s3_backup::databases::{DatabasePatterns, sub_path};

use super::blocks::{block_after, page};
use super::{path_of_shell, shop, with_s3, with_shop};
use crate::examples::shell;
use crate::support::program::{Outcome, Program};
use crate::support::servers::{OwnPostgres, s3};
use crate::support::setup::{installed, repository_file};

pub const PAGE: &str = "docs/several-databases.md";
/// After what each block of the page stands.
pub const BLOCKS: &[&str] = &[
    FIRST,
    UPGRADE,
    ROLE,
    JOBS,
    "## Results", // shown
    STORED,       // shown; `databases` tests these commands
    ONE,
    SAME_PATH,
    OTHER_PATH,
    MOVE,
    BACK,
];
const FIRST: &str = "# Several databases";
const UPGRADE: &str = "After an upgrade with `pg_upgrade`";
const ROLE: &str = "## The role";
const JOBS: &str = "`BACKUP_DATABASE_JOBS` (1)";
const STORED: &str = "## Retention, check and restore";
const ONE: &str = "### One database of them";
const SAME_PATH: &str = "**If the old path ends";
const OTHER_PATH: &str = "**If it does not**";
const MOVE: &str = "- **Move** them";
const BACK: &str = "## Back to one database";

/// A server with the databases postgres and shop, and a bucket.
struct Scene {
    server: OwnPostgres,
    bucket: String,
}

impl Scene {
    fn new() -> Self {
        Self { server: shop(), bucket: s3().create_bucket("several") }
    }

    /// Runs what is printed after a marker, with the settings of the page's first block.
    fn run(&self, marker: &str) -> Outcome {
        let authority = self.server.ssl_root_cert.as_ref().expect("its authority").display().to_string();
        let text = block_after(PAGE, marker).replace("s3://backups/", &format!("s3://{}/", self.bucket));
        let text = text.replace("S3_BUCKET=backups", &format!("S3_BUCKET={}", self.bucket));
        let text = text.replace("db.example.com", "127.0.0.1").replace("/path/to/ca.pem", &authority);
        self.program(shell(&format!("set -e\n{text}")).env("BACKUP_DATABASES", "all")).run()
    }

    /// A backup of shop alone.
    fn back_up_shop(&self, path: &str) {
        self.program(Program::new()).env("S3_PATH", path).arg("backup").run().assert_code(0);
    }

    fn program(&self, program: Program) -> Program {
        let program = with_shop(with_s3(program), &self.server).env("S3_BUCKET", &self.bucket).env("S3_PATH", "prod");
        let connection = "postgresql://backup@127.0.0.1/shop?sslmode=verify-full";
        program.env("POSTGRES_CONNECTION_STRING", connection)
    }

    /// The number of backups directly in each path.
    fn backups(&self, paths: &[&str]) -> Vec<usize> {
        let keys = s3().keys(&self.bucket, "");
        let is_in = |key: &str, path: &str| key.rsplit_once('/').is_some_and(|(directory, _)| directory == path);
        let is_backup = |key: &&String| key.ends_with(".sql.gz") && !key.ends_with(".globals.sql.gz");
        paths.iter().map(|path| keys.iter().filter(is_backup).filter(|key| is_in(key, path)).count()).collect()
    }
}

#[test]
fn backs_up_all_databases_as_printed() {
    let scene = Scene::new();
    scene.server.psql("postgres", "DROP OWNED BY backup; DROP ROLE backup").expect("the test's own role is gone");
    scene.server.psql("postgres", &block_after(PAGE, ROLE)).expect("the role");
    let paths = ["prod/postgres", "prod/shop", "prod"];
    for (count, marker) in [FIRST, JOBS, UPGRADE].into_iter().enumerate() {
        let outcome = scene.run(marker);
        assert!(outcome.assert_code(0).stdout_text().contains("2 of 2 databases backed up"), "{marker}");
        assert_eq!(scene.backups(&paths), [count + 1, count + 1, 0], "{marker}");
    }
    let outcome = scene.run(ONE);
    outcome.assert_code(0);
    assert!(outcome.stdout_text().contains("3 backups deleted"), "{}", outcome.stdout_text());
    assert_eq!(scene.backups(&paths), [3, 0, 0], "only shop's are deleted");
}

#[test]
fn a_history_continues_with_several_databases_and_back() {
    let scene = Scene::new();
    scene.back_up_shop("prod/shop");
    let listed = scene.run(SAME_PATH);
    assert_eq!(listed.assert_code(0).stdout_text().matches("postgres-backup-").count(), 2, "{}", listed.stdout_text());
    assert_eq!(scene.backups(&["prod/postgres", "prod/shop", "prod"]), [1, 2, 0]);
    scene.run(BACK).assert_code(0);
    assert_eq!(scene.backups(&["prod/postgres", "prod/shop", "prod"]), [1, 3, 0]);
}

#[test]
fn old_backups_stay_usable_until_they_are_moved() {
    let scene = Scene::new();
    scene.back_up_shop("prod");
    scene.run(OTHER_PATH).assert_code(0);
    assert_eq!(scene.backups(&["prod/postgres", "prod/shop", "prod"]), [1, 1, 1]);
    installed("aws");
    let aws = "aws() { python3 -B -m awscli \"$@\"; }\n";
    let text = block_after(PAGE, MOVE).replace("s3://backups/", &format!("s3://{}/", scene.bucket));
    let program = shell(&format!("set -e\n{aws}{text}")).env("PATH", path_of_shell());
    let program = program.env("PYTHONPATH", repository_file("target/tools/aws"));
    let program = program.env("AWS_ENDPOINT_URL", &s3().url).env("AWS_DEFAULT_REGION", &s3().region);
    let program = program.env("AWS_ACCESS_KEY_ID", &s3().access_key).env("AWS_SECRET_ACCESS_KEY", &s3().secret_key);
    scene.program(program.env("BACKUP_DATABASES", "all")).run().assert_code(0);
    assert_eq!(scene.backups(&["prod/postgres", "prod/shop", "prod"]), [1, 2, 0]);
    let list = scene.program(Program::new()).env("S3_PATH", "prod/shop").arg("list").run();
    assert_eq!(list.assert_code(0).stdout_text().matches("valid").count(), 2, "{}", list.stdout_text());
}

/// The rows of the table after a marker, each with its cells, without the heading.
fn table(marker: &str) -> Vec<Vec<String>> {
    let page = page(PAGE);
    let (_, rest) = page.split_once(marker).expect("the marker");
    let rows = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect();
    rows.skip(2).map(cells).collect()
}

#[test]
fn paths_and_patterns_are_as_the_tables_say() {
    let paths = table("## Where the backups are");
    assert!(paths.len() > 5, "{paths:?}");
    for row in paths {
        assert_eq!(row[1], format!("prod/{}/", sub_path::of(&row[0])));
    }
    let databases =
        ["shop", "billing", "shop_eu", "shop_test", "scratch_1", "rdsadmin", "tenant_01", "all", "a,b", "50*"];
    let included: [&[&str]; 6] = [
        &databases,
        &["shop", "billing"],
        &["shop", "billing", "shop_eu", "shop_test", "tenant_01", "all", "a,b", "50*"],
        &["shop_eu"],
        &["tenant_01"],
        &["all", "a,b", "50*"],
    ];
    let rows = table("## Which databases");
    assert_eq!(rows.len(), included.len());
    for (row, included) in rows.iter().zip(included) {
        let patterns = DatabasePatterns::parse(&row[0]).unwrap_or_else(|why| panic!("{}: {why}", row[0]));
        let found: Vec<&str> = databases.into_iter().filter(|database| patterns.mean(database)).collect();
        assert_eq!(found, included, "{}", row[0]);
    }
}
