//! Ends a request in which nothing moves, and lets it take any time while bytes move.
//!
//! Stands between the SDK and its HTTP client, after the signature: a request's body is sent in slices, an answer's
//! body is watched while it is read. The limit is the SDK's read timeout (`S3_REQUEST_TIMEOUT`; Complete has its own);
//! the SDK itself would include the time of an upload. Progress is what the peer acknowledges, as
//! [`super::unacknowledged`] reads it from the kernel; see `TransferState::limit` for data that the kernel does not show.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use bytes::{Buf as _, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::unacknowledged::{Socket, unacknowledged};

/// Bytes of a body that are sent at once.
const SLICE_BYTES: usize = 64 << 10;
/// The most that a kernel buffers of a connection's output (Linux: `net.ipv4.tcp_wmem`).
const KERNEL_BYTES: u64 = 4 << 20;
/// The slowest supported link, 0.5 Mbit/s, in bytes a second.
const LEAST_BYTES_PER_SECOND: u64 = 62_500;
/// How often the kernel is asked within a limit.
const LOOKS: u32 = 20;

/// Why a request was ended.
#[derive(Debug, thiserror::Error)]
#[error("nothing moved for {:.1} s", .0.as_secs_f64())]
struct Stalled(Duration);

/// An HTTP client whose requests are watched.
#[derive(Debug)]
pub(super) struct Watched(pub SharedHttpClient);

#[derive(Debug)]
struct WatchedConnector {
    inner: SharedHttpConnector,
    limit: Duration,
}

impl HttpClient for Watched {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let mut others = HttpConnectorSettings::builder();
        others.set_connect_timeout(settings.connect_timeout());
        let inner = self.0.http_connector(&others.build(), components);
        match settings.read_timeout() {
            Some(limit) => SharedHttpConnector::new(WatchedConnector { inner, limit }),
            None => inner,
        }
    }
}

impl HttpConnector for WatchedConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let transfer = Arc::new(Transfer::new());
        let connection = request.extension::<CaptureSmithyConnection>().cloned();
        let body = std::mem::replace(request.body_mut(), SdkBody::taken());
        let source = Arc::new(BodySource(Mutex::new(Some(Remaining { body, piece: Bytes::new() }))));
        let slices = Slices { source: Arc::clone(&source), transfer: Arc::clone(&transfer) };
        *request.body_mut() = SdkBody::from_body_1_x(slices);
        let (answer, limit) = (self.inner.call(request), self.limit);
        // However the request ends, its bytes are freed: a stuck connection must not hold a part.
        let guard = RequestGuard(source);
        HttpConnectorFuture::new(async move {
            tokio::select! {
                answer = answer => Ok(watched(answer?, limit, guard)),
                lasted = transfer.stalled(limit, connection) => Err(ConnectorError::timeout(Box::new(Stalled(lasted)))),
            }
        })
    }
}

fn watched(mut answer: HttpResponse, limit: Duration, guard: RequestGuard) -> HttpResponse {
    let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
    *answer.body_mut() = if Body::is_end_stream(&body) {
        body
    } else {
        SdkBody::from_body_1_x(Answer { body, limit, silence: None, guard: Some(guard) })
    };
    answer
}

/// Progress of a request.
#[derive(Debug)]
struct Transfer(Mutex<TransferState>);

#[derive(Clone, Copy, Debug)]
struct TransferState {
    /// When the first byte of its body was sent out; before, when the request began.
    began: Instant,
    last: Instant,
    /// Bytes of the body sent out.
    sent: u64,
    /// Bytes that the peer has not acknowledged, if the kernel says so.
    held: Option<u64>,
}

impl Transfer {
    fn new() -> Self {
        let now = Instant::now();
        Self(Mutex::new(TransferState { began: now, last: now, sent: 0, held: None }))
    }

    fn add_sent(&self, bytes: usize) {
        let mut moved = self.state();
        moved.last = Instant::now();
        if moved.sent == 0 {
            moved.began = moved.last;
        }
        moved.sent += bytes as u64;
    }

    /// Waits until nothing has moved for too long; returns for how long.
    async fn stalled(&self, limit: Duration, connection: Option<CaptureSmithyConnection>) -> Duration {
        loop {
            let moved = *self.state();
            let end = moved.last + moved.limit(limit);
            let now = Instant::now();
            if end <= now {
                return now - moved.last;
            }
            sleep_until(end.min(now + limit / LOOKS)).await;
            if self.state().sent > 0 {
                self.look(connection.as_ref());
            }
        }
    }

    /// Asks the kernel. Its number changes with what is sent out and with what the peer acknowledges.
    fn look(&self, connection: Option<&CaptureSmithyConnection>) {
        let socket = connection
            .and_then(CaptureSmithyConnection::get)
            .and_then(|connection| Some(Socket { local: connection.local_addr()?, remote: connection.remote_addr()? }));
        let held = socket.and_then(unacknowledged);
        let mut moved = self.state();
        if held != moved.held {
            moved.last = Instant::now();
        }
        moved.held = held;
    }

    fn state(&self) -> MutexGuard<'_, TransferState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TransferState {
    /// The longest time without progress: the limit, and the time that unseen buffers take to drain at the rate so far.
    ///
    /// The kernel shows what it has not sent. Once all is acknowledged, a relay (a proxy, a tunnel) may still buffer a
    /// part; if the kernel says nothing, its own buffer may, which looked like progress at first.
    fn limit(&self, limit: Duration) -> Duration {
        let gone = match self.held {
            Some(1..) => return limit,
            Some(0) => self.sent,
            None => self.sent.saturating_sub(KERNEL_BYTES),
        };
        let unseen = self.sent.min(KERNEL_BYTES);
        let least = Duration::from_millis(unseen * 1000 / LEAST_BYTES_PER_SECOND);
        let elapsed = u64::try_from((self.last - self.began).as_micros()).unwrap_or(u64::MAX);
        let drained = elapsed.saturating_mul(unseen).checked_div(gone).map(Duration::from_micros);
        limit + drained.map_or(least, |drained| drained.min(least))
    }
}

/// The rest of a request's body; empty once the request has ended.
#[derive(Debug)]
struct BodySource(Mutex<Option<Remaining>>);

#[derive(Debug)]
struct Remaining {
    body: SdkBody,
    piece: Bytes,
}

impl BodySource {
    fn remaining(&self) -> MutexGuard<'_, Option<Remaining>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running request; dropping it frees the body.
#[derive(Debug)]
struct RequestGuard(Arc<BodySource>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.remaining().take();
    }
}

/// A request's body, in slices. Each is a copy: a slice that a connection holds does not hold the part.
struct Slices {
    source: Arc<BodySource>,
    transfer: Arc<Transfer>,
}

impl Body for Slices {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut source = self.source.remaining();
        let Some(left) = source.as_mut() else {
            return Poll::Ready(Some(Err("the request has ended".into())));
        };
        if left.piece.is_empty() {
            match ready!(Pin::new(&mut left.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => left.piece = piece,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        let count = left.piece.len().min(SLICE_BYTES);
        let slice = Bytes::copy_from_slice(&left.piece[..count]);
        left.piece.advance(count);
        self.transfer.add_sent(count);
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.source.remaining().as_ref().is_some_and(|left| left.piece.is_empty() && Body::is_end_stream(&left.body))
    }

    fn size_hint(&self) -> SizeHint {
        match self.source.remaining().as_ref() {
            Some(left) => {
                let (hint, piece) = (Body::size_hint(&left.body), left.piece.len() as u64);
                hint.exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + piece))
            }
            None => SizeHint::default(),
        }
    }
}

/// An answer's body. Only the time that its reader waits counts.
struct Answer {
    body: SdkBody,
    limit: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    guard: Option<RequestGuard>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.silence = None;
            if frame.is_none() {
                this.guard = None;
            }
            return Poll::Ready(frame);
        }
        let limit = this.limit;
        ready!(this.silence.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx));
        Poll::Ready(Some(Err(Stalled(limit).into())))
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}

#[cfg(test)]
mod tests;
