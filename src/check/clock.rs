//! Judges how far another machine's clock is from this one's.
//!
//! Used by `source` and `store`. This machine's clock gives a backup its time, and so its age. S3 refuses requests whose time
//! differs by more than 15 minutes.

use chrono::TimeDelta;

use super::result::Outcome;

/// More than a request's duration and the rounding of `Date`.
const NOTICED: TimeDelta = TimeDelta::minutes(1);
/// AWS, "Signature Version 4": the request's time must be within 15 minutes of the server's.
const REFUSED: TimeDelta = TimeDelta::minutes(15);
const HINT: &str = "let NTP set the clocks of both machines";

/// The other machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// S3, which refuses requests with a wrong time.
    S3,
    /// PostgreSQL, which refuses nothing.
    Postgres,
}

impl Clock {
    /// The outcome for a clock that is `ahead` of this machine's.
    pub fn judge(self, ahead: TimeDelta) -> Outcome {
        let name = match self {
            Self::S3 => "S3",
            Self::Postgres => "PostgreSQL",
        };
        let apart = ahead.abs();
        if apart <= NOTICED {
            return Outcome::ok(format!("within {} s of this machine's clock", NOTICED.num_seconds()));
        }
        let direction = if ahead < TimeDelta::zero() { "ahead of" } else { "behind" };
        let seconds = apart.num_seconds().unsigned_abs();
        let apart_text = humantime::format_duration(std::time::Duration::from_secs(seconds));
        let detail = format!("this machine's clock is {apart_text} {direction} that of {name}");
        if self == Self::S3 && apart > REFUSED { Outcome::fail(detail, HINT) } else { Outcome::warn(detail, HINT) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    #[test]
    fn judges_clock_differences() {
        for (clock, seconds, status) in [
            (Clock::S3, 59, Status::Ok),
            (Clock::S3, -59, Status::Ok),
            (Clock::S3, 61, Status::Warn),
            (Clock::S3, -900, Status::Warn),
            (Clock::S3, 901, Status::Fail),
            (Clock::Postgres, -90_000, Status::Warn),
        ] {
            assert_eq!(clock.judge(TimeDelta::seconds(seconds)).status, status, "{clock:?} {seconds}");
        }
        let detail = Clock::S3.judge(TimeDelta::seconds(-3600)).detail;
        assert_eq!(detail, "this machine's clock is 1h ahead of that of S3");
    }
}
