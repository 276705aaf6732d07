//! What each path answers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use serde_json::json;

use crate::archive::manifest::time_text;
use crate::scheduler::{DatabaseHealth, Health, Heartbeat, LastDrill};

/// Of Prometheus's text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON_TYPE: &str = "application/json";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Answers a request; its body is not read.
pub(super) fn answer(request: &Request<Incoming>, heartbeat: &Heartbeat) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut page = page(StatusCode::METHOD_NOT_ALLOWED, TEXT_TYPE, "GET or HEAD\n".to_owned());
        page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return page;
    }
    match request.uri().path() {
        // One meaning, as everywhere in Kubernetes: the process is alive. What S3 or the database does is no part of it.
        "/livez" | "/healthz" => {
            let (is_alive, age) = heartbeat.alive();
            let text = json!({ "alive": is_alive, "heartbeat_age_ms": milliseconds(age) });
            page(status(is_alive), JSON_TYPE, format!("{text}\n"))
        }
        "/status" => {
            let (health, (_, age)) = (heartbeat.health(Utc::now()), heartbeat.alive());
            page(status(health.is_healthy), JSON_TYPE, format!("{}\n", described(&health, age)))
        }
        "/metrics" => page(StatusCode::OK, METRICS_TYPE, heartbeat.metrics().render()),
        _ => page(StatusCode::NOT_FOUND, TEXT_TYPE, "/livez, /healthz, /status or /metrics\n".to_owned()),
    }
}

fn status(is_well: bool) -> StatusCode {
    if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn described(health: &Health, heartbeat_age: Duration) -> serde_json::Value {
    let text = |time: Option<DateTime<Utc>>| time.map(time_text);
    let mut page = json!({
        "healthy": health.is_healthy,
        "reason": reason(health),
        "last_success": text(health.last_success),
        "expected_since": text(health.expected_since),
        "running_since": text(health.running_since),
        "next_run": text(health.next_run),
        "heartbeat_age_ms": milliseconds(heartbeat_age),
        "last_drill": health.drill.last.as_ref().map(last_drill),
        "drilling_since": text(health.drill.running_since),
        "next_drill": text(health.drill.next),
    });
    if let Some(databases) = &health.databases {
        page["databases"] = databases.iter().map(database).collect();
    }
    page
}

fn reason(health: &Health) -> String {
    let all = health.databases.as_deref().unwrap_or_default();
    let late = all.iter().filter(|database| !database.is_healthy).count();
    match (health.is_healthy, health.last_success) {
        (true, _) if !all.is_empty() => "each database has a backup since the tick before last".to_owned(),
        (true, _) => "there is a backup since the tick before last".to_owned(),
        (false, _) if late > 0 => {
            let (all, has) = (all.len(), if late == 1 { "has" } else { "have" });
            format!("{late} of {all} databases {has} no backup since the tick before last")
        }
        (false, Some(_)) => "no backup since the tick before last".to_owned(),
        (false, None) => "no backup is known yet".to_owned(),
    }
}

fn database(database: &DatabaseHealth) -> serde_json::Value {
    let DatabaseHealth { name, is_healthy, last_success } = database;
    json!({ "name": name, "healthy": is_healthy, "last_success": last_success.map(time_text) })
}

fn last_drill(drill: &LastDrill) -> serde_json::Value {
    let LastDrill { database, file_name, sample } = drill;
    let mut drill = json!({
        "file_name": file_name,
        "ended_at": time_text(sample.ended),
        "result": sample.result,
        "duration": sample.duration,
    });
    if let Some((name, _)) = database {
        drill["database"] = name.as_str().into();
    }
    drill
}

fn milliseconds(age: Duration) -> Option<u64> {
    u64::try_from(age.as_millis()).ok()
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::new(Bytes::from(text)));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scheduler::DrillState;

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

    #[test]
    fn one_database_has_no_list_of_databases() {
        let page = described(&health(Some(at("22T02:00:00"))), Duration::ZERO);
        let names: Vec<_> = page.as_object().expect("an object").keys().map(String::as_str).collect();
        let wanted = [
            "healthy",
            "reason",
            "last_success",
            "expected_since",
            "running_since",
            "next_run",
            "heartbeat_age_ms",
            "last_drill",
            "drilling_since",
            "next_drill",
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
        let page = described(&health, Duration::ZERO);
        assert_eq!(page["reason"], "each database has a backup since the tick before last");
        let wanted = json!([
            { "name": "app", "healthy": true, "last_success": "2026-11-22T02:00:00Z" },
            { "name": "new \"one\"", "healthy": true, "last_success": null },
        ]);
        assert_eq!(page["databases"], wanted);
        (health.is_healthy, health.last_success) = (false, None);
        health.databases = Some(vec![database("app", true, Some("22T02:00:00")), database("shop", false, None)]);
        let page = described(&health, Duration::ZERO);
        assert_eq!(page["reason"], "1 of 2 databases has no backup since the tick before last");
        health.databases = Some(Vec::new());
        let page = described(&health, Duration::ZERO);
        assert_eq!((&page["reason"], &page["databases"]), (&json!("no backup is known yet"), &json!([])));
    }
}
