//! Restores the everything database on PostgreSQL 13 to 18, on its own major version and on the next one, and compares it with what
//! `psql` makes of the same dump. The dump is by the `pg_dump` that `backup` chooses, and by later ones.
//!
//! `make test` takes the majors of [`DEFAULT_MAJORS`] and one later `pg_dump`, `make test-versions` all of them. `POSTGRES_MAJORS`
//! names the majors, separated by spaces. A line is printed for each backup and server.

use std::path::Path;
use std::process::Stdio;
use std::thread;

use super::{assert_same, backed_up, empty, parallel, restore_program, selective};
use crate::globals::{clients, locale};
use crate::support::program::Outcome;
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{OwnPostgres, Postgres, own_postgres, s3};
use crate::support::setup::{
    assert_same_dump, backup_program, installed_clients, manifest, only_backup, plain, repository_file, restored_into,
    s3_program,
};

/// The oldest, the newest, and two between.
const DEFAULT_MAJORS: &str = "13 15 16 18";
/// The majors with client programs of their own. 13 and 14 are dumped by 15.
const CLIENTS: [&str; 3] = ["16", "17", "18"];
/// The roles of the everything database, without which its dump cannot be restored.
const ROLES: &str = "everything_owner, everything_reader";

/// A cluster of one major.
struct Cluster {
    major: String,
    /// Ends with this value.
    _own: OwnPostgres,
    /// The same server, with the client programs of its major.
    server: Postgres,
}

/// A backup of the everything database.
struct Backup {
    /// The source and `pg_dump`, such as `16 dumped by 17.10`.
    origin: String,
    bucket: String,
    /// Its plain dump.
    dump: Vec<u8>,
    /// What [`Cluster::roles`] says of the source.
    roles: String,
    /// What [`locale_of`] says of the source.
    locale: String,
}

/// Encoding and locale of a database.
fn locale_of(database: &Database) -> String {
    let question = "SELECT pg_encoding_to_char(encoding), datcollate, datctype, coalesce(d ->> 'datlocprovider', 'c'), \
         coalesce(d ->> 'datlocale', d ->> 'daticulocale') FROM pg_database, to_jsonb(pg_database) AS d \
         WHERE datname = current_database()";
    database.psql(question).expect("the database")
}

/// The clusters of these majors, started side by side.
fn clusters(majors: &[&str]) -> Vec<Cluster> {
    each(majors, |&major| {
        let own = own_postgres(&["--major", major]);
        let server = Postgres { bin: clients(major), ..(*own).clone() };
        Cluster { major: major.to_owned(), _own: own, server }
    })
}

/// Does this with each of them at the same time.
fn each<T: Sync, R: Send>(all: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let run = &run;
        let started: Vec<_> = all.iter().map(|one| scope.spawn(move || run(one))).collect();
        started.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// The client programs of all majors, for the program to choose from.
fn path() -> String {
    let directories = CLIENTS.map(|major| clients(major).display().to_string());
    format!("{}:/usr/bin:/bin", directories.join(":"))
}

impl Cluster {
    /// Creates the everything database, with the newest locale provider of the major, and roles that can log in.
    fn everything(&self) -> Database {
        let database = self.server.create_database_with("everything", locale(&self.major));
        let mut psql = self.server.client("psql", &database.name);
        psql.args(["-v", "big=0", "-1", "-f"]).arg(repository_file("tests/fixtures/everything.sql"));
        let output = psql.stdin(Stdio::null()).output().expect("psql");
        assert!(output.status.success(), "{}: {}", self.major, String::from_utf8_lossy(&output.stderr));
        let roles = "ALTER ROLE everything_reader LOGIN PASSWORD 'x' CONNECTION LIMIT 7; \
                     GRANT everything_owner TO everything_reader";
        database.psql(roles).expect("altered");
        database
    }

    /// Backs up with the `pg_dump` that is chosen, and with later ones. Leaves the cluster empty.
    fn backups(&self, later: usize) -> Vec<Backup> {
        let source = self.everything();
        let is_later = |major: &&str| **major > *self.major;
        let later = CLIENTS.into_iter().filter(is_later).take(later).map(|major| Some(clients(major)));
        let backups = [None].into_iter().chain(later).map(|pg_dump| self.backup(&source, pg_dump.as_deref()));
        let backups = backups.collect();
        drop(source);
        self.forget_roles();
        backups
    }

    fn backup(&self, source: &Database, pg_dump: Option<&Path>) -> Backup {
        let bucket = s3().create_bucket("versions");
        let program = backup_program(source, &bucket).env("PATH", path());
        let program = pg_dump.iter().fold(program, |program, path| program.env("PG_DUMP_PATH", path));
        program.run().assert_code(0).assert_no_children_left();
        let key = only_backup(&bucket);
        let version = manifest(&bucket, &key)["pg_dump_version"].as_str().expect("a version").to_owned();
        if pg_dump.is_none() {
            let lowest = if *self.major < *"15" { "15" } else { &self.major };
            assert_eq!(version.split('.').next(), Some(lowest), "of {}", self.major);
        }
        let origin = format!("{} dumped by {version}", self.major);
        let (dump, roles) = (plain(&bucket, &key), self.roles());
        Backup { origin, bucket, dump, roles, locale: locale_of(source) }
    }

    /// Attributes and memberships of the roles.
    fn roles(&self) -> String {
        let question = "SELECT rolname, rolcanlogin, rolconnlimit, rolpassword, \
             ARRAY(SELECT roleid::regrole FROM pg_auth_members WHERE member = r.oid) \
             FROM pg_authid r WHERE rolname LIKE 'everything%' ORDER BY rolname";
        self.server.psql("postgres", question).expect("the roles")
    }

    fn forget_roles(&self) {
        self.server.psql("postgres", &format!("DROP ROLE IF EXISTS {ROLES}")).expect("dropped");
    }

    /// Restores with and without the roles, and compares each result with that of `psql`.
    fn assert_restores(&self, backup: &Backup) {
        let (globals, text) = self.restored_without_roles(backup, "--globals", "18");
        assert_eq!(
            (self.roles(), locale_of(&globals)),
            (backup.roles.clone(), backup.locale.clone()),
            "{}",
            backup.origin
        );
        let by_hand = self.by_hand(backup);
        assert_same_dump(by_hand.as_bytes(), text.as_bytes());
        drop(globals);
        self.assert_restores_into_empty(backup, &by_hand);
        let (roles, text) = self.restored_without_roles(backup, "--create-roles", "15");
        assert!(!self.roles().contains("|t|"), "they can log in: {}", self.roles());
        assert_same_dump(by_hand.as_bytes(), text.as_bytes());
        drop(roles);
        self.forget_roles();
        self.print(backup, "identical with --globals, with --create-roles, and into an empty database");
    }

    /// Restores the dump of a later `pg_dump`, and compares the result with that of `psql`.
    fn assert_restores_later(&self, backup: &Backup) {
        self.forget_roles();
        self.server.psql("postgres", &format!("CREATE ROLE {}", ROLES.replace(", ", "; CREATE ROLE "))).expect("made");
        self.assert_restores_into_empty(backup, &self.by_hand(backup));
        self.forget_roles();
        self.print(backup, "identical into an empty database");
    }

    /// Restores into a new database, while the roles are missing, with the `psql` of a major. Returns it and a dump of it.
    fn restored_without_roles(&self, backup: &Backup, flag: &str, psql: &str) -> (Database, String) {
        self.forget_roles();
        let name = unique_name("made");
        let program = s3_program(&backup.bucket).env("RESTORE_CONNECTION_STRING", self.server.uri("postgres"));
        let outcome = program.env("PG_DUMP_PATH", clients(psql)).args(["restore", "--create-db", &name, flag]).run();
        self.assert_restored(backup, &outcome);
        let database = self.server.adopt_database(&name);
        let dump = database.dump().expect("a dump");
        (database, dump)
    }

    /// Restores into an empty database, with the `psql` of the server's major.
    fn assert_restores_into_empty(&self, backup: &Backup, expected: &str) {
        let target = self.server.create_database("target");
        let outcome = restore_program(&backup.bucket, &target).env("PG_DUMP_PATH", &self.server.bin).run();
        self.assert_restored(backup, &outcome);
        assert_same_dump(expected.as_bytes(), target.dump().expect("a dump").as_bytes());
    }

    #[track_caller]
    fn assert_restored(&self, backup: &Backup, outcome: &Outcome) {
        assert_eq!(outcome.code, Some(0), "{} into {}: {}", backup.origin, self.major, outcome.stderr);
        outcome.assert_no_children_left();
        let left_out = outcome.stderr.lines().filter(|line| line.contains("left out"));
        let expected = usize::from(self.suited(&backup.dump).len() < backup.dump.len());
        assert_eq!(left_out.count(), expected, "{}", outcome.stderr);
    }

    /// Restores tables of the zoo, and compares them with those of `psql`.
    fn assert_restores_tables(&self, bucket: &str, by_hand: &Database) {
        let target = self.server.create_database("target");
        let tables = ["--table", "zoo.sales", "--table", "zoo.reviews", "--table", "zoo.serials"];
        restore_program(bucket, &target).env("PG_DUMP_PATH", &self.server.bin).args(tables).run().assert_code(0);
        let flags = ["-t", "zoo.sales*", "-t", "zoo.reviews*", "-t", "zoo.serials*"];
        assert_same_dump(&selective::dumped(by_hand, &flags), &selective::dumped(&target, &flags));
    }

    /// Restores with `psql`, and returns a dump of the result.
    fn by_hand(&self, backup: &Backup) -> String {
        let database = restored_into(self.server.create_database("by_hand"), &self.suited(&backup.dump));
        database.dump().expect("a dump")
    }

    /// Removes the setting that the server does not know, as a person has to.
    fn suited(&self, dump: &[u8]) -> Vec<u8> {
        const UNKNOWN: &[u8] = b"SET transaction_timeout = 0;\n";
        if *self.major >= *"17" {
            return dump.to_vec();
        }
        let lines = dump.split_inclusive(|&byte| byte == b'\n');
        lines.filter(|line| *line != UNKNOWN).flatten().copied().collect()
    }

    #[expect(clippy::print_stdout, reason = "`make test-versions` shows it")]
    fn print(&self, backup: &Backup, what: &str) {
        println!("{} -> {}: {what}", backup.origin, self.major);
    }
}

#[test]
fn restores_everything_on_the_same_major_and_on_the_next() {
    let asked = std::env::var("POSTGRES_MAJORS").ok();
    let later = if asked.is_some() { CLIENTS.len() } else { 1 };
    let mut majors: Vec<&str> = asked.as_deref().unwrap_or(DEFAULT_MAJORS).split_whitespace().collect();
    majors.sort_unstable();
    assert!(!majors.is_empty(), "POSTGRES_MAJORS names no major");
    let clusters = clusters(&majors);
    let backups = each(&clusters, |cluster| cluster.backups(later));
    let indexes: Vec<usize> = (0..clusters.len()).collect();
    each(&indexes, |&index| {
        let (own, later) = backups[index].split_first().expect("a backup");
        clusters[index].assert_restores(own);
        for backup in later {
            clusters[index].assert_restores_later(backup);
        }
        if let Some(before) = index.checked_sub(1) {
            clusters[index].assert_restores(&backups[before][0]);
        }
    });
}

/// PostgreSQL 15 is tested with the other databases of `parallel`.
#[test]
fn several_sessions_restore_what_psql_does() {
    let asked = std::env::var("POSTGRES_MAJORS").ok();
    let majors: Vec<&str> = asked.as_deref().unwrap_or("18").split_whitespace().collect();
    for cluster in clusters(&majors) {
        let source = parallel::zoo(&cluster.server);
        let backup = cluster.backup(&source, None);
        let by_hand = restored_into(cluster.server.create_database("by_hand"), &cluster.suited(&backup.dump));
        let expected = parallel::sorted(&by_hand);
        let jobs: &[usize] = if asked.is_some() { &[1, 2, 4, 8, 8, 8] } else { &[1, 2, 8] };
        for jobs in jobs {
            let made = parallel::restored_by(&backup.bucket, &cluster.server, *jobs);
            assert_same_dump(expected.as_bytes(), parallel::sorted(&made).as_bytes());
        }
        cluster.assert_restores_tables(&backup.bucket, &by_hand);
        cluster.print(&backup, "identical by several sessions, and a part of it");
    }
}

#[test]
fn restores_with_a_psql_that_does_not_know_restrict() {
    let old = installed_clients("16.2");
    let (_source, bucket) = backed_up("CREATE TABLE t AS SELECT E'\\\\.\\n' AS a; SELECT lo_from_bytea(0, 'x')");
    let dump = plain(&bucket, &only_backup(&bucket));
    let target = empty("target");
    let mut by_hand = Postgres { bin: old.clone(), ..target.server().clone() }.client("psql", &target.name);
    let mut child = by_hand.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("psql");
    std::io::Write::write_all(&mut child.stdin.take().expect("its input"), &dump).expect("written");
    let refused = child.wait_with_output().expect("its end");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("invalid command \\restrict"), "{refused:?}");
    let outcome = restore_program(&bucket, &target).env("PG_DUMP_PATH", old).run();
    outcome.assert_code(0).assert_no_children_left();
    assert_same(&restored_into(empty("by_hand"), &dump), &target);
}
