//! What the page says of facts that are easily told wrong.

use std::sync::Arc;

use pg_s3_backup::health::facts::{Facts, State};
use pg_s3_backup::health::page::render;
use pg_s3_backup::inventory::{DatabaseSnapshot, Snapshot};

use super::facts::{all, covered, damaged};

/// The page's text between these.
#[track_caller]
fn between<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = page.split_once(start).unwrap_or_else(|| panic!("no {start}: {page}"));
    rest.split_once(end).map_or(rest, |(text, _)| text)
}

/// A key figure.
#[track_caller]
fn figure<'a>(page: &'a str, label: &str) -> &'a str {
    between(page, &format!("<dt>{label}</dt><dd>"), "</dd>")
}

/// The facts of a state.
fn state(name: &str) -> Facts {
    all().into_iter().find(|(known, _)| *known == name).map(|(_, facts)| facts).expect("a state")
}

/// The same facts with another snapshot of the bucket.
fn with_snapshot(mut facts: Facts, change: impl FnOnce(&mut Snapshot)) -> Facts {
    let mut snapshot = facts.bucket.snapshot.as_deref().cloned().expect("a snapshot");
    change(&mut snapshot);
    facts.bucket.snapshot = Some(Arc::new(snapshot));
    facts
}

#[test]
fn rule_that_is_set_is_never_called_none() {
    let retention = |facts: &Facts| between(&render(facts), "Retention</h2>", "</section>").to_owned();
    let without = |facts| {
        with_snapshot(facts, |snapshot| {
            snapshot.databases.iter_mut().for_each(|of: &mut DatabaseSnapshot| of.forecast = None);
        })
    };
    let text = retention(&without(covered(9)));
    assert!(text.contains("It is not known what the next run deletes") && !text.contains("No rule"), "{text}");
    let text = retention(&with_snapshot(covered(9), |snapshot| snapshot.databases.clear()));
    assert!(text.contains("The next run deletes nothing"), "{text}");
    let text = retention(&with_snapshot(state("databases"), |snapshot| snapshot.databases[0].forecast = None));
    assert!(text.contains("It is not known for 1 more database."), "{text}");
    let text = retention(&with_snapshot(without(covered(9)), |snapshot| snapshot.has_retention = false));
    assert!(text.contains("No rule is set: nothing is deleted."), "{text}");
}

#[test]
fn damaged_and_open_backups_are_not_the_last_backup() {
    let page = render(&damaged());
    let stored = damaged().bucket.snapshot.expect("a snapshot").databases[0].clone();
    let good = &stored.backups[3];
    assert_eq!(
        figure(&page, "Size of the last backup"),
        figure(
            &render(&with_snapshot(covered(40), |snapshot| {
                snapshot.databases[0].backups.remove(0);
            })),
            "Size of the last backup"
        )
    );
    assert!(figure(&page, "Size of the last backup").contains(&format!("value=\"{}\"", good.file_size)), "{page}");
    assert_eq!(figure(&page, "Backups kept"), "41");
    assert!(page.contains("42 of 42 shown"), "{page}");
    let notices = between(&page, "<ul class=\"notices\"", "</ul>");
    for text in [
        "The newest backup is damaged",
        "(size mismatch)",
        &stored.backups[2].file_name,
        "A backup is in the future",
        &stored.backups[0].file_name,
    ] {
        assert!(notices.contains(text), "{text}: {notices}");
    }
    // An older one that is damaged needs no notice.
    assert!(!render(&state("retention-blocked")).contains("The newest backup is damaged"));
}

#[test]
fn databases_that_are_gone_do_not_count() {
    let mut facts = state("databases");
    let page = render(&facts);
    assert!(page.contains("2 of 39 databases have no backup since"), "{page}");
    assert!(facts.reason().starts_with("2 of 39 databases have no backup"), "{}", facts.reason());
    assert!(
        figure(&page, "Databases without a backup").starts_with("1 "),
        "of the last run, as in the metrics: {page}"
    );
    for database in facts.databases.iter_mut().flatten().filter(|database| database.is_expected) {
        (database.is_healthy, database.state) = (true, Some(State::Covered));
    }
    assert!(render(&facts).contains("Each of 39 databases has a recent backup."));
}

#[test]
fn age_of_the_drill_is_that_of_the_last_success() {
    let mut facts = state("drill-failed");
    assert!(figure(&render(&facts), "Age of the last restore drill").ends_with("<small>the last one failed</small>"));
    facts.drill_success = Some(facts.now - chrono::TimeDelta::days(9));
    let page = render(&facts);
    assert_eq!(figure(&page, "Age of the last restore drill"), "9 days <small>ok, a later one failed</small>");
    assert!(page.contains("The last restore drill failed"), "{page}");
}

#[test]
fn retention_that_was_blocked_is_past_once_nothing_blocks_it() {
    let mut facts = covered(9);
    facts.history.is_retention_blocked = true;
    let page = render(&facts);
    assert!(page.contains("Retention was blocked") && !page.contains("Retention is blocked"), "{page}");
    assert!(render(&state("retention-blocked")).contains("Retention is blocked"));
}

#[test]
fn charts_of_one_day_have_the_hours() {
    let mut facts = with_snapshot(covered(3), |snapshot| {
        for (backup, hours) in snapshot.databases[0].backups.iter_mut().zip([0, 2, 5]) {
            backup.started = super::facts::now() - chrono::TimeDelta::hours(hours);
        }
    });
    facts.history.failures.clear();
    let axis = |facts: &Facts| between(&render(facts), "<div class=\"axis muted few\">", "</div>").to_owned();
    assert_eq!(axis(&facts), "<span>2026-11-23 02:40</span><span>2026-11-23 07:40</span>");
    assert_eq!(
        axis(&with_snapshot(facts, |snapshot| snapshot.databases[0].backups.truncate(1))),
        "<span>2026-11-23</span>"
    );
}

#[test]
fn dump_that_is_larger_than_the_database_has_no_estimate() {
    let mut facts = state("running");
    assert!(render(&facts).contains("1.4 GiB of about 3.8 GiB dumped"), "{}", render(&facts));
    facts.dumps[0].estimate = 1 << 30;
    assert!(render(&facts).contains("1.4 GiB dumped"), "{}", render(&facts));
}
