//! The proxy's state: the rules, the log of requests, and the rule for a new request. Shared by the test
//! (through [`super::FaultProxy`]) and the connections ([`super::relay`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::dialect::Dialect;
use super::http::{AnswerHead, Headers, RequestHead, header};
use super::rules::{Fault, Rule};
use super::session::{Session, unchecked, without};
use super::verb::{S3Verb, key_of, split_target};

/// One request as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The S3 operation.
    pub verb: S3Verb,
    /// `GET`, `PUT` …
    pub method: String,
    /// The path, percent-encoded as sent.
    pub path: String,
    /// The query without its question mark; may be empty.
    pub query: String,
    /// The number of this request among those of its verb, from 1, since the start or the last `reset_counts`.
    pub call: usize,
    /// The fault it got.
    pub fault: Option<Fault>,
    /// The status of the answer to the client; not set after a reset, a stall, or a truncated or garbage answer.
    pub status: Option<u16>,
    /// The status of the S3 server's answer, if the request reached it.
    pub upstream_status: Option<u16>,
    /// Content bytes of the request's body read so far (framing of chunked bodies not counted).
    pub request_body_len: u64,
    /// The request's headers.
    pub headers: Headers,
}

impl Seen {
    /// The object's key, percent-decoded; empty for a request to the bucket.
    pub fn key(&self) -> String {
        key_of(&self.path)
    }

    /// A header's value, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// Rules and log.
#[derive(Debug)]
pub struct Desk {
    upstream: String,
    rules: Mutex<Vec<Rule>>,
    sessions: Mutex<Vec<Session>>,
    dialect: Mutex<Dialect>,
    log: Mutex<Log>,
    /// Whether waiting requests may continue.
    released: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Log {
    seen: Vec<Seen>,
    count_from: usize,
}

impl Desk {
    /// An empty desk for a server at `host:port`.
    pub fn new(upstream: &str) -> Self {
        Self {
            upstream: upstream.to_owned(),
            rules: Mutex::default(),
            sessions: Mutex::default(),
            dialect: Mutex::default(),
            log: Mutex::default(),
            released: watch::Sender::new(false),
        }
    }

    /// Continues waiting requests, and makes no more wait.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    /// The rules, for adding and clearing.
    pub fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        lock(&self.rules)
    }

    /// The temporary credentials that are valid, for adding.
    pub fn sessions(&self) -> MutexGuard<'_, Vec<Session>> {
        lock(&self.sessions)
    }

    /// The habits of the imitated server, for setting.
    pub fn dialect(&self) -> MutexGuard<'_, Dialect> {
        lock(&self.dialect)
    }

    /// The request at the server's own address.
    pub fn localized(&self, request: RequestHead) -> RequestHead {
        self.dialect().localized(request, &self.upstream)
    }

    /// Signs a request again for the server: if it has valid temporary credentials, or a body that the server must not check.
    pub fn translated(&self, request: RequestHead, fault: Option<&Fault>) -> RequestHead {
        let resigned = || self.sessions().iter().find_map(|session| session.resigned(&request));
        let bytes = match fault {
            Some(Fault::CorruptUnchecked) => unchecked(&request),
            Some(Fault::IgnoreRequestHeader(name)) => without(&request, name),
            _ => resigned().or_else(|| self.dialect().translated(&request)),
        };
        match bytes {
            Some(bytes) => RequestHead { bytes, ..request },
            None => request,
        }
    }

    /// A copy of the log.
    pub fn log(&self) -> Vec<Seen> {
        lock(&self.log).seen.clone()
    }

    /// How many requests of this verb there were, in all.
    pub fn count(&self, verb: S3Verb) -> usize {
        lock(&self.log).seen.iter().filter(|seen| seen.verb == verb).count()
    }

    /// Restarts the count of calls.
    pub fn reset_counts(&self) {
        let mut log = lock(&self.log);
        log.count_from = log.seen.len();
    }

    /// Logs a request and finds its fault.
    pub fn admit(self: &Arc<Self>, request: &RequestHead) -> Ticket {
        let (path, query) = split_target(&request.target);
        let mut seen = Seen {
            verb: S3Verb::classify(&request.method, &request.target),
            method: request.method.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            call: 0,
            fault: None,
            status: None,
            upstream_status: None,
            request_body_len: 0,
            headers: request.headers.clone(),
        };
        let mut log = lock(&self.log);
        let counted = &log.seen[log.count_from..];
        seen.call = 1 + counted.iter().filter(|earlier| earlier.verb == seen.verb).count();
        let call_of = |rule: &Rule| 1 + counted.iter().filter(|earlier| rule.concerns(earlier)).count();
        let rules = self.rules();
        let rule = rules.iter().find(|rule| rule.concerns(&seen) && rule.calls.include(call_of(rule)));
        let fault = rule.map(|rule| rule.fault.clone());
        seen.fault = fault.or_else(|| self.dialect().fault(&seen, &log.seen, &self.upstream));
        drop(rules);
        let fault = seen.fault.clone();
        log.seen.push(seen);
        Ticket { desk: Arc::clone(self), index: log.seen.len() - 1, fault }
    }
}

/// A request's place in the log.
#[derive(Debug)]
pub struct Ticket {
    desk: Arc<Desk>,
    index: usize,
    fault: Option<Fault>,
}

impl Ticket {
    /// Its fault.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Waits if the fault is [`Fault::Hold`].
    pub async fn hold(&self) {
        if self.fault == Some(Fault::Hold) {
            // The desk owns the sender, and lives longer than this.
            let _ = self.desk.released.subscribe().wait_for(|released| *released).await;
        }
    }

    /// The S3 server, `host:port`.
    pub fn upstream(&self) -> &str {
        &self.desk.upstream
    }

    /// Whether a habit changes the answer to this request.
    pub fn is_changed(&self) -> bool {
        let verb = lock(&self.desk.log).seen[self.index].verb;
        self.desk.dialect().changes(verb)
    }

    /// Returns the bytes of the changed answer.
    pub fn changed(&self, head: &AnswerHead, body: Vec<u8>) -> Vec<u8> {
        let seen = lock(&self.desk.log).seen[self.index].clone();
        self.desk.dialect().changed(&seen, head, body)
    }

    /// Counts body bytes.
    pub fn add_body(&self, bytes: usize) {
        self.update(|seen| seen.request_body_len += bytes as u64);
    }

    /// Notes the status of the S3 server's answer.
    pub fn upstream_answered(&self, status: u16) {
        self.update(|seen| seen.upstream_status = Some(status));
    }

    /// Notes the status that goes to the client.
    pub fn answered(&self, status: u16) {
        self.update(|seen| seen.status = Some(status));
    }

    fn update(&self, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = lock(&self.desk.log).seen.get_mut(self.index) {
            change(seen);
        }
    }
}

/// If a test panicked with the lock, the data is consistent: no update here can be incomplete.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
