//! Parallel workers of the server: none while the sessions of a restore use all its CPUs, otherwise as many as it is set to.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::restored_by;
use crate::restore::backed_up;
use crate::support::servers::{OwnPostgres, own_postgres};

/// Takes a while in a restore, and fails if its session has other workers.
const CHECKED: &str = "CREATE FUNCTION checked(a int, workers text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN \
    IF current_database() LIKE 'pg_s3_restore_%' THEN \
        PERFORM pg_catalog.pg_sleep(0.1); \
        IF current_setting('max_parallel_maintenance_workers') <> workers THEN \
            RAISE 'parallel workers: % instead of %', current_setting('max_parallel_maintenance_workers'), workers; \
        END IF; \
    END IF; RETURN a; END $$;";

/// Tables of more than 1 MiB, each index of which is a job.
fn tables(index: &str) -> String {
    let table = |name: &str| {
        let indexes = format!("CREATE INDEX ON {name} {index};").repeat(4);
        format!("CREATE TABLE {name} AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 40000) g;{indexes}")
    };
    format!("{CHECKED}{}{}", table("t"), table("u"))
}

/// A server that may use so many CPUs, or all if there are fewer. The number is what it got.
fn server_with_cpus(most: usize) -> (OwnPostgres, usize) {
    let server = own_postgres(&[]);
    let pid = Pid::from_raw(i32::try_from(server.pid).expect("a process id"));
    let (all, mut some) = (sched_getaffinity(pid).expect("its CPUs"), CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).take(most).for_each(|cpu| some.set(cpu));
    sched_setaffinity(pid, &some).expect("fewer CPUs");
    (server, usize::try_from(some.count()).expect("a number"))
}

#[test]
fn sessions_that_use_every_cpu_have_no_workers() {
    let (_source, bucket) = backed_up(&tables("(checked(a, '0')) WHERE a = 1"));
    let (server, _) = server_with_cpus(1);
    restored_by(&bucket, &server, 2);
}

#[test]
fn a_statement_that_runs_alone_has_the_workers_of_the_server() {
    let (server, cpus) = server_with_cpus(2);
    server.psql("postgres", "ALTER ROLE CURRENT_USER SET max_parallel_maintenance_workers = 5").expect("set");
    let workers = if cpus > 1 { 5 } else { 0 };
    // Before it, both sessions had statements while the other one had some.
    let view = format!("CREATE MATERIALIZED VIEW last AS SELECT checked(1, '{workers}') AS a");
    let (_source, bucket) = backed_up(&format!("{}{view}", tables("(checked(a, NULL)) WHERE a = 1")));
    restored_by(&bucket, &server, 2);
}
