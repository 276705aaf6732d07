//! Times, durations, sizes and names as the page writes them.

use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use crate::archive::manifest::time_text;
use crate::printable::printable;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A size for people, with its bytes for machines.
pub(super) fn size(bytes: u64) -> Markup {
    html! { data value=(bytes) { (bytes_text(bytes)) } }
}

/// A size for people.
pub(super) fn bytes_text(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// A point in time, in UTC as the names of the backups.
pub(super) fn time(time: DateTime<Utc>) -> Markup {
    html! { time datetime=(time_text(time)) { (minute(time)) " UTC" } }
}

/// A point in time to the minute.
pub(super) fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M").to_string()
}

/// A span of time in one unit: `12 s`, `75 min`, `21 h`, `5 days`.
pub(super) fn span(span: TimeDelta) -> String {
    let seconds = span.num_seconds().max(0);
    match seconds {
        ..MINUTE => format!("{seconds} s"),
        MINUTE..5400 => format!("{} min", seconds / MINUTE),
        5400..172_800 => format!("{} h", (seconds + HOUR / 2) / HOUR),
        _ => format!("{} days", (seconds + DAY / 2) / DAY),
    }
}

/// How long ago a time is.
pub(super) fn ago(time: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    html! { time datetime=(time_text(time)) title=(time_text(time)) { (span(now - time)) " ago" } }
}

/// How far ahead a time is.
pub(super) fn ahead(time: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    html! { time datetime=(time_text(time)) title=(time_text(time)) { (span(time - now)) } }
}

/// A duration in seconds, in two units: `45 s`, `3 min 12 s`, `2 h 5 min`.
#[expect(clippy::cast_possible_truncation, reason = "seconds of a run")]
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.round().max(0.0) as i64;
    match seconds {
        ..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min {} s", seconds / MINUTE, seconds % MINUTE),
        _ => format!("{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE),
    }
}

/// A name of others, which may read from right to left: what is next to it keeps its order. Invisible letters are escaped.
pub(super) fn name(name: &str) -> Markup {
    html! { bdi { (printable(name)) } }
}

/// What is not known.
pub(super) fn unknown() -> Markup {
    html! { span.muted { "–" } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_one_unit() {
        let of = |seconds| span(TimeDelta::seconds(seconds));
        assert_eq!(
            [0, 59, 60, 5399, 5400, 172_799, 172_800].map(of),
            ["0 s", "59 s", "1 min", "89 min", "2 h", "48 h", "2 days"]
        );
        assert_eq!(of(-5), "0 s", "clocks differ");
        assert_eq!([0.4, 192.0, 7_500.0].map(duration), ["0 s", "3 min 12 s", "2 h 5 min"]);
    }

    #[test]
    fn names_stay_text() {
        assert_eq!(name("<script>\"\u{202e}x").into_string(), "<bdi>&lt;script&gt;&quot;\\u{202e}x</bdi>");
        assert_eq!(name("\u{5d0}\u{5d1}").into_string(), "<bdi>\u{5d0}\u{5d1}</bdi>");
    }
}
