//! Turns a [`Fault`] into what [`super::relay`] does: with the request, with the answer, and at the end.

use super::http::{RequestHead, has_no_body, header};
use super::rules::{Fault, ResetAt, StallAt, When};

/// The three stages of one exchange.
#[derive(Debug)]
pub struct Plan {
    pub request: RequestPlan,
    pub answer: AnswerPlan,
    pub ending: Ending,
}

/// What happens to the request.
#[derive(Debug)]
pub enum RequestPlan {
    /// It goes to the server, shaped.
    Forward(Shaping),
    /// Its body is read and thrown away.
    Drain,
    /// It is read, and goes to the server once the client is gone.
    Keep,
    /// Its body is not even read.
    Ignore,
}

/// What happens to the server's answer.
#[derive(Debug, PartialEq, Eq)]
pub enum AnswerPlan {
    /// It goes to the client, shaped.
    Relay(Edit),
    /// Its head and half of its body go to the client.
    RelayHalf,
    /// It is read and thrown away.
    Discard,
}

/// How the exchange ends for the client.
#[derive(Debug)]
pub enum Ending {
    /// With the answer as it was relayed.
    AsRelayed,
    /// With this answer, made here.
    Answer(CannedAnswer),
    /// With bytes that are no HTTP, and a close.
    Garbage,
    /// With a RST.
    Reset,
    /// With silence.
    Stall,
    /// With an orderly close.
    Close,
}

/// Changes to a body on its way to the server, and to the head before it.
#[derive(Debug, Default)]
pub struct Shaping {
    pub edit: Edit,
    /// Payload byte to flip.
    pub flip_at: Option<u64>,
    /// Payload bytes after which forwarding ends.
    pub stop_after: Option<u64>,
}

/// A change to a head.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Edit {
    /// None: byte for byte.
    #[default]
    Nothing,
    /// The header of this name goes.
    Strip(String),
    /// This header comes.
    Add(String, String),
    /// The header of this name goes, and comes with this value.
    Replace(String, String),
}

/// An answer made by the proxy.
#[derive(Debug)]
pub struct CannedAnswer {
    pub status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Plan {
    /// What to do with this request; `None` is the plain way through.
    pub fn of(fault: Option<&Fault>, request: &RequestHead) -> Self {
        let Some(fault) = fault else {
            return Self::through();
        };
        match fault {
            Fault::Status { code, s3_code, when } => Self::answer(*when, CannedAnswer::s3_error(*code, s3_code)),
            Fault::OkWithError { when } => Self::answer(*when, CannedAnswer::s3_error(200, "InternalError")),
            Fault::Reply { status, headers, body, when } => {
                let answer = CannedAnswer { status: *status, headers: headers.clone(), body: body.clone() };
                Self::answer(*when, answer)
            }
            Fault::Reset { at } => Self::reset(*at, request),
            Fault::Stall { at } => Self::stall(*at),
            Fault::TruncatedAnswer => Self::forward(AnswerPlan::RelayHalf, Ending::Close),
            Fault::GarbageAnswer => Self::forward(AnswerPlan::Discard, Ending::Garbage),
            // What is special about these is done before and around it.
            Fault::Trickle { .. } | Fault::IgnoreRequestHeader(_) | Fault::Hold => Self::through(),
            Fault::Late { .. } => Self::without_server(RequestPlan::Keep, Ending::Stall),
            Fault::StripAnswerHeader(name) => Self::relay(Edit::Strip(name.clone())),
            Fault::AddAnswerHeader(name, value) => Self::relay(Edit::Add(name.clone(), value.clone())),
            Fault::ReplaceAnswerHeader(name, value) => Self::relay(Edit::Replace(name.clone(), value.clone())),
            Fault::StripRequestHeader(name) => Self::edited(Edit::Strip(name.clone())),
            Fault::AddRequestHeader(name, value) => Self::edited(Edit::Add(name.clone(), value.clone())),
            Fault::CorruptBody | Fault::CorruptUnchecked => {
                Self::shaped(Shaping { flip_at: Some(half_of_body(request)), ..Shaping::default() })
            }
        }
    }

    fn through() -> Self {
        Self::shaped(Shaping::default())
    }

    fn edited(edit: Edit) -> Self {
        Self::shaped(Shaping { edit, ..Shaping::default() })
    }

    fn shaped(shaping: Shaping) -> Self {
        let answer = AnswerPlan::Relay(Edit::Nothing);
        Self { request: RequestPlan::Forward(shaping), answer, ending: Ending::AsRelayed }
    }

    fn relay(edit: Edit) -> Self {
        Self::forward(AnswerPlan::Relay(edit), Ending::AsRelayed)
    }

    fn forward(answer: AnswerPlan, ending: Ending) -> Self {
        Self { request: RequestPlan::Forward(Shaping::default()), answer, ending }
    }

    fn without_server(request: RequestPlan, ending: Ending) -> Self {
        Self { request, answer: AnswerPlan::Discard, ending }
    }

    fn answer(when: When, answer: CannedAnswer) -> Self {
        match when {
            When::Before => Self::without_server(RequestPlan::Drain, Ending::Answer(answer)),
            When::After => Self::forward(AnswerPlan::Discard, Ending::Answer(answer)),
        }
    }

    fn stall(at: StallAt) -> Self {
        match at {
            StallAt::BeforeEffect => Self::without_server(RequestPlan::Drain, Ending::Stall),
            StallAt::BeforeAnswer => Self::forward(AnswerPlan::Discard, Ending::Stall),
            StallAt::DuringAnswer => Self::forward(AnswerPlan::RelayHalf, Ending::Stall),
        }
    }

    fn reset(at: ResetAt, request: &RequestHead) -> Self {
        let has_body = half_of_body(request) > 0 || header(&request.headers, "transfer-encoding").is_some();
        match at {
            ResetAt::InRequestBody if has_body => {
                let stop_after = Some(half_of_body(request));
                let shaping = Shaping { stop_after, ..Shaping::default() };
                Self { request: RequestPlan::Forward(shaping), answer: AnswerPlan::Discard, ending: Ending::Reset }
            }
            ResetAt::BeforeRequest | ResetAt::InRequestBody => Self::without_server(RequestPlan::Ignore, Ending::Reset),
            ResetAt::AfterEffect => Self::forward(AnswerPlan::Discard, Ending::Reset),
            ResetAt::InAnswer => Self::forward(AnswerPlan::RelayHalf, Ending::Reset),
        }
    }
}

impl Edit {
    /// The head with this change made to it.
    pub fn apply(&self, head: &[u8]) -> Vec<u8> {
        match self {
            Self::Nothing => head.to_vec(),
            Self::Strip(name) => {
                let named = |line: &&[u8]| {
                    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
                        && line.get(name.len()) == Some(&b':')
                };
                let lines = head.split_inclusive(|&byte| byte == b'\n').filter(|line| !named(line));
                lines.flatten().copied().collect()
            }
            Self::Replace(name, value) => {
                Self::Add(name.clone(), value.clone()).apply(&Self::Strip(name.clone()).apply(head))
            }
            Self::Add(name, value) => {
                let mut changed = head[..head.len() - 2].to_vec();
                changed.extend_from_slice(format!("{name}: {value}\r\n\r\n").as_bytes());
                changed
            }
        }
    }
}

impl CannedAnswer {
    /// An error as S3 words it.
    fn s3_error(status: u16, s3_code: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{s3_code}</Code><Message>made by the test's fault \
             proxy</Message><Resource>/</Resource><RequestId>FAULTPROXY</RequestId><HostId>fault-proxy</HostId></Error>"
        );
        let headers = [("Content-Type", "application/xml"), ("x-amz-request-id", "FAULTPROXY")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { status, headers, body: body.into_bytes() }
    }

    /// The bytes of this answer to a request of that method.
    pub fn render(&self, method: &str) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !has_no_body(self.status) {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        if method != "HEAD" && !has_no_body(self.status) {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// Half of a body of known length; 0 where it is chunked or absent.
fn half_of_body(request: &RequestHead) -> u64 {
    header(&request.headers, "content-length")
        .and_then(|value| value.parse::<u64>().ok())
        .map_or(0, |length| length / 2)
}

/// Clients only look at the number; this is for people who read a log.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        412 => "Precondition Failed",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Fault",
    }
}
