//! `ANALYZE` after a restore, because a dump has no statistics.

use std::iter;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::vec;

use crate::at_once::together;
use crate::postgres::{Maintenance, PostgresSettings, Tools};

use super::selective::Selective;

/// How long `ANALYZE` may take on the largest database.
const WITHIN: Duration = Duration::from_hours(24);
const EVERYTHING: &str = "ANALYZE";
/// What `ANALYZE` of everything means, largest first.
const TABLES: &str = "SELECT pg_catalog.json_agg(pg_catalog.format('%I.%I', n.nspname, c.relname) \
    ORDER BY pg_catalog.pg_relation_size(c.oid) DESC) \
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'";

/// Runs `ANALYZE` of what was chosen, or of all, by so many sessions. A failure is only a warning.
pub(super) async fn analyze(
    (tools, settings): (&Tools, &PostgresSettings),
    selective: Option<&Selective>,
    jobs: usize,
) {
    let chosen = selective.filter(|selective| !selective.is_of_everything()).map(Selective::loaded);
    if chosen.as_ref().is_some_and(Vec::is_empty) {
        return;
    }
    let analyzed = async {
        let mut server = Maintenance::connect(tools, settings).await.map_err(|error| error.to_string())?;
        let statements = Statements(Mutex::new(statements(&mut server, chosen, jobs).await.into_iter()));
        // Without the further sessions, the first does it all.
        let more = (1..jobs).map(|_| async { Ok::<_, String>(Maintenance::connect(tools, settings).await.ok()) });
        let more = together(more).await?.into_iter().flatten();
        let ran = iter::once(server).chain(more).map(|server| async { Ok::<_, String>(statements.run(server).await) });
        together(ran).await?.into_iter().collect::<Result<(), String>>()
    };
    if let Err(error) = analyzed.await {
        tracing::warn!(error, hint = "run ANALYZE", "ANALYZE failed");
    }
}

/// One statement, or one for each table if several sessions run them.
async fn statements(server: &mut Maintenance, chosen: Option<Vec<String>>, jobs: usize) -> Vec<String> {
    let all = || vec![EVERYTHING.to_owned()];
    let tables = match chosen {
        Some(tables) if jobs == 1 => return vec![format!("{EVERYTHING} {}", tables.join(", "))],
        None if jobs == 1 => return all(),
        Some(tables) => Some(tables),
        // A name that cannot be read is part of everything.
        None => server.ask::<Vec<String>>(TABLES).await.ok().flatten(),
    };
    tables.map_or_else(all, |tables| tables.iter().map(|table| format!("{EVERYTHING} {table}")).collect())
}

/// What several sessions run, each the next one.
struct Statements(Mutex<vec::IntoIter<String>>);

impl Statements {
    fn next(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    /// Runs them in this session. An error ends only its statement; the first is returned.
    async fn run(&self, mut server: Maintenance) -> Result<(), String> {
        let set = server.let_autovacuum_yield().await;
        let mut result = set.map_err(|error| error.to_string());
        while server.is_idle()
            && let Some(statement) = self.next()
        {
            let ran = server.run_within(WITHIN, &statement).await;
            result = result.and(ran.map(drop).map_err(|error| error.to_string()));
        }
        server.close().await;
        result
    }
}
