//! The faults of the proxy: which requests ([`Rule`], [`Calls`]) get which [`Fault`]. Plain data, used by the tests
//! and read by [`super::plan`].

use std::time::Duration;

use super::desk::Seen;
use super::verb::S3Verb;

/// A fault for some requests. The proxy applies the first rule that matches a request.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) verb: Option<S3Verb>,
    pub(super) key_suffix: Option<String>,
    pub(super) header: Option<(String, String)>,
    pub(super) calls: Calls,
    pub(super) fault: Fault,
}

impl Rule {
    /// A fault for some calls of one verb.
    pub fn on(verb: S3Verb, calls: Calls, fault: Fault) -> Self {
        Self { verb: Some(verb), key_suffix: None, header: None, calls, fault }
    }

    /// A fault for some requests whatever their verb; they are counted together.
    pub fn any(calls: Calls, fault: Fault) -> Self {
        Self { verb: None, key_suffix: None, header: None, calls, fault }
    }

    /// Only requests with a (decoded) key that ends like this; only they are counted for this rule.
    #[must_use]
    pub fn key_suffix(mut self, suffix: &str) -> Self {
        self.key_suffix = Some(suffix.to_owned());
        self
    }

    /// Only requests with this header (its name in lower case) and this text in its value; only they are counted for
    /// this rule.
    #[must_use]
    pub fn header(mut self, name: &str, part: &str) -> Self {
        self.header = Some((name.to_owned(), part.to_owned()));
        self
    }

    pub(super) fn concerns(&self, seen: &Seen) -> bool {
        self.verb.is_none_or(|wanted| wanted == seen.verb)
            && self.key_suffix.as_deref().is_none_or(|suffix| seen.key().ends_with(suffix))
            && self
                .header
                .as_ref()
                .is_none_or(|(name, part)| seen.header(name).is_some_and(|value| value.contains(part)))
    }
}

/// Which of the requests that a rule concerns get its fault. Counted from 1, since the proxy started or since
/// `reset_counts`, also those that came before the rule was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Only the n-th.
    Nth(usize),
    /// The n-th and all after it.
    From(usize),
    /// Each one.
    All,
    /// The first n.
    First(usize),
    /// The n-th, the 2n-th, the 3n-th …
    EveryNth(usize),
    /// So many in a thousand, drawn by the call's number and a seed: the same ones each time.
    Drawn {
        /// Which ones.
        seed: u64,
        /// How many.
        per_mille: u64,
    },
}

impl Calls {
    pub(super) fn include(self, call: usize) -> bool {
        match self {
            Self::Nth(n) => call == n,
            Self::From(n) => call >= n,
            Self::All => true,
            Self::First(n) => call <= n,
            Self::EveryNth(n) => n > 0 && call.is_multiple_of(n),
            Self::Drawn { seed, per_mille } => mixed(seed ^ call as u64) % 1_000 < per_mille,
        }
    }
}

/// Numbers that look random: the finaliser of `SplitMix64`.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Whether the S3 server gets the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The request is not forwarded: it has no effect.
    Before,
    /// The request is forwarded and its answer discarded: it took effect.
    After,
}

/// The point at which a connection is reset (a real RST).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetAt {
    /// After the request's head was read; nothing is forwarded.
    BeforeRequest,
    /// After half of the request's body was forwarded; the server's connection is reset too. Without a body: as `BeforeRequest`.
    InRequestBody,
    /// After the server answered; nothing of the answer is passed on.
    AfterEffect,
    /// After the answer's head and half of its body (half of its head, where it has no body).
    InAnswer,
}

/// The point at which a connection stalls. It stays open until the client closes it or the proxy is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallAt {
    /// The request was forwarded and took effect; no answer.
    BeforeAnswer,
    /// The request was read and never forwarded; no answer.
    BeforeEffect,
    /// In the middle of the answer.
    DuringAnswer,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An S3 error answer, such as 503 `SlowDown`, 500 `InternalError`, 403 `AccessDenied`.
    Status {
        /// The HTTP status.
        code: u16,
        /// The `<Code>` of the XML body.
        s3_code: &'static str,
        /// Before or after the effect.
        when: When,
    },
    /// Status 200 with an `<Error>` `InternalError` body inside.
    OkWithError {
        /// Before or after the effect.
        when: When,
    },
    /// The connection is reset.
    Reset {
        /// At this point.
        at: ResetAt,
    },
    /// The connection stalls.
    Stall {
        /// At this point.
        at: StallAt,
    },
    /// Bodies pass at this rate in both directions. The client's kernel takes some MiB at once all the same; the answer comes late.
    Trickle {
        /// Bytes per second, of each body for itself.
        bytes_per_second: u64,
    },
    /// The answer's head and half of its body, then an orderly close (half of its head, where it has no body).
    TruncatedAnswer,
    /// The request takes effect; the answer is not HTTP.
    GarbageAnswer,
    /// Any answer at all. `Content-Length` is added; nothing else is.
    Reply {
        /// The HTTP status.
        status: u16,
        /// Names and values.
        headers: Vec<(String, String)>,
        /// The body (left out where HTTP forbids one).
        body: Vec<u8>,
        /// Before or after the effect.
        when: When,
    },
    /// The answer comes without this header.
    StripAnswerHeader(String),
    /// The answer comes with this header more.
    AddAnswerHeader(String, String),
    /// The answer comes with this value of this header.
    ReplaceAnswerHeader(String, String),
    /// The server gets the request without this header (a signed one makes the signature wrong).
    StripRequestHeader(String),
    /// The server gets the request with this header more.
    AddRequestHeader(String, String),
    /// The server gets the request without this header (in lower case), signed again, like a server that ignores it.
    IgnoreRequestHeader(String),
    /// The client gets no answer, and the server gets the request only this long after the client gave up: a Complete that takes
    /// effect late.
    Late {
        /// The delay.
        after: Duration,
    },
    /// The request waits for [`super::FaultProxy::release`], and is then forwarded.
    Hold,
    /// One byte in the middle of the request's body is flipped on its way (the first one, of a chunked body).
    CorruptBody,
    /// The same, and the server accepts it without verifying a checksum, as some do.
    CorruptUnchecked,
}

impl Fault {
    /// 503 `SlowDown`, not forwarded.
    pub fn slow_down() -> Self {
        Self::Status { code: 503, s3_code: "SlowDown", when: When::Before }
    }

    /// 500 `InternalError`.
    pub fn internal_error(when: When) -> Self {
        Self::Status { code: 500, s3_code: "InternalError", when }
    }

    /// A 404 of a load balancer without a backend: without an S3 error code.
    pub fn bare_404() -> Self {
        let headers = vec![("Content-Type".to_owned(), "text/plain".to_owned())];
        Self::Reply { status: 404, headers, body: b"default backend - 404".to_vec(), when: When::Before }
    }

    /// 403 `AccessDenied`, not forwarded.
    pub fn access_denied() -> Self {
        Self::Status { code: 403, s3_code: "AccessDenied", when: When::Before }
    }
}

#[cfg(test)]
mod tests {
    use super::Calls;

    #[test]
    fn calls_are_counted_from_one() {
        let among_six = |calls: Calls| (1..=6).filter(|&n| calls.include(n)).collect::<Vec<_>>();
        assert_eq!(among_six(Calls::Nth(2)), [2]);
        assert_eq!(among_six(Calls::From(5)), [5, 6]);
        assert_eq!(among_six(Calls::All).len(), 6);
        assert_eq!(among_six(Calls::First(2)), [1, 2]);
        assert_eq!(among_six(Calls::EveryNth(3)), [3, 6]);
    }

    #[test]
    fn calls_are_drawn_at_their_rate_and_always_the_same() {
        let drawn =
            |seed| (1..=100_000).filter(|&n| Calls::Drawn { seed, per_mille: 10 }.include(n)).collect::<Vec<_>>();
        let (once, again, other) = (drawn(1 << 32), drawn(1 << 32), drawn(2 << 32));
        assert!((900..1_100).contains(&once.len()), "{}", once.len());
        assert!(once == again && once != other);
    }
}
