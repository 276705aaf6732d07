//! When schedules fire: tables over zones and years, and a property test against a scan of every minute.

use chrono::{Datelike as _, Offset as _, Timelike as _};
use proptest::prelude::*;

use super::*;

fn schedule(text: &str, zone: Tz) -> Schedule {
    Schedule::parse(text, zone).unwrap_or_else(|why| panic!("{why}"))
}

fn utc(text: &str) -> DateTime<Utc> {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S"));
    time.expect("a time").and_utc()
}

/// The ticks after a time in UTC, on the zone's wall clock with its offset.
fn ticks(text: &str, zone: Tz, after: &str, count: usize) -> Vec<String> {
    let schedule = schedule(text, zone);
    let ticks = std::iter::successors(schedule.next_after(utc(after)), |tick| schedule.next_after(*tick));
    ticks.take(count).map(|tick| tick.with_timezone(&zone).format("%m-%d %H:%M%:z").to_string()).collect()
}

#[test]
fn skipped_time_runs_once_after_the_change() {
    for (text, zone, after, wanted) in [
        // Europe: 2026-03-29 02:00 becomes 03:00.
        (
            "30 2 * * *",
            Tz::Europe__Berlin,
            "2026-03-27 12:00",
            ["03-28 02:30+01:00", "03-29 03:00+02:00", "03-30 02:30+02:00"],
        ),
        // Several skipped times, and one at the end of the gap, are one run.
        (
            "0,30 2,3 * * *",
            Tz::Europe__Berlin,
            "2026-03-28 12:00",
            ["03-29 03:00+02:00", "03-29 03:30+02:00", "03-30 02:00+02:00"],
        ),
        // Lord Howe moves its clocks by half an hour: 2026-10-04 02:00 becomes 02:30.
        (
            "15 2 * * *",
            Tz::Australia__Lord_Howe,
            "2026-10-02 00:00",
            ["10-03 02:15+10:30", "10-04 02:30+11:00", "10-05 02:15+11:00"],
        ),
        // A zone that changes at midnight: 2022-03-27 00:00 becomes 01:00 in Beirut.
        (
            "@daily",
            Tz::Asia__Beirut,
            "2022-03-25 12:00",
            ["03-26 00:00+02:00", "03-27 01:00+03:00", "03-28 00:00+03:00"],
        ),
        // Samoa left out all of 2011-12-30.
        (
            "0 2 * * *",
            Tz::Pacific__Apia,
            "2011-12-29 10:00",
            ["12-29 02:00-10:00", "12-31 00:00+14:00", "12-31 02:00+14:00"],
        ),
    ] {
        assert_eq!(ticks(text, zone, after, 3), wanted, "{text} in {zone}");
    }
}

#[test]
fn repeated_time_runs_the_first_time_only() {
    for (text, zone, after, wanted) in [
        // Europe: 2026-10-25 03:00 becomes 02:00.
        (
            "30 2 * * *",
            Tz::Europe__Berlin,
            "2026-10-24 12:00",
            ["10-25 02:30+02:00", "10-26 02:30+01:00", "10-27 02:30+01:00"],
        ),
        // croner itself fires 02:15 of an hour list twice.
        (
            "15 2,3 * * *",
            Tz::Europe__Berlin,
            "2026-10-24 12:00",
            ["10-25 02:15+02:00", "10-25 03:15+01:00", "10-26 02:15+01:00"],
        ),
        (
            "*/30 2 * * *",
            Tz::Europe__Berlin,
            "2026-10-24 12:00",
            ["10-25 02:00+02:00", "10-25 02:30+02:00", "10-26 02:00+01:00"],
        ),
        // From the repeated hour, the next is after it.
        (
            "45 2 * * *",
            Tz::Europe__Berlin,
            "2026-10-25 01:10",
            ["10-26 02:45+01:00", "10-27 02:45+01:00", "10-28 02:45+01:00"],
        ),
        // Lord Howe: 2026-04-05 02:00 becomes 01:30.
        (
            "45 1 * * *",
            Tz::Australia__Lord_Howe,
            "2026-04-04 00:00",
            ["04-05 01:45+11:00", "04-06 01:45+10:30", "04-07 01:45+10:30"],
        ),
        // New York: 2026-11-01 02:00 becomes 01:00.
        (
            "0 1 * * *",
            Tz::America__New_York,
            "2026-10-31 12:00",
            ["11-01 01:00-04:00", "11-02 01:00-05:00", "11-03 01:00-05:00"],
        ),
    ] {
        assert_eq!(ticks(text, zone, after, 3), wanted, "{text} in {zone}");
    }
}

#[test]
fn hour_star_fires_every_real_hour() {
    assert_eq!(
        ticks("@hourly", Tz::Europe__Berlin, "2026-10-24 23:30", 4),
        ["10-25 02:00+02:00", "10-25 02:00+01:00", "10-25 03:00+01:00", "10-25 04:00+01:00"]
    );
    assert_eq!(
        ticks("30 * * * *", Tz::Europe__Berlin, "2026-03-29 00:00", 3),
        ["03-29 01:30+01:00", "03-29 03:30+02:00", "03-29 04:30+02:00"]
    );
    assert_eq!(
        ticks("0,45 * * * *", Tz::Australia__Lord_Howe, "2026-04-04 14:10", 4),
        ["04-05 01:45+11:00", "04-05 01:45+10:30", "04-05 02:00+10:30", "04-05 02:45+10:30"]
    );
}

#[test]
fn handles_month_ends_and_leap_days() {
    for (text, after, wanted) in [
        ("0 0 29 2 *", "2026-01-01 00:00", ["02-29 00:00+00:00", "02-29 00:00+00:00", "02-29 00:00+00:00"]),
        ("0 0 31 * *", "2026-01-31 00:00", ["03-31 00:00+00:00", "05-31 00:00+00:00", "07-31 00:00+00:00"]),
        ("@monthly", "2026-11-30 12:00", ["12-01 00:00+00:00", "01-01 00:00+00:00", "02-01 00:00+00:00"]),
        ("@weekly", "2026-12-22 00:00", ["12-27 00:00+00:00", "01-03 00:00+00:00", "01-10 00:00+00:00"]),
        ("@yearly", "2026-12-31 23:59", ["01-01 00:00+00:00", "01-01 00:00+00:00", "01-01 00:00+00:00"]),
        ("59 23 31 12 *", "2026-12-31 23:58", ["12-31 23:59+00:00", "12-31 23:59+00:00", "12-31 23:59+00:00"]),
        ("0 0 L * *", "2028-01-31 00:00", ["02-29 00:00+00:00", "03-31 00:00+00:00", "04-30 00:00+00:00"]),
        // Either of two lists of days, but both if one starts with a star.
        ("0 0 13 * FRI", "2026-11-10 00:00", ["11-13 00:00+00:00", "11-20 00:00+00:00", "11-27 00:00+00:00"]),
        ("0 0 */2 * MON", "2026-11-01 00:00", ["11-09 00:00+00:00", "11-23 00:00+00:00", "12-07 00:00+00:00"]),
    ] {
        assert_eq!(ticks(text, Tz::UTC, after, 3), wanted, "{text}");
    }
    let leap = schedule("0 0 29 2 *", Tz::UTC);
    // 2100 is no leap year.
    assert_eq!(leap.next_after(utc("2096-03-01 00:00")), Some(utc("2104-02-29 00:00")));
}

#[test]
fn accepts_leading_seconds() {
    let schedule = schedule("*/20 * * * * *", Tz::Europe__Berlin);
    let next = |text| schedule.next_after(utc(text)).expect("a tick");
    assert_eq!(next("2026-10-25 00:59:50"), utc("2026-10-25 01:00:00"));
    assert_eq!(next("2026-10-25 01:00:00"), utc("2026-10-25 01:00:20"));
    assert_eq!(next("2026-03-29 00:59:59"), utc("2026-03-29 01:00:00"));
}

#[test]
fn rejects_invalid_and_never_firing_expressions() {
    for wrong in [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "0 24 * * *",
        "0 2 * * XYZ",
        "0 2 32 * *",
        "@fortnightly",
        "@reboot",
        "daily",
        "every day",
        "0 2 * * *; rm",
    ] {
        let why = Schedule::parse(wrong, Tz::UTC).expect_err(wrong);
        assert!(!why.is_empty());
    }
    let why = Schedule::parse("0 2 * *", Tz::UTC).expect_err("four fields");
    assert!(why.contains("it has 4 fields, not 5 (minute, hour,"), "{why}");
    for never in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        let why = Schedule::parse(never, Tz::UTC).expect_err(never);
        assert!(why.contains("never fires"), "{why}");
    }
    for right in ["0 2 * * *", " 0 2 * * * ", "@DAILY", "0 2 * * mon-fri", "*/15 * * * *", "0 0 2 * * *", "0 0 * * 7"] {
        assert!(Schedule::parse(right, Tz::UTC).is_ok(), "{right}");
    }
}

#[test]
fn last_until_finds_previous_time() {
    let daily = schedule("30 2 * * *", Tz::Europe__Berlin);
    assert_eq!(daily.last_until(utc("2026-10-25 00:30")), Some(utc("2026-10-25 00:30")));
    // 02:30 again.
    assert_eq!(daily.last_until(utc("2026-10-25 01:30")), Some(utc("2026-10-25 00:30")));
    assert_eq!(daily.last_until(utc("2026-10-25 00:29")), Some(utc("2026-10-24 00:30")));
    let leap = schedule("0 0 29 2 1", Tz::UTC);
    assert!(leap.last_until(utc("2026-01-01 00:00")).is_some());
    assert_eq!(schedule("@yearly", Tz::UTC).last_until(utc("2026-11-24 00:00")), Some(utc("2026-01-01 00:00")));
}

const ZONES: &[Tz] = &[
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::America__St_Johns,
    Tz::America__Sao_Paulo,
    Tz::Australia__Lord_Howe,
    Tz::Asia__Kathmandu,
    Tz::Asia__Beirut,
    Tz::Africa__Casablanca,
    Tz::Pacific__Apia,
    Tz::Pacific__Chatham,
    Tz::Antarctica__Troll,
];

/// Whether an expression matches a wall clock time.
fn shows(expression: &Expression, wall: NaiveDateTime) -> bool {
    let fits = |list: &[u32], value: u32| list.is_empty() || list.contains(&value);
    let weekday = wall.weekday().num_days_from_sunday();
    let (day, month) = (fits(&expression.days, wall.day()), fits(&expression.months, wall.month()));
    let is_day = match (expression.days.is_empty(), expression.weekdays.is_empty()) {
        (false, false) => day || fits(&expression.weekdays, weekday),
        _ => day && fits(&expression.weekdays, weekday),
    };
    wall.second() == 0
        && fits(&expression.minutes, wall.minute())
        && fits(&expression.hours, wall.hour())
        && month
        && is_day
}

/// The fields as lists; an empty one is `*`.
#[derive(Clone, Debug)]
struct Expression {
    minutes: Vec<u32>,
    hours: Vec<u32>,
    days: Vec<u32>,
    months: Vec<u32>,
    weekdays: Vec<u32>,
}

impl Expression {
    fn text(&self) -> String {
        let field = |list: &[u32]| match list {
            [] => "*".to_owned(),
            list => list.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        };
        [&self.minutes, &self.hours, &self.days, &self.months, &self.weekdays].map(|list| field(list)).join(" ")
    }
}

fn expressions() -> impl Strategy<Value = Expression> {
    let list = |low, high, most| prop::collection::vec(low..=high, 0..=most);
    let lists = (list(0u32, 59, 3), list(0u32, 23, 4), list(1u32, 28, 2), list(1u32, 12, 2), list(0u32, 6, 2));
    lists.prop_map(|(minutes, hours, days, months, weekdays)| Expression { minutes, hours, days, months, weekdays })
}

/// Every tick in some days, minute by minute, by the definition.
fn scanned(expression: &Expression, zone: Tz, from: DateTime<Utc>, days: i64) -> Vec<DateTime<Utc>> {
    let minute = TimeDelta::minutes(1);
    let wall = |time: DateTime<Utc>| time.with_timezone(&zone).naive_local();
    let mut ticks = Vec::new();
    // The latest time that the wall clock has shown, from before any repeated time.
    let mut latest = wall(from - TimeDelta::days(2));
    let mut before = from - TimeDelta::days(2);
    for step in 1..=(days + 2) * 24 * 60 {
        let now = from - TimeDelta::days(2) + minute * i32::try_from(step).expect("few");
        let shown = wall(now);
        let is_hit = if expression.hours.is_empty() {
            shows(expression, shown)
        } else {
            // Every time since the last new one, including this one.
            let mut passed = std::iter::successors(Some(latest + minute), |time| Some(*time + minute));
            passed.by_ref().take_while(|time| *time <= shown).any(|time| shows(expression, time))
        };
        latest = latest.max(shown);
        if is_hit && now > from {
            ticks.push(now);
        }
        before = now;
    }
    assert!(before >= from);
    ticks
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn ticks_match_scan_of_every_minute(
        expression in expressions(),
        zone in prop::sample::select(ZONES),
        // Minutes from 2008 to 2032; half of the cases are at a change of the clock.
        minutes in 20_000_000i64..32_600_000,
        at_a_change in any::<bool>(),
    ) {
        const DAYS: i64 = 9;
        let mut from = DateTime::from_timestamp(minutes * 60, 0).expect("in range");
        let schedule = match Schedule::parse(&expression.text(), zone) {
            Ok(schedule) => schedule,
            // 30 February and its like cannot be made of days up to 28.
            Err(why) => return Err(TestCaseError::fail(why)),
        };
        let offset = |time: &DateTime<Utc>| time.with_timezone(&zone).offset().fix();
        let half_days = (1..800).map(|count| from + TimeDelta::hours(12) * count);
        if at_a_change && let Some(change) = half_days.into_iter().find(|time| offset(time) != offset(&from)) {
            from = change - TimeDelta::days(2);
        }
        let until = from + TimeDelta::days(DAYS);
        let ticks = std::iter::successors(schedule.next_after(from), |tick| schedule.next_after(*tick));
        let ticks: Vec<DateTime<Utc>> = ticks.take_while(|tick| *tick <= until).collect();
        prop_assert!(ticks.is_sorted_by(|one, next| one < next), "{ticks:?}");
        prop_assert_eq!(&ticks, &scanned(&expression, zone, from, DAYS), "{} in {}", expression.text(), zone);
        if let Some(last) = ticks.last() {
            prop_assert_eq!(schedule.last_until(until), Some(*last));
        }
    }
}

#[test]
fn reads_or_explains_expressions_of_other_schedulers() {
    for (text, instead) in [
        ("@every 6h", "`0 */6 * * *`"),
        ("@every 15m", "`*/15 * * * *`"),
        ("@every 24h", "`@daily`"),
        ("@every 7h", "times of the clock"),
        ("@reboot", "--run-on-start"),
        ("TZ=Europe/Rome 0 2 * * *", "write `0 2 * * *`, and set BACKUP_TIMEZONE to Europe/Rome"),
        ("CRON_TZ=Europe/Rome 0 2 * * *", "set BACKUP_TIMEZONE to Europe/Rome"),
        ("*/90 * * * *", "`*/90` is not a step"),
        ("0 0-23/24 * * *", "hour"),
        ("0 0 31 2 *", "never fires"),
        ("@fortnightly", "@weekly"),
    ] {
        let why = Schedule::parse(text, Tz::UTC).expect_err(text);
        assert!(why.contains(instead) && !why.contains('\n'), "{text}: {why}");
    }
    // 2026-03-01 is a Sunday.
    for (text, days) in [
        ("0 2 ? * MON", ["03-02", "03-09"]),
        ("0 2 10 * ?", ["03-10", "04-10"]),
        ("0 2 * * 7", ["03-01", "03-08"]),
        ("0 2 * * SUN", ["03-01", "03-08"]),
        ("0 2 * * 1-5", ["03-02", "03-03"]),
        ("0 2 3 * 1", ["03-02", "03-03"]),
        ("0 2 L * *", ["03-31", "04-30"]),
        ("*/45 2 1 * *", ["03-01", "03-01"]),
    ] {
        let ticks = ticks(text, Tz::UTC, "2026-03-01 00:00", 2);
        let found: Vec<&str> = ticks.iter().filter_map(|tick| tick.split(' ').next()).collect();
        assert_eq!(found, days, "{text}");
    }
}
