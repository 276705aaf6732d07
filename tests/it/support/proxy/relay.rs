//! Relays one client connection: each request to the server and its answer back, with its fault. Started by
//! [`super::FaultProxy`] for every connection; it never buffers a complete body.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::desk::{Desk, Ticket};
use super::http::{AnswerHead, Body, Headers, Reader, RequestHead, header};
use super::plan::{AnswerPlan, Edit, Ending, Plan, RequestPlan, Shaping};
use super::rules::Fault;
use crate::support::background::{read_some, reset_on_close, write_all};

/// Time for the last bytes to reach the client before a RST overtakes them.
const BEFORE_RESET: Duration = Duration::from_millis(20);

/// Serves a connection until either side closes it. An error, intended or not, resets both connections.
pub async fn serve(client: Arc<TcpStream>, desk: &Arc<Desk>) {
    let mut connection = Connection { client: Reader::new(client), upstream: None };
    if connection.serve(desk).await.is_err() {
        reset_on_close(&connection.client.stream());
        if let Some(upstream) = &connection.upstream {
            reset_on_close(&upstream.stream());
        }
    }
}

struct Connection {
    client: Reader,
    upstream: Option<Reader>,
}

impl Connection {
    async fn serve(&mut self, desk: &Arc<Desk>) -> io::Result<()> {
        while let Some(bytes) = self.client.head().await? {
            let request = desk.localized(RequestHead::parse(bytes)?);
            let ticket = desk.admit(&request);
            let request = desk.translated(request, ticket.fault());
            if !self.exchange(&request, &ticket).await? {
                break;
            }
        }
        Ok(())
    }

    /// One request and its answer; whether the connection continues.
    async fn exchange(&mut self, request: &RequestHead, ticket: &Ticket) -> io::Result<bool> {
        ticket.hold().await;
        let plan = Plan::of(ticket.fault(), request);
        let keep = match &plan.request {
            RequestPlan::Ignore => false,
            RequestPlan::Drain => self.drain(request, ticket).await?,
            RequestPlan::Keep => return self.send_late(request, ticket).await,
            RequestPlan::Forward(shaping) => self.forward(request, ticket, (shaping, &plan.answer)).await?,
        };
        self.finish(&plan.ending, request, ticket).await.map(|goes_on| goes_on && keep && request.keep_alive)
    }

    async fn drain(&mut self, request: &RequestHead, ticket: &Ticket) -> io::Result<bool> {
        if request.expects_continue() {
            write_all(&self.client.stream(), b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut body = Body::of_request(&request.headers)?;
        while let Some(piece) = body.next(&mut self.client).await? {
            self.client.consume(piece.length);
            ticket.add_body(if piece.payload { piece.length } else { 0 });
        }
        Ok(true)
    }

    /// Sends the request when the client has given up; its answer is only looked at.
    async fn send_late(&mut self, request: &RequestHead, ticket: &Ticket) -> io::Result<bool> {
        let mut bytes = request.bytes.clone();
        let mut body = Body::of_request(&request.headers)?;
        while let Some(piece) = body.next(&mut self.client).await? {
            bytes.extend_from_slice(&self.client.available()[..piece.length]);
            self.client.consume(piece.length);
        }
        let (client, mut ignored) = (self.client.stream(), [0; 4096]);
        while read_some(&client, &mut ignored).await.is_ok_and(|read| read > 0) {}
        if let Some(Fault::Late { after }) = ticket.fault() {
            tokio::time::sleep(*after).await;
        }
        let mut server = Reader::new(Arc::new(TcpStream::connect(ticket.upstream()).await?));
        write_all(&server.stream(), &bytes).await?;
        if let Some(head) = server.head().await? {
            ticket.upstream_answered(AnswerHead::parse(head)?.status);
        }
        Ok(false)
    }

    async fn forward(
        &mut self,
        request: &RequestHead,
        ticket: &Ticket,
        (shaping, answer): (&Shaping, &AnswerPlan),
    ) -> io::Result<bool> {
        let client = self.client.stream();
        let upstream = connected(&mut self.upstream, ticket.upstream()).await?;
        let server = upstream.stream();
        let exchange = (request, ticket);
        // Both at once: a server may refuse a request before it has read the body, and `100 Continue` comes in between.
        let sending = send(&mut self.client, &server, exchange, shaping);
        let answering = relay_answer(upstream, &client, exchange, answer);
        let (all_sent, answered) = tokio::try_join!(sending, answering)?;
        if !all_sent || !answered.reusable {
            self.upstream = None;
        }
        // What the client has seen of a relayed answer says whether it may go on; a discarded one says nothing.
        Ok(all_sent && (answered.reusable || *answer == AnswerPlan::Discard))
    }

    async fn finish(&mut self, ending: &Ending, request: &RequestHead, ticket: &Ticket) -> io::Result<bool> {
        let client = self.client.stream();
        match ending {
            Ending::AsRelayed => Ok(true),
            Ending::Answer(answer) => {
                ticket.answered(answer.status);
                write_all(&client, &answer.render(&request.method)).await.map(|()| true)
            }
            Ending::Garbage => {
                write_all(&client, b"\x16\x03\x01garbage\0 from the fault proxy\r\n\r\n").await.map(|()| false)
            }
            Ending::Reset => {
                tokio::time::sleep(BEFORE_RESET).await;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Ending::Stall => {
                let mut ignored = [0; 4096];
                while read_some(&client, &mut ignored).await? > 0 {}
                Ok(false)
            }
            Ending::Close => Ok(false),
        }
    }
}

struct Answered {
    /// Whether the server's connection is clean for the next request.
    reusable: bool,
}

/// The server's connection: the one in use, or a new one where there is none or the server has closed it.
async fn connected<'a>(upstream: &'a mut Option<Reader>, address: &str) -> io::Result<&'a mut Reader> {
    let reusable = upstream.take().filter(|reader| !reader.is_closed());
    let reader = if let Some(reader) = reusable {
        reader
    } else {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Reader::new(Arc::new(stream))
    };
    Ok(upstream.insert(reader))
}

/// Sends head and body to the server; false where the server stopped taking it (its answer may still come).
async fn send(
    client: &mut Reader,
    server: &TcpStream,
    (request, ticket): (&RequestHead, &Ticket),
    shaping: &Shaping,
) -> io::Result<bool> {
    let mut taken = write_all(server, &shaping.edit.apply(&request.bytes)).await.is_ok();
    let mut body = Body::of_request(&request.headers)?;
    let mut pace = Pace::of(ticket.fault());
    let mut payload = 0_u64;
    while let Some(piece) = body.next(client).await? {
        let mut length = piece.length;
        if piece.payload {
            flip(client, shaping.flip_at, payload, length);
            if let Some(stop) = shaping.stop_after.filter(|stop| payload + length as u64 >= *stop) {
                length = usize::try_from(stop.saturating_sub(payload)).unwrap_or(length);
                write_all(server, &client.available()[..length]).await?;
                ticket.add_body(length);
                tokio::time::sleep(BEFORE_RESET).await;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            payload += length as u64;
            ticket.add_body(length);
        }
        taken = taken && pace.write(server, &client.available()[..length]).await.is_ok();
        client.consume(length);
    }
    Ok(taken)
}

/// Flips a bit of the payload byte `at`, where it is among the `length` available bytes that begin at payload byte `from`.
fn flip(reader: &mut Reader, at: Option<u64>, from: u64, length: usize) {
    let offset = at.and_then(|at| at.checked_sub(from)).and_then(|offset| usize::try_from(offset).ok());
    if let Some(offset) = offset.filter(|&offset| offset < length) {
        reader.available_mut()[offset] ^= 1;
    }
}

/// Reads the server's answer, interim ones included, and passes on what the plan says.
async fn relay_answer(
    upstream: &mut Reader,
    client: &TcpStream,
    (request, ticket): (&RequestHead, &Ticket),
    plan: &AnswerPlan,
) -> io::Result<Answered> {
    let head = loop {
        let bytes = upstream.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = AnswerHead::parse(bytes)?;
        if head.status >= 200 {
            break head;
        }
        // An interim answer: the client waits for it before it sends its body.
        write_all(client, &head.bytes).await?;
    };
    ticket.upstream_answered(head.status);
    let mut body = Body::of_answer(head.status, &request.method, &head.headers)?;
    let until_close = matches!(body, Body::UntilClose);
    match plan {
        AnswerPlan::Relay(Edit::Nothing) if ticket.is_changed() => {
            let mut payload = Vec::new();
            while let Some(piece) = body.next(upstream).await? {
                payload.extend_from_slice(if piece.payload { &upstream.available()[..piece.length] } else { &[] });
                upstream.consume(piece.length);
            }
            ticket.answered(head.status);
            write_all(client, &ticket.changed(&head, payload)).await?;
        }
        AnswerPlan::Relay(edit) => {
            ticket.answered(head.status);
            write_all(client, &edit.apply(&head.bytes)).await?;
            let mut pace = Pace::of(ticket.fault());
            while let Some(piece) = body.next(upstream).await? {
                pace.write(client, &upstream.available()[..piece.length]).await?;
                upstream.consume(piece.length);
            }
        }
        AnswerPlan::Discard => {
            while let Some(piece) = body.next(upstream).await? {
                upstream.consume(piece.length);
            }
        }
        AnswerPlan::RelayHalf => {
            relay_half(upstream, client, &head, body).await?;
            return Ok(Answered { reusable: false });
        }
    }
    Ok(Answered { reusable: head.keep_alive && !until_close })
}

async fn relay_half(upstream: &mut Reader, client: &TcpStream, head: &AnswerHead, mut body: Body) -> io::Result<()> {
    let Some(first) = body.next(upstream).await? else {
        return write_all(client, &head.bytes[..head.bytes.len() / 2]).await;
    };
    write_all(client, &head.bytes).await?;
    // Of a body of unknown length, half of what came first; a chunked one begins with its first size line.
    let mut left = half_length(&head.headers).unwrap_or(first.length / 2);
    let mut piece = Some(first);
    while let Some(length) = piece.map(|piece| piece.length.min(left)).filter(|&length| length > 0) {
        write_all(client, &upstream.available()[..length]).await?;
        upstream.consume(length);
        left -= length;
        piece = if left == 0 { None } else { body.next(upstream).await? };
    }
    Ok(())
}

fn half_length(headers: &Headers) -> Option<usize> {
    Some(header(headers, "content-length")?.parse::<usize>().ok()? / 2)
}

/// Keeps a body at a rate.
struct Pace {
    bytes_per_second: Option<u64>,
    started: Instant,
    passed: u64,
}

impl Pace {
    fn of(fault: Option<&Fault>) -> Self {
        let bytes_per_second = match fault {
            Some(Fault::Trickle { bytes_per_second }) => Some((*bytes_per_second).max(1)),
            _ => None,
        };
        Self { bytes_per_second, started: Instant::now(), passed: 0 }
    }

    async fn write(&mut self, to: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        let Some(rate) = self.bytes_per_second else {
            return write_all(to, bytes).await;
        };
        // Twenty small steps a second instead of one burst.
        let step = usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1);
        for slice in bytes.chunks(step) {
            self.passed += slice.len() as u64;
            let due = Duration::from_millis(self.passed.saturating_mul(1000) / rate);
            tokio::time::sleep_until(self.started + due).await;
            write_all(to, slice).await?;
        }
        Ok(())
    }
}
