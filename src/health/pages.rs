//! What each path answers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use serde_json::json;

use crate::archive::manifest::time_text;
use crate::scheduler::{Health, Heartbeat, LastDrill};

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
    let reason = match (health.is_healthy, health.last_success) {
        (true, _) => "there is a backup since the tick before last",
        (false, Some(_)) => "no backup since the tick before last",
        (false, None) => "no backup is known yet",
    };
    json!({
        "healthy": health.is_healthy,
        "reason": reason,
        "last_success": text(health.last_success),
        "expected_since": text(health.expected_since),
        "running_since": text(health.running_since),
        "next_run": text(health.next_run),
        "heartbeat_age_ms": milliseconds(heartbeat_age),
        "last_drill": health.drill.last.as_ref().map(last_drill),
        "drilling_since": text(health.drill.running_since),
        "next_drill": text(health.drill.next),
    })
}

fn last_drill(drill: &LastDrill) -> serde_json::Value {
    let LastDrill { file_name, sample } = drill;
    json!({
        "file_name": file_name,
        "ended_at": time_text(sample.ended),
        "result": sample.result,
        "duration": sample.duration,
    })
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
