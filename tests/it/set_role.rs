//! Role and database settings that apply to every session: another role, and debug messages.

use crate::support::program::Program;
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, clear, manifest, only_backup, s3_program};

/// A database, the role that owns it, and a role that logs in and is a member of the owner.
struct Owned {
    database: Option<Database>,
    owner: String,
    login: String,
}

impl Owned {
    fn new() -> Self {
        let (owner, login) = (unique_name("app_owner"), unique_name("vault"));
        let database = postgres().create_database("owned");
        let sql = format!(
            "CREATE ROLE {owner}; CREATE ROLE {login} LOGIN PASSWORD 'vault' IN ROLE {owner}; \
             ALTER DATABASE \"{}\" OWNER TO {owner}; SET ROLE {owner}; CREATE SCHEMA app; \
             CREATE TABLE app.t AS SELECT generate_series(1, 100) AS id",
            database.name
        );
        database.psql(&sql).expect("a database with an owner");
        Self { database: Some(database), owner, login }
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("until it is dropped")
    }

    /// A command as the role that logs in, with this at the end of its URI.
    fn program(&self, command: &str, bucket: &str, options: &str) -> Program {
        let uri = format!("postgres://{}:vault@{}/{}{options}", self.login, postgres().addr(), self.database().name);
        s3_program(bucket).arg(command).env("POSTGRES_CONNECTION_STRING", uri)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        drop(self.database.take());
        let _ = postgres().psql("postgres", &format!("DROP ROLE {}; DROP ROLE {}", self.login, self.owner));
    }
}

#[test]
fn backs_up_where_sessions_run_as_another_role() {
    let (owned, bucket) = (Owned::new(), s3().create_bucket("set_role"));
    let (database, app) = (&owned.database().name, &owned.owner);
    let set = |sql: &str| postgres().psql("postgres", sql).expect("set");
    let login = &owned.login;
    let back_up = |options: &str, case: &str| {
        let outcome = owned.program("backup", &bucket, options).run();
        assert_eq!(outcome.code, Some(0), "{case}: {}", outcome.stderr);
        assert_eq!(manifest(&bucket, &only_backup(&bucket))["database"], **database, "{case}");
        let checked = owned.program("check", &bucket, options).run();
        assert_eq!(checked.code, Some(0), "{case}: {}", checked.stdout_text());
        clear(&bucket);
    };
    back_up(&format!("?options=-c%20role%3D{app}"), "options");
    set(&format!("ALTER DATABASE \"{database}\" SET role = '{app}'"));
    back_up("", "the database's setting");
    set(&format!("ALTER DATABASE \"{database}\" RESET role; ALTER ROLE {login} SET role = '{app}'"));
    back_up("", "the role's setting");
}

#[test]
fn debug_messages_of_the_server_do_not_fill_the_log() {
    let (database, bucket) = (postgres().create_database("debug"), s3().create_bucket("debug"));
    database.psql("CREATE TABLE t AS SELECT generate_series(1, 100) AS id").expect("a table");
    for level in ["debug5", "log"] {
        let set = format!(
            "ALTER DATABASE \"{0}\" SET client_min_messages = '{level}'; ALTER DATABASE \"{0}\" \
            SET log_statement = 'all'; ALTER DATABASE \"{0}\" SET debug_print_parse = on",
            database.name
        );
        postgres().psql("postgres", &set).expect("set");
        let outcome = backup_program(&database, &bucket).run();
        outcome.assert_code(0);
        let lines = outcome.stderr.lines().filter(|line| line.contains("program=")).count();
        assert_eq!(lines, 0, "{level}: {}", outcome.stderr);
        clear(&bucket);
    }
}
