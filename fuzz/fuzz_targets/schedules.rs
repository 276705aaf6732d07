//! Schedules: time only goes forward, each tick is found again from the next one, and none is skipped.
//!
//! Input: four bytes for the time, one for the zone, then the cron expression.
#![no_main]

use chrono::{DateTime, TimeDelta};
use chrono_tz::Tz;
use libfuzzer_sys::fuzz_target;
use pg_s3_backup::scheduler::Schedule;

const ZONES: [Tz; 6] = [
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::Africa__Casablanca,
    Tz::Asia__Kathmandu,
];

fuzz_target!(|input: &[u8]| {
    let [a, b, c, d, zone, text @ ..] = input else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(schedule) = Schedule::parse(text, ZONES[usize::from(*zone) % ZONES.len()]) else { return };
    // 1970 to 2038: all that the zones' changes are known for.
    let seconds = i64::from(u32::from_be_bytes([*a, *b, *c, *d]) >> 1);
    let mut time = DateTime::from_timestamp(seconds, 0).expect("in range");
    for _ in 0..3 {
        let Some(tick) = schedule.next_after(time) else { return };
        assert!(tick > time, "the next time of {text:?} after {time} is {tick}");
        // From anywhere between, the same one is next.
        let between = time + (tick - time) / 2;
        assert_eq!(schedule.next_after(between), Some(tick), "from {between}, {text:?}");
        assert_eq!(schedule.next_after(tick - TimeDelta::seconds(1)), Some(tick), "{text:?}");
        time = tick;
    }
});
