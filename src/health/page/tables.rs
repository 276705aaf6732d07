//! The tables: databases, backups, and what retention deletes next. On a narrow screen each row is a card.

use maud::{Markup, html};

use super::chart::{Runs, is_wrong, newest};
use super::words::{ago, bytes_text, duration, name, size, span, unknown};
use super::{DURATION, STORED_SIZE};
use crate::archive::StoredBackup;
use crate::archive::drill::DrillResult;
use crate::health::facts::{DatabaseFacts, Facts, State};
use crate::inventory::DatabaseSnapshot;
use crate::retention::Forecast;

/// The most backups on the page.
const MOST_BACKUPS: usize = 50;
/// The most databases on the page, those without a fresh backup first.
const MOST_DATABASES: usize = 200;

/// A table. The roles stay where the style turns rows into cards.
fn table(headings: &[(&str, &str)], rows: &Markup) -> Markup {
    html! {
        table role="table" {
            thead role="rowgroup" {
                tr role="row" {
                    @for (heading, class) in headings { th.(class) role="columnheader" scope="col" { (heading) } }
                }
            }
            tbody role="rowgroup" { (rows) }
        }
    }
}

/// A cell with the heading of its column.
fn cell((heading, class): (&str, &str), content: &Markup) -> Markup {
    html! { td.(class) role="cell" data-label=(heading) { (content) } }
}

/// A cell that may be empty: a card leaves it out.
fn optional((heading, class): (&str, &str), content: Option<Markup>) -> Markup {
    html! {
        @if let Some(content) = content { (cell((heading, class), &content)) }
        @else { td.none.(class) role="cell" data-label=(heading) { (unknown()) } }
    }
}

/// How many are shown.
fn shown(shown: usize, all: usize) -> Markup {
    html! { p.muted { (shown) " of " (all) " shown" } }
}

/// One row a database.
pub(super) fn databases(facts: &Facts, all: &[DatabaseFacts]) -> Markup {
    let mut sorted: Vec<&DatabaseFacts> = all.iter().collect();
    sorted.sort_by_key(|database| database.state.unwrap_or(State::Covered));
    let headings = [
        ("Database", ""),
        ("State", ""),
        ("Newest", "number"),
        ("Size", "number"),
        (STORED_SIZE.title, "spark"),
        (DURATION.title, "spark"),
        ("Stored", "number"),
        ("Drill", "wide"),
    ];
    let rows = html! {
        @for database in sorted.iter().take(MOST_DATABASES) {
            (database_row(facts, database, &headings))
        }
    };
    html! {
        section aria-labelledby="databases" {
            h2 #databases { "Databases" }
            (table(&headings, &rows))
            @if all.len() > MOST_DATABASES { (shown(MOST_DATABASES, all.len())) }
        }
    }
}

fn database_row(facts: &Facts, database: &DatabaseFacts, headings: &[(&str, &str); 8]) -> Markup {
    let stored = facts.snapshot().and_then(|snapshot| snapshot.database(Some(&database.name)));
    let backups = stored.map(|stored| stored.backups.as_slice()).unwrap_or_default();
    let runs = Runs::new(backups, &database.history.failures);
    let newest = stored.and_then(newest);
    let drill = database.drill.as_ref();
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { (name(&database.name)) }
            (cell(headings[1], &state(database.state)))
            (optional(headings[2], database.last_success.map(|time| ago(time, facts.now))))
            (optional(headings[3], newest.map(|backup| size(backup.file_size))))
            (cell(headings[4], &runs.small(STORED_SIZE)))
            (cell(headings[5], &runs.small(DURATION)))
            (optional(headings[6], stored.map(|stored| html! { (stored.count) ", " (size(stored.bytes)) })))
            (optional(headings[7], drill.map(|drill| html! {
                span.(if drill.result == "ok" { "good" } else { "wrong" }) { (drill_word(drill.result)) }
                " " (ago(drill.ended, facts.now))
            })))
        }
    }
}

fn state(state: Option<State>) -> Markup {
    html! {
        @if let Some(state) = state { span.state.(state.name()) { (state.words()) } }
        @else { span.muted title="The last run did not find it on the server." { "Not on the server" } }
    }
}

/// The result of a drill in words.
pub(super) fn drill_word(result: &str) -> &'static str {
    match result {
        "ok" => "ok",
        "fail" => "failed",
        _ => "could not be run",
    }
}

/// The newest backups of all databases.
pub(super) fn backups(facts: &Facts, stored: &[DatabaseSnapshot]) -> Markup {
    let mut newest: Vec<&StoredBackup> = stored.iter().flat_map(|stored| &stored.backups).collect();
    newest.sort_by_key(|backup| std::cmp::Reverse(backup.started));
    newest.truncate(MOST_BACKUPS);
    let all = stored.iter().map(|stored| stored.count + stored.uploads).sum();
    let headings = [
        ("Name", ""),
        ("Age", "number"),
        ("Size", "number"),
        ("Ratio", "number"),
        ("Duration", "number"),
        ("Database", ""),
        ("Status", ""),
        ("Drill", "wide"),
    ];
    let rows = html! { @for backup in &newest { (backup_row(facts, backup, &headings)) } };
    html! {
        section aria-labelledby="backups" {
            h2 #backups { "Backups" }
            @if newest.is_empty() { p { "There is none in the bucket." } }
            @else { (table(&headings, &rows)) (shown(newest.len(), all)) }
        }
    }
}

fn backup_row(facts: &Facts, backup: &StoredBackup, headings: &[(&str, &str); 8]) -> Markup {
    let class = if is_wrong(backup.status) { "wrong" } else { "" };
    let drilled = backup.drilled_at.as_deref().and_then(|time| chrono::DateTime::parse_from_rfc3339(time).ok());
    let drill = backup.drill_result.zip(drilled);
    html! {
        tr role="row" data-name=(backup.file_name) {
            th scope="row" role="rowheader" title=(backup.s3_location) { code { (backup.file_name) } }
            (cell(headings[1], &html! {
                time datetime=(backup.started_at) title=(backup.started_at) { (span(facts.now - backup.started)) }
            }))
            (cell(headings[2], &size(backup.file_size)))
            (optional(headings[3], backup.compression_ratio.map(|ratio| html! {
                data value=(ratio) { (format!("{ratio:.2}")) }
            })))
            (optional(headings[4], backup.duration.map(|seconds| html! {
                data value=(seconds) { (duration(seconds)) }
            })))
            (optional(headings[5], backup.database.as_deref().map(name)))
            (cell(headings[6], &html! { span.(class) { (backup.status.words()) } }))
            (optional(headings[7], drill.map(|(result, at)| html! {
                span.(if result == DrillResult::Ok { "good" } else { "wrong" }) { (drill_word(result.word())) }
                " " (ago(at.to_utc(), facts.now))
            })))
        }
    }
}

/// What the next retention deletes.
pub(super) fn retention(facts: &Facts, stored: &[DatabaseSnapshot]) -> Markup {
    let forecasts: Vec<(&DatabaseSnapshot, &Forecast)> =
        stored.iter().filter_map(|stored| Some((stored, stored.forecast.as_ref()?))).collect();
    let deletions: usize = forecasts.iter().map(|(_, forecast)| forecast.deletions).sum();
    let bytes: u64 = forecasts.iter().map(|(_, forecast)| forecast.bytes).sum();
    let blocked = forecasts.iter().filter(|(_, forecast)| !forecast.blocked_by.is_empty()).count();
    let (next, missing) = (facts.health.next_run, stored.len() - forecasts.len());
    let has_retention = facts.snapshot().is_some_and(|snapshot| snapshot.has_retention);
    html! {
        section aria-labelledby="retention" {
            h2 #retention { "Retention" }
            @if !has_retention { p { "No rule is set: nothing is deleted." } }
            @else if next.is_none() { p { "No next run is known, so no deletion is." } }
            @else if forecasts.is_empty() && missing > 0 {
                p { "It is not known what the next run deletes: what that depends on could not be read." }
            }
            @else if deletions == 0 { p { "The next run deletes nothing." (not_known(missing)) } }
            @else {
                p {
                    "After the next backup, "
                    @if let Some(next) = next { (super::words::time(next)) ", " }
                    strong { (deletions) @if deletions == 1 { " backup" } @else { " backups" } " (" (bytes_text(bytes)) ")" }
                    @if blocked == 0 { " will be deleted." }
                    @else if forecasts.len() == 1 { " would be deleted, if no safety check blocked it." }
                    @else { " would be deleted; a safety check blocks it for " (blocked) " of " (forecasts.len()) " databases." }
                    (not_known(missing))
                }
                (deleted_next(&forecasts, deletions))
            }
        }
    }
}

/// Of several databases, for how many it is not known.
fn not_known(databases: usize) -> Markup {
    html! {
        @if databases > 0 { " It is not known for " (databases) " more " @if databases == 1 { "database" } @else { "databases" } "." }
    }
}

fn deleted_next(forecasts: &[(&DatabaseSnapshot, &Forecast)], all: usize) -> Markup {
    const MOST: usize = 20;
    let each = || {
        let of = |(stored, forecast): &(_, &Forecast)| (*stored, forecast.backups.clone());
        forecasts.iter().map(of).flat_map(|(stored, backups): (&DatabaseSnapshot, _)| {
            backups.into_iter().map(move |backup| (stored, backup))
        })
    };
    let several = forecasts.iter().any(|(stored, _)| stored.name.is_some());
    let (size_heading, why) = (("Size", "number"), ("Why", "wide"));
    let mut headings = vec![("Name", ""), size_heading, why];
    if several {
        headings.push(("Database", ""));
    }
    let rows = html! {
        @for (stored, backup) in each().take(MOST) {
            tr role="row" {
                th scope="row" role="rowheader" { code { (backup.file_name) } }
                (cell(size_heading, &size(backup.file_size)))
                (cell(why, &html! { (backup.reasons.join(", ")) }))
                @if let Some(database) = &stored.name { (cell(("Database", ""), &name(database))) }
            }
        }
    };
    html! { (table(&headings, &rows)) (shown(each().take(MOST).count(), all)) }
}
