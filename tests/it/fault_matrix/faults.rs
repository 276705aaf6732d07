//! The faults of one S3 answer: the columns of the fault matrix. Plain data, read by [`super::cell`].

use std::time::Duration;

use crate::support::proxy::{Fault, ResetAt, S3Verb, StallAt, When};

/// The effect of a fault on its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The request never takes effect.
    Lost,
    /// The request takes effect, and its answer is lost.
    Done,
    /// The request takes effect, and its answer comes late.
    Slow,
    /// The request succeeds, with an answer that some stores give.
    Odd,
}

/// A fault with its name in the table.
#[derive(Clone, Debug)]
pub struct Injection {
    /// The fault's name.
    pub name: &'static str,
    /// The effect on the request.
    pub effect: Effect,
    /// The proxy's action.
    pub fault: Fault,
    /// The log of a run that failed of it has one of these.
    pub signs: &'static [&'static str],
}

impl Injection {
    /// The status of an error answer; `None` if there is no complete answer.
    pub fn status(&self) -> Option<u16> {
        match self.fault {
            Fault::Status { code, .. } => Some(code),
            Fault::Reply { status, .. } => Some(status),
            _ => None,
        }
    }
}

/// Wrong, truncated and late answers that are possible for this verb.
pub fn answers(verb: S3Verb) -> Vec<Injection> {
    const BROKEN: &[&str] = &["NoConnection", "DamagedAnswer"];
    let status = |name, code, s3_code, effect, signs| {
        let when = if effect == Effect::Lost { When::Before } else { When::After };
        Injection { name, effect, fault: Fault::Status { code, s3_code, when }, signs }
    };
    let reset = |name, effect, at| Injection { name, effect, fault: Fault::Reset { at }, signs: BROKEN };
    let inside = |name, effect, when| Injection {
        name,
        effect,
        fault: Fault::OkWithError { when },
        signs: &["HTTP 200", "DamagedAnswer"],
    };
    let broken = |name, fault| Injection { name, effect: Effect::Done, fault, signs: BROKEN };
    let odd = |name, fault| Injection { name, effect: Effect::Odd, fault, signs: &[] };
    let etag = |etag: &str| Fault::ReplaceAnswerHeader("ETag".to_owned(), etag.to_owned());
    let all = vec![
        status("500", 500, "InternalError", Effect::Lost, &["HTTP 500"]),
        status("500 after the effect", 500, "InternalError", Effect::Done, &["HTTP 500"]),
        status("503 SlowDown", 503, "SlowDown", Effect::Lost, &["HTTP 503"]),
        status("429", 429, "TooManyRequests", Effect::Lost, &["HTTP 429"]),
        status("400 RequestTimeout", 400, "RequestTimeout", Effect::Lost, &["HTTP 400"]),
        status("403 RequestTimeTooSkewed", 403, "RequestTimeTooSkewed", Effect::Lost, &["HTTP 403"]),
        inside("200 with an error inside", Effect::Lost, When::Before),
        inside("200 with an error inside, after the effect", Effect::Done, When::After),
        reset("reset before the request", Effect::Lost, ResetAt::BeforeRequest),
        reset("reset in the request's body", Effect::Lost, ResetAt::InRequestBody),
        reset("reset after the effect", Effect::Done, ResetAt::AfterEffect),
        reset("reset in the answer", Effect::Done, ResetAt::InAnswer),
        broken("truncated answer", Fault::TruncatedAnswer),
        broken("garbage as answer", Fault::GarbageAnswer),
        Injection { name: "bare 404", effect: Effect::Lost, fault: Fault::bare_404(), signs: &["HTTP 404"] },
        odd("an ETag like Google's", etag("\"-CKicn4fknbUCEAE=\"")),
        odd("an ETag like Azure's", etag("\"0x8DD3F4A5F0B2C1E-1\"")),
        odd("an ETag of another object", etag("\"0123456789abcdef0123456789abcdef-1\"")),
        odd("no Content-Length", Fault::StripAnswerHeader("Content-Length".to_owned())),
        Injection { name: "trickle", effect: Effect::Slow, fault: trickle(verb), signs: &[] },
    ];
    all.into_iter().filter(|injection| is_possible(verb, &injection.fault)).collect()
}

/// Connections that stall, and a Complete that takes effect after the client gave up.
pub fn stalls(verb: S3Verb) -> Vec<Injection> {
    let stall = |name, effect, at| Injection {
        name,
        effect,
        fault: Fault::Stall { at },
        signs: &["Timeout", "NoConnection", "DamagedAnswer", "no answer in time"],
    };
    let late = Fault::Late { after: Duration::from_secs(2) };
    let late =
        Injection { name: "takes effect 2 s after the client gave up", effect: Effect::Slow, fault: late, signs: &[] };
    let mut all = vec![
        stall("stall before the effect", Effect::Lost, StallAt::BeforeEffect),
        stall("stall before the answer", Effect::Done, StallAt::BeforeAnswer),
        stall("stall during the answer", Effect::Done, StallAt::DuringAnswer),
    ];
    all.extend((verb == S3Verb::CompleteMultipartUpload).then_some(late));
    all
}

/// About half a second for the body of this verb.
fn trickle(verb: S3Verb) -> Fault {
    let bytes_per_second = match verb {
        S3Verb::UploadPart => 10 << 20,
        S3Verb::CreateMultipartUpload | S3Verb::CompleteMultipartUpload => 1 << 10,
        _ => 4 << 10,
    };
    Fault::Trickle { bytes_per_second }
}

/// Whether the fault is possible for the requests and answers of this verb.
fn is_possible(verb: S3Verb, fault: &Fault) -> bool {
    let sends_body = matches!(verb, S3Verb::UploadPart | S3Verb::CompleteMultipartUpload | S3Verb::PutObject);
    let has_no_answer = matches!(verb, S3Verb::HeadObject | S3Verb::DeleteObject | S3Verb::AbortMultipartUpload);
    match fault {
        Fault::Reset { at: ResetAt::InRequestBody } => sends_body,
        Fault::Trickle { .. } => !has_no_answer,
        // An answer to HEAD has no body that could have an error, and S3's own 404 has none either.
        Fault::OkWithError { .. } | Fault::Reply { .. } => verb != S3Verb::HeadObject,
        Fault::ReplaceAnswerHeader(..) | Fault::StripAnswerHeader(_) => verb == S3Verb::HeadObject,
        _ => true,
    }
}
