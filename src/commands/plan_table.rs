//! Prints a plan: one line per backup, further reasons on more lines, totals below.

use bytesize::ByteSize;

use crate::printable::counted;
use crate::retention::{Decision, RetentionReport, RetentionReview};

/// The plan, newest first, with orphans and stale uploads; the reasons wrapped to this many columns, if any.
pub fn of_plan(
    review: &RetentionReview,
    stale_uploads: &[String],
    report: &RetentionReport,
    (location, columns): (&str, Option<usize>),
) -> String {
    let decisions = review.plan().decisions();
    let mut lines = if decisions.is_empty() { Vec::new() } else { of_rows(decisions.iter().map(row), columns) };
    let orphans = review.orphans().map(|name| format!("{name} is gone: its sidecars would be deleted"));
    lines.extend(orphans);
    lines.extend(stale_uploads.iter().map(|file_name| format!("{file_name}: its stale upload would be aborted")));
    lines.push(planned(report, location));
    lines.join("\n")
}

/// The table. Reasons that do not fit continue on the next line of their column.
fn of_rows(rows: impl Iterator<Item = ([String; 3], Vec<String>)>, columns: Option<usize>) -> Vec<String> {
    let heading = (["NAME", "SIZE", "PLAN"].map(str::to_owned), vec!["WHY".to_owned()]);
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|(row, _)| row[column].chars().count()).max().unwrap_or_default();
    let [w0, w1, w2] = [width(0), width(1), width(2)];
    let left = columns.map(|columns| columns.saturating_sub(w0 + w1 + w2 + 3));
    let mut lines = Vec::new();
    for ([name, size, plan], reasons) in rows {
        for (index, why) in wrapped(&reasons, left).iter().enumerate() {
            let [name, size, plan] = if index == 0 { [&*name, &*size, &*plan] } else { [""; 3] };
            lines.push(format!("{name:<w0$} {size:>w1$} {plan:<w2$} {why}"));
        }
    }
    lines
}

/// The reasons, separated by commas, in lines of at most this width. A reason is never split.
fn wrapped(reasons: &[String], width: Option<usize>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (index, reason) in reasons.iter().enumerate() {
        let comma = if index + 1 < reasons.len() { "," } else { "" };
        let fits = |line: &&mut String| width.is_none_or(|width| line.len() + 1 + reason.len() + comma.len() <= width);
        match lines.last_mut().filter(fits) {
            Some(line) => line.extend([" ", reason, comma]),
            None => lines.push(format!("{reason}{comma}")),
        }
    }
    lines
}

/// The result in one line.
pub fn summary(report: &RetentionReport, location: &str) -> String {
    let size = ByteSize(report.deleted_bytes).display().iec();
    format!("{location}: {} kept, {} deleted ({size})", counted(report.retained, "backup"), report.deleted)
}

fn planned(report: &RetentionReport, location: &str) -> String {
    let size = ByteSize(report.deleted_bytes).display().iec();
    let verdict = if report.blocked { "; nothing would be deleted without --force" } else { "" };
    format!(
        "{location}: {} to keep, {} to delete ({size}){verdict}",
        counted(report.retained, "backup"),
        report.deleted
    )
}

fn row(decision: &Decision) -> ([String; 3], Vec<String>) {
    let columns = [
        decision.backup.name.to_string(),
        ByteSize(decision.backup.bytes).display().iec_short().to_string(),
        decision.verdict.word().to_owned(),
    ];
    (columns, decision.reasons.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_in_full_and_in_further_lines_on_a_terminal() {
        let reasons = ["61 days old", "before the last 7 days", "before the last 4 weeks", "another of its month"];
        let reasons: Vec<String> = reasons.map(str::to_owned).to_vec();
        let name = "postgres-backup-2026-11-23_02-00-00.sql.gz";
        let rows = || std::iter::once(([name, "13.0M", "delete"].map(str::to_owned), reasons.clone()));
        let in_full = of_rows(rows(), None);
        assert_eq!(in_full[1], format!("{name} 13.0M delete {}", reasons.join(", ")));
        let on_terminal = of_rows(rows(), Some(80));
        assert!(on_terminal.iter().all(|line| line.chars().count() <= 80), "{on_terminal:#?}");
        let words: Vec<&str> = on_terminal.iter().flat_map(|line| line.split_whitespace()).collect();
        assert_eq!(words.join(" "), format!("NAME SIZE PLAN WHY {name} 13.0M delete {}", reasons.join(", ")));
    }
}
