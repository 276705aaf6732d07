//! What each path answers.

use std::time::Duration;

use chrono::Utc;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use serde_json::json;

use crate::inventory::InventoryCache;
use crate::printable::printable_json;
use crate::scheduler::Heartbeat;

use super::facts::Facts;
use super::page::{SECURITY, render};
use super::status::described;

/// Of Prometheus's text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON_TYPE: &str = "application/json";
const HTML_TYPE: &str = "text/html; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Answers a request; its body is not read.
pub(super) fn answer(
    request: &Request<Incoming>,
    heartbeat: &Heartbeat,
    inventory: &InventoryCache,
) -> Response<Full<Bytes>> {
    let facts = || Facts::gather(heartbeat, inventory, Utc::now());
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
        "/" => secured(page(StatusCode::OK, HTML_TYPE, render(&facts()))),
        "/status" => {
            let facts = facts();
            // As `list --json`: names of others may have what controls a terminal.
            let text = described(&facts).to_string();
            page(status(facts.health.is_healthy), JSON_TYPE, format!("{}\n", printable_json(&text)))
        }
        "/metrics" => page(StatusCode::OK, METRICS_TYPE, heartbeat.metrics().render()),
        _ => page(StatusCode::NOT_FOUND, TEXT_TYPE, "/, /livez, /healthz, /status or /metrics\n".to_owned()),
    }
}

fn status(is_well: bool) -> StatusCode {
    if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn milliseconds(age: Duration) -> Option<u64> {
    u64::try_from(age.as_millis()).ok()
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::new(Bytes::from(text)));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Names of databases are in all of them: no browser may take one for HTML.
    page.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    page
}

/// Adds the headers of a page for browsers.
fn secured(mut page: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    for (name, value) in SECURITY.iter() {
        page.headers_mut().insert(name.clone(), value.clone());
    }
    page
}
