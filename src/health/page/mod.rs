//! The status page: one HTML document that needs no script and loads nothing. It reloads itself by `<meta>`.
//!
//! `maud` escapes everything that is put into it; names of databases come from others. Links are relative, so that the page works
//! behind a path prefix. Only its own style is allowed ([`SECURITY`]), so no element has a `style` of its own.

mod chart;
mod notices;
mod tables;
mod words;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use self::chart::{Measure, Runs};
use self::words::{ago, ahead, bytes_text, duration, name, size, time, unknown};
use super::facts::{Facts, State};
use super::status::result;

const STYLE: &str = include_str!("style.css");
/// How often the page reloads itself, in seconds; a run is watched more closely.
const RELOAD: u32 = 60;
const RELOAD_OF_RUN: u32 = 10;

/// The headers of the page, with the policy that allows its own style and the icon in it, and nothing else.
pub static SECURITY: LazyLock<[(HeaderName, HeaderValue); 4]> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
    [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ]
});

const STORED_SIZE: Measure = Measure {
    title: "Stored size",
    summary: "Stored size of each backup, the oldest first",
    #[expect(clippy::cast_precision_loss, reason = "the height of a bar")]
    value: |backup| Some(backup.file_size as f64),
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was a size")]
    text: |bytes| bytes_text(bytes as u64),
};
const DURATION: Measure = Measure {
    title: "Duration",
    summary: "Duration of each backup, the oldest first",
    value: |backup| backup.duration,
    text: duration,
};

/// The page.
#[must_use]
pub fn render(facts: &Facts) -> String {
    let is_running = facts.health.running_since.is_some() || facts.health.drill.running_since.is_some();
    let reload = if is_running { RELOAD_OF_RUN } else { RELOAD };
    let stored = facts.snapshot().map(|snapshot| snapshot.databases.as_slice());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content=(reload);
                title { (facts.state.words()) " – " (crate::printable::printable(&facts.location)) }
                link rel="icon" href=(icon(facts.state));
                style { (PreEscaped(STYLE)) }
            }
            body.(facts.state.name()) {
                header {
                    p.muted { "Backups of PostgreSQL in " (name(&facts.location)) }
                    h1 { (facts.state.words()) }
                    p.lead { (lead(facts)) }
                }
                main {
                    (notices::running(facts))
                    (notices::notices(facts))
                    (key_figures(facts))
                    @match &facts.databases {
                        Some(databases) if !databases.is_empty() => (tables::databases(facts, databases)),
                        Some(_) => {}
                        None => (charts(facts)),
                    }
                    @if let Some(stored) = stored {
                        (tables::retention(facts, stored))
                        (tables::backups(facts, stored))
                    }
                }
                (footer(facts, reload))
            }
        }
    };
    page.into_string()
}

/// A dot in the colour of the state, for the browser's tab.
fn icon(state: State) -> String {
    let colour = match state {
        State::Covered => "1a7f4b",
        State::Stale => "b26a00",
        State::Failing => "c8281e",
        State::NoBackup | State::Unknown => "5b6b88",
    };
    format!(
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='%23{colour}'/%3E%3C/svg%3E"
    )
}

/// The state in sentences.
fn lead(facts: &Facts) -> Markup {
    let (health, history, now) = (&facts.health, &facts.history, facts.now);
    let databases = facts.databases.as_deref().filter(|databases| !databases.is_empty());
    let (expected, late) = facts.late_databases();
    html! {
        @if facts.state == State::Failing {
            "The last run failed"
            @if let Some(ended) = history.last_run { " " (ago(ended, now)) }
            @if let Some(code) = history.exit_code { ": " (result(code)) " (exit code " (code) ")" }
            ". "
        }
        @match (databases, health.last_success) {
            (Some(_), _) if late > 0 => {
                (late) " of " (expected) " databases " @if late == 1 { "has" } @else { "have" } " no backup"
                @if let Some(since) = health.expected_since { " since " (time(since)) } ". "
            }
            (Some(_), Some(_)) if expected > 1 => { "Each of " (expected) " databases has a recent backup. " }
            (_, Some(success)) => { "The newest backup is " (words::span(now - success)) " old. " }
            (_, None) if facts.state == State::Unknown => { "The bucket has not been listed yet, so no backup is known. " }
            (_, None) => { "No backup is known. " }
        }
        @if facts.state == State::Stale && databases.is_none() && let Some(since) = health.expected_since {
            "One was expected since " (time(since)) ". "
        }
        @if let (None, Some(next)) = (health.running_since, health.next_run) { "The next one starts in " (ahead(next, now)) "." }
    }
}

/// The figures, with the names that the Grafana dashboard has.
fn key_figures(facts: &Facts) -> Markup {
    let (health, history, now) = (&facts.health, &facts.history, facts.now);
    let snapshot = facts.snapshot();
    let totals = snapshot.map(|snapshot| snapshot.totals());
    let newest = snapshot.and_then(|snapshot| snapshot.database(None)).and_then(chart::newest);
    let several = facts.databases.as_ref().filter(|_| facts.late_databases().0 > 1);
    let figures: Vec<(&str, Markup)> = [
        Some((
            "Age of the newest backup",
            health.last_success.map_or_else(unknown, |time| {
                html! { (words::span(now - time)) @if several.is_some() { " " small { "at most" } } }
            }),
        )),
        Some(("Next backup in", health.next_run.map_or_else(unknown, |next| ahead(next, now)))),
        Some((
            "Exit code of the last run",
            history.exit_code.map_or_else(unknown, |code| html! { (code) " " small { (result(code)) } }),
        )),
        facts.databases.as_ref().map(|_| ("Databases without a backup", failed_databases(facts))),
        Some(("Backups kept", totals.map_or_else(unknown, |(count, _)| html! { (count) }))),
        Some(("Stored", totals.map_or_else(unknown, |(_, bytes)| size(bytes)))),
        newest.map(|newest| ("Size of the last backup", size(newest.file_size))),
        newest
            .and_then(|newest| newest.duration)
            .map(|seconds| ("Duration of the last backup", html! { (duration(seconds)) })),
        Some(("Age of the last restore drill", drill_age(facts))),
    ]
    .into_iter()
    .flatten()
    .collect();
    html! {
        dl.figures { @for (label, value) in figures { div { dt { (label) } dd { (value) } } } }
    }
}

/// The databases that the last run did not back up, as the metrics count them.
fn failed_databases(facts: &Facts) -> Markup {
    let failed = facts.history.databases_failed;
    failed.map_or_else(unknown, |failed| html! { (failed) " " small { "in the last run" } })
}

/// The age of the last drill that succeeded, as on the dashboard, and what is wrong with the last one.
fn drill_age(facts: &Facts) -> Markup {
    let bad = facts.drill.as_ref().map(|drill| drill.result).filter(|result| *result != "ok");
    let bad = bad.map(tables::drill_word);
    html! {
        @if let Some(ended) = facts.drill_success { (words::span(facts.now - ended)) } @else { (unknown()) }
        @match (bad, facts.drill_success) {
            (Some(bad), Some(_)) => { " " small { "ok, a later one " (bad) } }
            (Some(bad), None) => { " " small { "the last one " (bad) } }
            (None, Some(_)) => { " " small { "ok" } }
            (None, None) => {}
        }
    }
}

/// The charts of one database.
fn charts(facts: &Facts) -> Markup {
    let stored = facts.snapshot().and_then(|snapshot| snapshot.database(None));
    let runs = Runs::new(stored.map(|stored| stored.backups.as_slice()).unwrap_or_default(), &facts.history.failures);
    html! {
        @if !runs.is_empty() {
            section aria-labelledby="charts" {
                h2 #charts { "Over time" }
                div.charts { (runs.chart(STORED_SIZE)) (runs.chart(DURATION)) }
                p.legend.muted { span.key-bar { "a backup" } span.key-failed { "a run that failed, or a damaged backup" } }
            }
        }
    }
}

fn footer(facts: &Facts, reload: u32) -> Markup {
    html! {
        footer.muted {
            p {
                @if let Some(snapshot) = facts.snapshot() { "The bucket was listed " (ago(snapshot.listed, facts.now)) ". " }
                "This page was made at " time datetime=(facts.now.to_rfc3339()) { (facts.now.format("%Y-%m-%d %H:%M:%S")) " UTC" }
                " and reloads every " (reload) " s."
            }
            nav aria-label="More" {
                a href="status" { "JSON" } a href="metrics" { "Metrics" } span { "pg-s3-backup " (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
}
