//! How a plan looks on a terminal: a line a backup that fits 80 columns, and the sums below.

use bytesize::ByteSize;

use crate::retention::{Decision, RetentionReport, Survey};

use super::table::{COLUMNS, cut};

/// The whole plan, newest first, and what else would be done.
pub fn of_plan(survey: &Survey, stale_uploads: &[String], report: &RetentionReport, location: &str) -> String {
    let decisions = survey.plan().decisions();
    let mut lines = Vec::new();
    if !decisions.is_empty() {
        let heading = ["NAME", "SIZE", "PLAN", "WHY"].map(str::to_owned);
        let rows: Vec<[String; 4]> = std::iter::once(heading).chain(decisions.iter().map(row)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let [w0, w1, w2] = [width(0), width(1), width(2)];
        lines.extend(
            rows.iter()
                .map(|[name, size, plan, why]| cut(&format!("{name:<w0$} {size:>w1$} {plan:<w2$} {why}"), COLUMNS)),
        );
    }
    let orphans = survey.orphans().map(|name| format!("{name} is gone: what lies beside it would be deleted"));
    lines.extend(orphans);
    lines.extend(stale_uploads.iter().map(|file_name| format!("{file_name}: its stale upload would be aborted")));
    lines.push(foreseen(report, location));
    lines.join("\n")
}

/// What was done, in one line.
pub fn summary(report: &RetentionReport, location: &str) -> String {
    let size = ByteSize(report.deleted_bytes).display().iec();
    format!("{location}: {} backups kept, {} deleted ({size})", report.kept, report.deleted)
}

fn foreseen(report: &RetentionReport, location: &str) -> String {
    let size = ByteSize(report.deleted_bytes).display().iec();
    let verdict = if report.frozen { "; nothing would be deleted without --force" } else { "" };
    format!("{location}: {} backups to keep, {} to delete ({size}){verdict}", report.kept, report.deleted)
}

fn row(decision: &Decision) -> [String; 4] {
    let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
    [
        decision.backup.name.to_string(),
        ByteSize(decision.backup.bytes).display().iec_short().to_string(),
        decision.verdict.word().to_owned(),
        reasons.join(", "),
    ]
}
