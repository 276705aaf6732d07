//! What to write instead of an expression that only other schedulers accept. Part of [`super`].

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Rejects an expression of another scheduler and says what to write instead.
pub(super) fn advice(text: &str) -> Option<String> {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if let Some((_, zone)) = first.split_once('=').filter(|(name, _)| matches!(*name, "TZ" | "CRON_TZ")) {
        let rest = rest.trim();
        return Some(format!("`{text}` has a time zone in it: write `{rest}`, and set BACKUP_TIMEZONE to {zone}"));
    }
    if first.eq_ignore_ascii_case("@every") {
        let period = humantime::parse_duration(rest.trim()).ok();
        let instead = period.and_then(every).unwrap_or_else(|| "0 */6 * * *".to_owned());
        return Some(format!("`{text}` is not a cron expression: write times of the clock, such as `{instead}`"));
    }
    if first.eq_ignore_ascii_case("@reboot") {
        return Some(format!("`{text}` is not a time: write one, such as `@daily`, and use --run-on-start"));
    }
    None
}

/// The expression for a period that divides an hour or a day.
fn every(period: Duration) -> Option<String> {
    match period.as_secs() {
        DAY => Some("@daily".to_owned()),
        HOUR => Some("@hourly".to_owned()),
        seconds if seconds > 0 && HOUR.is_multiple_of(seconds) && seconds.is_multiple_of(MINUTE) => {
            Some(format!("*/{} * * * *", seconds / MINUTE))
        }
        seconds if seconds > 0 && DAY.is_multiple_of(seconds) && seconds.is_multiple_of(HOUR) => {
            Some(format!("0 */{} * * *", seconds / HOUR))
        }
        _ => None,
    }
}

/// Rejects a step of at least its field's range: `*/90` minutes would fire each hour.
pub(super) fn idle_step(fields: &[&str]) -> Option<String> {
    // From the last field, because the first may be the second or the minute.
    const RANGES: [(&str, u32); 6] = [
        ("days a week", 7),
        ("months a year", 12),
        ("days a month", 31),
        ("hours a day", 24),
        ("minutes an hour", 60),
        ("seconds a minute", 60),
    ];
    let steps =
        fields.iter().rev().zip(RANGES).flat_map(|(field, range)| field.split(',').map(move |part| (part, range)));
    steps.into_iter().find_map(|(part, (unit, range))| {
        let step: u32 = part.split_once('/')?.1.parse().ok()?;
        let why = || format!("`{part}` is not a step, with {range} {unit}: name times, as in `0 0,6,12,18 * * *`");
        (step >= range).then(why)
    })
}
