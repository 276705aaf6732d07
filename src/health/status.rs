//! `/status`: the facts as JSON. Fields are only added.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::archive::StoredBackup;
use crate::archive::manifest::time_text;
use crate::exit_code::EXIT_CODES;
use crate::inventory::DatabaseSnapshot;
use crate::telemetry::RunningDump;
use crate::telemetry::metrics::RunHistory;

use super::facts::{DatabaseFacts, DrillFacts, Facts};

/// The newest backups of a database in the answer.
const MOST_BACKUPS: usize = 50;
/// With several databases, those of each.
const MOST_OF_DATABASE: usize = 3;

/// The facts as JSON.
pub(super) fn described(facts: &Facts) -> Value {
    let Facts { health, history, .. } = facts;
    let text = |time: Option<DateTime<Utc>>| time.map(time_text);
    let mut page = json!({
        "healthy": health.is_healthy,
        "state": facts.state.name(),
        "reason": facts.reason(),
        "last_success": text(health.last_success),
        "expected_since": text(health.expected_since),
        "running_since": text(health.running_since),
        "running": facts.dumps.iter().map(running).collect::<Value>(),
        "next_run": text(health.next_run),
        "last_run": last_run(history),
        "heartbeat_age_ms": u64::try_from(facts.heartbeat_age.as_millis()).ok(),
        "last_drill": facts.drill.as_ref().map(of_drill),
        "drilling_since": text(health.drill.running_since),
        "next_drill": text(health.drill.next),
        "inventory": inventory(facts),
    });
    if let Some(databases) = &facts.databases {
        page["databases"] = databases.iter().map(|database| of_database(database, facts)).collect();
    } else {
        let stored = facts.snapshot().and_then(|snapshot| snapshot.database(None));
        add(&mut page, history, facts, (stored, MOST_BACKUPS));
    }
    page
}

fn of_database(database: &DatabaseFacts, facts: &Facts) -> Value {
    let DatabaseFacts { name, state, is_expected: _, is_healthy, last_success, history, drill } = database;
    let mut page = json!({
        "name": name,
        "healthy": is_healthy,
        "state": state.map(super::facts::State::name),
        "last_success": last_success.map(time_text),
        "last_run": last_run(history),
        "last_drill": drill.as_ref().map(of_drill),
    });
    let stored = facts.snapshot().and_then(|snapshot| snapshot.database(Some(name)));
    add(&mut page, history, facts, (stored, MOST_OF_DATABASE));
    page
}

/// Adds what is known of a destination.
fn add(page: &mut Value, history: &RunHistory, facts: &Facts, (stored, most): (Option<&DatabaseSnapshot>, usize)) {
    let forecast = stored.and_then(|stored| stored.forecast.as_ref());
    page["retention"] = json!({
        "enabled": facts.snapshot().map(|snapshot| snapshot.has_retention),
        "blocked": history.is_retention_blocked,
        "failed": history.is_retention_failed,
        "next": forecast,
    });
    page["stored_backups"] = stored.map(|stored| stored.count).into();
    page["stored_bytes"] = stored.map(|stored| stored.bytes).into();
    let backups: Option<Vec<&StoredBackup>> = stored.map(|stored| stored.backups.iter().take(most).collect());
    page["backups"] = json!(backups);
}

fn inventory(facts: &Facts) -> Value {
    let (snapshot, failure) = (facts.snapshot(), facts.bucket.failure.as_ref());
    let totals = snapshot.map(|snapshot| snapshot.totals());
    json!({
        "listed_at": snapshot.map(|snapshot| time_text(snapshot.listed)),
        "age_s": snapshot.map(|snapshot| (facts.now - snapshot.listed).num_seconds().max(0)),
        "stored_backups": totals.map(|(count, _)| count),
        "stored_bytes": totals.map(|(_, bytes)| bytes),
        "failing_since": failure.map(|failure| time_text(failure.since)),
        "error": failure.map(|failure| &failure.error),
    })
}

fn running(dump: &RunningDump) -> Value {
    let RunningDump { database, since, dumped, uploaded, estimate } = dump;
    json!({
        "database": database,
        "since": time_text(*since),
        "dumped_bytes": dumped,
        "uploaded_bytes": uploaded,
        "database_bytes": estimate,
    })
}

fn last_run(history: &RunHistory) -> Value {
    let Some((ended, code)) = history.last_run.zip(history.exit_code) else { return Value::Null };
    json!({ "ended_at": time_text(ended), "exit_code": code, "result": result(code) })
}

/// The name of an exit code.
pub(super) fn result(code: u8) -> &'static str {
    EXIT_CODES.iter().find(|row| row.number == code).map_or("unknown", |row| row.name)
}

fn of_drill(drill: &DrillFacts) -> Value {
    let DrillFacts { database, file_name, ended, result, duration } = drill;
    let mut drill = json!({
        "file_name": file_name,
        "ended_at": time_text(*ended),
        "result": result,
        "duration": duration,
    });
    if let Some(name) = database {
        drill["database"] = name.as_str().into();
    }
    drill
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::facts::State;
    use super::*;
    use crate::inventory::Known;
    use crate::scheduler::{DatabaseHealth, DrillState, Health};

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-{text}Z").parse().expect("a time")
    }

    fn health(last_success: Option<DateTime<Utc>>) -> Health {
        Health {
            is_healthy: true,
            last_success,
            databases: None,
            expected_since: None,
            running_since: None,
            next_run: None,
            drill: DrillState::default(),
        }
    }

    fn facts(health: Health) -> Facts {
        let of = |database: &DatabaseHealth| DatabaseFacts {
            name: database.name.clone(),
            state: Some(State::Covered),
            is_expected: true,
            is_healthy: database.is_healthy,
            last_success: database.last_success,
            history: RunHistory::default(),
            drill: None,
        };
        Facts {
            now: at("22T03:00:00"),
            location: "s3://b/app".to_owned(),
            state: State::Covered,
            is_alive: true,
            heartbeat_age: Duration::ZERO,
            history: RunHistory::default(),
            dumps: Vec::new(),
            drill: None,
            drill_success: None,
            databases: health.databases.as_ref().map(|each| each.iter().map(of).collect()),
            bucket: Known::default(),
            health,
        }
    }

    fn described(health: &Health) -> Value {
        super::described(&facts(health.clone()))
    }

    #[test]
    fn one_database_has_no_list_of_databases() {
        let page = described(&health(Some(at("22T02:00:00"))));
        let names: Vec<_> = page.as_object().expect("an object").keys().map(String::as_str).collect();
        let wanted = [
            "healthy",
            "state",
            "reason",
            "last_success",
            "expected_since",
            "running_since",
            "running",
            "next_run",
            "last_run",
            "heartbeat_age_ms",
            "last_drill",
            "drilling_since",
            "next_drill",
            "inventory",
            "retention",
            "stored_backups",
            "stored_bytes",
            "backups",
        ];
        assert_eq!(names.iter().collect::<BTreeSet<_>>(), wanted.iter().collect());
        assert_eq!(page["reason"], "there is a backup since the tick before last");
    }

    #[test]
    fn several_databases_are_listed() {
        let database = |name: &str, is_healthy, last_success: Option<&str>| DatabaseHealth {
            name: name.to_owned(),
            is_healthy,
            last_success: last_success.map(at),
        };
        let mut health = health(Some(at("22T02:00:00")));
        health.databases = Some(vec![database("app", true, Some("22T02:00:00")), database("new \"one\"", true, None)]);
        let page = described(&health);
        assert_eq!(page["reason"], "each database has a backup since the tick before last");
        let seen = |index: usize| {
            let database = &page["databases"][index];
            (database["name"].clone(), database["healthy"].clone(), database["last_success"].clone())
        };
        assert_eq!(seen(0), (json!("app"), json!(true), json!("2026-11-22T02:00:00Z")));
        assert_eq!(seen(1), (json!("new \"one\""), json!(true), Value::Null));
        (health.is_healthy, health.last_success) = (false, None);
        health.databases = Some(vec![database("app", true, Some("22T02:00:00")), database("shop", false, None)]);
        let page = described(&health);
        assert_eq!(page["reason"], "1 of 2 databases has no backup since the tick before last");
        health.databases = Some(Vec::new());
        let page = described(&health);
        assert_eq!((&page["reason"], &page["databases"]), (&json!("no backup is known yet"), &json!([])));
    }
}
