//! Imitates another S3 server: its differences from the server behind the proxy. Plain data ([`Habit`]), passed to
//! [`super::FaultProxy::speak`]; all habits hold for every request. Used by [`super::desk`] (what is refused, what the server
//! gets) and by [`super::relay`] (what is answered).

use super::desk::Seen;
use super::http::{AnswerHead, Headers, RequestHead, header};
use super::rules::{Fault, When};
use super::session::{readdressed, signed_anew};
use super::verb::{S3Verb, parameter, split_target};
use super::xml;

/// A difference of an S3 server.
#[derive(Clone, Copy, Debug)]
pub enum Habit {
    /// Takes no request of this verb (of any where none is named) that has this header (its name in lower case) with this text in it.
    Refuses {
        /// The verb.
        verb: Option<S3Verb>,
        /// The header.
        header: &'static str,
        /// The text.
        part: &'static str,
        /// The HTTP status.
        status: u16,
        /// The `<Code>`; none at all where it is empty.
        code: &'static str,
    },
    /// Ignores these headers (in lower case) of requests.
    Ignores(&'static [&'static str]),
    /// Answers this verb without this header. A GET then comes in chunks.
    Hides(S3Verb, &'static str),
    /// Takes metadata under names that are identifiers only: else 400, without a code.
    MetadataIsIdentifiers,
    /// Objects of several parts have this ETag.
    Etag(Etag),
    /// The answer to Complete begins with white space.
    Spaces,
    /// Lists open uploads like this.
    Uploads(Uploads),
    /// Lists objects in another order, the last key first; `start-after` means that order.
    Unordered,
    /// Accepts so many parts at most.
    MostParts(u32),
    /// Refuses Complete if parts other than the last have different sizes.
    EqualParts,
    /// The host name has the bucket before this domain. Path style is 403 with this code.
    VirtualHosts(&'static str, &'static str),
    /// S3 is below this path, and signatures include it.
    Below(&'static str),
    /// The first Complete ends in a 504, and takes effect when it was looked for this often; meanwhile a second one is 500.
    LateComplete(usize),
    /// A second Complete of the same upload is answered with 200 and an empty ETag.
    RepeatedCompleteIsFine,
}

/// The ETag of an object of several parts.
#[derive(Clone, Copy, Debug)]
pub enum Etag {
    /// Always this one.
    Is(&'static str),
    /// The usual one in capitals.
    Capitals,
}

/// How open uploads are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploads {
    /// For a prefix that is a complete key.
    OfExactKey,
    /// For a prefix that ends with a slash, the last one first, without a marker of the upload.
    OfFolder,
    /// Without the time at which they were started.
    WithoutTime,
    /// As ones that were started long ago.
    Old,
}

/// All habits of a store.
#[derive(Clone, Debug, Default)]
pub struct Dialect(Vec<Habit>);

impl Dialect {
    /// A store with these habits.
    pub fn new(habits: &[Habit]) -> Self {
        Self(habits.to_vec())
    }

    /// The request at the address that the server has; one at another address, or wrongly signed, stays as it is.
    pub fn localized(&self, request: RequestHead, server: &str) -> RequestHead {
        let target = |habit: &Habit| {
            let host = header(&request.headers, "host").unwrap_or_default();
            let (path, query) = split_target(&request.target);
            let path = match habit {
                Habit::VirtualHosts(domain, _) => {
                    format!("/{}{path}", host.split(':').next()?.strip_suffix(domain)?.strip_suffix('.')?)
                }
                Habit::Below(above) => path.strip_prefix(above).filter(|path| path.starts_with('/'))?.to_owned(),
                _ => return None,
            };
            Some(if query.is_empty() { path } else { format!("{path}?{query}") })
        };
        let target = self.0.iter().find_map(target);
        target.and_then(|target| readdressed(&request, &target, server)).unwrap_or(request)
    }

    /// What the store answers where it does not do what is asked.
    pub fn fault(&self, seen: &Seen, earlier: &[Seen], server: &str) -> Option<Fault> {
        self.0.iter().find_map(|habit| habit.fault(seen, earlier, server))
    }

    /// The request as the server is to get it.
    pub fn translated(&self, request: &RequestHead) -> Option<Vec<u8>> {
        let ignored: Vec<&str> = self.0.iter().flat_map(Habit::ignored_headers).copied().collect();
        let is_unordered = self.0.iter().any(|habit| matches!(habit, Habit::Unordered));
        let has_ignored = ignored.iter().any(|name| header(&request.headers, name).is_some());
        let (path, query) = split_target(&request.target);
        let kept: Vec<&str> =
            query.split('&').filter(|pair| !is_unordered || !pair.starts_with("start-after=")).collect();
        let target = format!("{path}?{}", kept.join("&"));
        let moved = (kept.len() < query.split('&').count()).then(|| {
            let host = header(&request.headers, "host").unwrap_or_default();
            readdressed(request, &target, host)
        });
        let moved = moved.flatten();
        if !has_ignored {
            return moved.map(|request| request.bytes);
        }
        signed_anew(moved.as_ref().unwrap_or(request), |name| ignored.contains(&name))
    }

    /// Whether the answer to this request is to be changed.
    pub fn changes(&self, verb: S3Verb) -> bool {
        self.0.iter().any(|habit| match habit {
            Habit::Hides(hiding, _) => *hiding == verb,
            Habit::Etag(_) => {
                matches!(verb, S3Verb::HeadObject | S3Verb::GetObject | S3Verb::CompleteMultipartUpload)
            }
            Habit::Spaces => verb == S3Verb::CompleteMultipartUpload,
            Habit::Uploads(_) => verb == S3Verb::ListMultipartUploads,
            Habit::Unordered => verb == S3Verb::ListObjects,
            _ => false,
        })
    }

    /// The bytes of the answer as the store gives it.
    pub fn changed(&self, seen: &Seen, head: &AnswerHead, body: Vec<u8>) -> Vec<u8> {
        let mut answer = Answer { headers: head.headers.clone(), body: String::from_utf8_lossy(&body).into_owned() };
        let binary = seen.verb == S3Verb::GetObject;
        self.0.iter().for_each(|habit| habit.change(seen, &mut answer));
        let body = if binary { body } else { answer.body.into_bytes() };
        let hidden = self.0.iter().filter_map(|habit| match habit {
            Habit::Hides(verb, header) if *verb == seen.verb => Some(*header),
            _ => None,
        });
        render(seen, head.status, (answer.headers, &hidden.collect::<Vec<_>>()), &body)
    }
}

/// An answer that is being changed.
struct Answer {
    headers: Headers,
    body: String,
}

impl Habit {
    fn ignored_headers(&self) -> &'static [&'static str] {
        match self {
            Self::Ignores(headers) => headers,
            // The server knows its own ETags only.
            Self::Etag(_) => &["if-match"],
            _ => &[],
        }
    }

    fn fault(&self, seen: &Seen, earlier: &[Seen], server: &str) -> Option<Fault> {
        match *self {
            Self::Refuses { verb, header, part, status, code } => {
                let is_meant = verb.is_none_or(|verb| verb == seen.verb)
                    && seen.header(header).is_some_and(|value| value.contains(part));
                is_meant.then(|| refusal(status, code))
            }
            Self::MetadataIsIdentifiers => {
                let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                let mut names = seen.headers.iter().filter_map(|(name, _)| name.strip_prefix("x-amz-meta-"));
                names.any(|name| !is_name(name)).then(|| refusal(400, ""))
            }
            Self::MostParts(most) => {
                let number = parameter(&seen.query, "partNumber").and_then(|number| number.parse::<u32>().ok());
                (seen.verb == S3Verb::UploadPart && number > Some(most)).then(|| refusal(400, "InvalidArgument"))
            }
            Self::EqualParts if seen.verb == S3Verb::CompleteMultipartUpload => {
                (!are_equal(&sizes(seen, earlier))).then(|| refusal(400, "InvalidPart"))
            }
            Self::VirtualHosts(_, code) => (seen.header("host") != Some(server)).then(|| refusal(403, code)),
            Self::LateComplete(looks) => late(seen, earlier, looks),
            Self::RepeatedCompleteIsFine if is_repeated_complete(seen, earlier) => Some(Fault::Reply {
                status: 200,
                headers: vec![("Content-Type".to_owned(), "application/xml".to_owned())],
                body: b"<CompleteMultipartUploadResult><ETag>\"\"</ETag></CompleteMultipartUploadResult>".to_vec(),
                when: When::Before,
            }),
            _ => None,
        }
    }

    fn change(&self, seen: &Seen, answer: &mut Answer) {
        match (self, seen.verb) {
            (Self::Etag(form), S3Verb::HeadObject | S3Verb::GetObject) => {
                for (_, value) in answer.headers.iter_mut().filter(|(name, _)| name.eq_ignore_ascii_case("etag")) {
                    *value = format!("\"{}\"", form.of(value.trim_matches('"')));
                }
            }
            (Self::Etag(form), S3Verb::CompleteMultipartUpload) => {
                answer.body = xml::with(&answer.body, "ETag", |etag| {
                    let bare = etag.replace("&#34;", "").replace("&quot;", "");
                    format!("&quot;{}&quot;", form.of(bare.trim_matches('"')))
                });
            }
            (Self::Spaces, S3Verb::CompleteMultipartUpload) => answer.body.insert_str(0, " \n \n"),
            (Self::Uploads(uploads), S3Verb::ListMultipartUploads) => uploads.change(seen, &mut answer.body),
            (Self::Unordered, S3Verb::ListObjects) => turn_round(seen, &mut answer.body),
            _ => {}
        }
    }
}

impl Etag {
    /// The complete object's, by the one that the server has; those of other objects and of parts stay.
    fn of(self, usual: &str) -> String {
        match self {
            _ if !usual.contains('-') => usual.to_owned(),
            Self::Is(etag) => etag.to_owned(),
            Self::Capitals => usual.to_uppercase(),
        }
    }
}

impl Uploads {
    fn change(self, seen: &Seen, body: &mut String) {
        let prefix = parameter(&seen.query, "prefix").unwrap_or_default();
        *body = match self {
            Self::OfExactKey => xml::elements(body, "Upload", |uploads| {
                uploads.retain(|upload| prefix.is_empty() || xml::text(upload, "Key") == Some(&prefix));
            }),
            Self::OfFolder => {
                let listed = xml::elements(body, "Upload", |uploads| {
                    uploads.reverse();
                    uploads.retain(|_| prefix.is_empty() || prefix.ends_with('/'));
                });
                xml::with(&listed, "NextUploadIdMarker", |_| String::new())
            }
            Self::WithoutTime => xml::elements(body, "Upload", |uploads| {
                for upload in uploads.iter_mut() {
                    *upload = xml::elements(upload, "Initiated", Vec::clear);
                }
            }),
            Self::Old => xml::with(body, "Initiated", |_| "2026-01-01T00:00:00.000Z".to_owned()),
        };
    }
}

/// Turns a page round, and leaves out what comes before `start-after` then.
fn turn_round(seen: &Seen, body: &mut String) {
    let after = parameter(&seen.query, "start-after");
    *body = xml::elements(body, "Contents", |entries| {
        entries.reverse();
        entries.retain(|entry| after.is_none() || xml::text(entry, "Key") < after.as_deref());
    });
}

/// A Complete that takes effect late: hidden until it was looked for so often.
fn late(seen: &Seen, earlier: &[Seen], looks: usize) -> Option<Fault> {
    let is = |other: &Seen, verb: S3Verb| other.verb == verb && other.key() == seen.key();
    let is_first = |other: &Seen| is(other, S3Verb::CompleteMultipartUpload) && other.upstream_status.is_some();
    let first = earlier.iter().position(is_first);
    let Some(first) = first else {
        let gives_up = Fault::Status { code: 504, s3_code: "GatewayTimeout", when: When::After };
        return (seen.verb == S3Verb::CompleteMultipartUpload).then_some(gives_up);
    };
    let looked = earlier[first..].iter().filter(|other| is(other, S3Verb::HeadObject)).count();
    match seen.verb {
        S3Verb::CompleteMultipartUpload if looked < looks => Some(refusal(500, "InternalError")),
        S3Verb::HeadObject if looked < looks => Some(refusal(404, "NoSuchKey")),
        _ => None,
    }
}

fn is_repeated_complete(seen: &Seen, earlier: &[Seen]) -> bool {
    let is_same = |other: &Seen| other.verb == S3Verb::CompleteMultipartUpload && other.key() == seen.key();
    is_same(seen) && earlier.iter().any(|other| is_same(other) && other.upstream_status == Some(200))
}

/// The sizes of the parts of the upload that this request completes, in order.
fn sizes(seen: &Seen, earlier: &[Seen]) -> Vec<u64> {
    let upload = parameter(&seen.query, "uploadId");
    let parts = earlier.iter().filter(|other| {
        other.verb == S3Verb::UploadPart && other.status == Some(200) && parameter(&other.query, "uploadId") == upload
    });
    let numbered =
        |part: &Seen| Some((parameter(&part.query, "partNumber")?.parse::<u32>().ok()?, part.request_body_len));
    let sizes: std::collections::BTreeMap<u32, u64> = parts.filter_map(numbered).collect();
    sizes.into_values().collect()
}

fn are_equal(sizes: &[u64]) -> bool {
    let Some((last, others)) = sizes.split_last() else { return true };
    others.iter().all(|size| Some(size) == others.first() && last <= size)
}

fn refusal(status: u16, code: &'static str) -> Fault {
    if code.is_empty() {
        return Fault::Reply { status, headers: Vec::new(), body: Vec::new(), when: When::Before };
    }
    Fault::Status { code: status, s3_code: code, when: When::Before }
}

/// The answer's bytes; its length is that of the body, or comes in chunks where it is hidden.
fn render(seen: &Seen, status: u16, (headers, hidden): (Headers, &[&str]), body: &[u8]) -> Vec<u8> {
    let is_hidden = |name: &str| hidden.iter().any(|hidden| hidden.eq_ignore_ascii_case(name));
    let is_framing =
        |name: &str| ["content-length", "transfer-encoding"].iter().any(|one| name.eq_ignore_ascii_case(one));
    let is_head = seen.method == "HEAD";
    let mut bytes = format!("HTTP/1.1 {status} Changed\r\n").into_bytes();
    for (name, value) in headers.iter().filter(|(name, _)| !is_hidden(name) && (is_head || !is_framing(name))) {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if is_head {
        bytes.extend_from_slice(b"\r\n");
    } else if is_hidden("content-length") && !body.is_empty() {
        bytes.extend_from_slice(format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n0\r\n\r\n");
    } else {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
    }
    bytes
}
