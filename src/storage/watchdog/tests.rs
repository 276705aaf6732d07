//! Requests to a slow or silent server, with a limit of a second: a slow one is waited for, a silent one is ended.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::super::requests::{Bucket, PartBody};
use super::super::{Failure, S3Settings, client};
use super::*;
use crate::pipeline::PartDigest;

const LIMIT: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);
/// This number of steps lasts three times the limit.
const STEPS: usize = 30;
const PART_BYTES: usize = 256 << 10;
const TAKEN: &str = "HTTP/1.1 200 OK\r\nETag: \"etag\"\r\nContent-Length: 0\r\n\r\n";

/// A bucket on a server that handles its connections like this, one after the other.
async fn bucket(serve: impl Fn(TcpStream) + Send + 'static) -> Bucket {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    // A small receive buffer: this host's kernel would take 64 KiB at a time.
    socket.set_recv_buffer_size(8 << 10).expect("set");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let listener = socket.listen(16).and_then(tokio::net::TcpListener::into_std).expect("a listener");
    listener.set_nonblocking(false).expect("set");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    let settings = S3Settings::of_test_server(&url);
    let client = client::build(&settings).await.expect("a client").client;
    Bucket::new(client, &settings, Some(&url))
}

/// Sends a part to a server that reads this many bytes of it in steps, then continues like this.
async fn upload(bytes: usize, then: fn(TcpStream)) -> Result<(), Failure> {
    let bucket = bucket(move |mut stream| {
        let mut buffer = vec![0; bytes / STEPS];
        for _ in 0..STEPS {
            std::thread::sleep(STEP);
            stream.read_exact(&mut buffer).expect("some of it");
        }
        then(stream);
    });
    let part = PartBody { number: 1, bytes: vec![7; PART_BYTES].into(), digest: PartDigest::None };
    bucket.await.upload_part("key", "id", &part).await.map(drop)
}

/// Reads a request without a body, and answers with a head and a body in steps.
fn answer(mut stream: TcpStream, body: &[u8], steps: usize) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).expect("written");
    for piece in body.chunks(body.len().div_ceil(STEPS)).take(steps) {
        std::thread::sleep(STEP);
        // The client may have closed the connection.
        let _ = stream.write_all(piece);
    }
    std::thread::sleep(LIMIT * 4);
}

#[tokio::test]
async fn a_part_may_take_as_long_as_its_bytes_move() {
    let sent = upload(PART_BYTES, |mut stream| {
        stream.write_all(TAKEN.as_bytes()).expect("answered");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let sent = sent.await;
    assert!(sent.is_ok(), "{sent:?}");
}

#[tokio::test]
async fn a_stalled_part_is_ended() {
    for (bytes, verified) in [(PART_BYTES / 2, "half of it is read"), (PART_BYTES, "it is read and never answered")] {
        let failure = upload(bytes, |_stream| std::thread::sleep(LIMIT * 10)).await.expect_err(verified);
        assert!(failure.is_timeout() && failure.may_pass(), "{verified}: {failure}");
        assert!(failure.message.contains("nothing moved for "), "{verified}: {failure}");
    }
}

#[tokio::test]
async fn an_answer_may_take_as_long_as_its_bytes_move() {
    let listing = b"<ListBucketResult><Contents><Key>a key</Key><Size>7</Size></Contents></ListBucketResult>";
    let bucket = bucket(|stream| answer(stream, listing, STEPS)).await;
    let (objects, _) = bucket.list("", None, None).await.expect("a listing");
    assert_eq!(objects.len(), 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_ended() {
    let bucket = bucket(|stream| {
        std::thread::spawn(move || answer(stream, &[7; 3_000], STEPS / 2));
    });
    let failure = bucket.await.get("key", 1 << 20).await.expect_err("half a body");
    assert!(failure.may_pass() && failure.message.contains("nothing moved for "), "{failure}");
}

#[tokio::test]
async fn a_connection_that_is_stuck_does_not_keep_a_part() {
    let bucket = bucket(|mut stream| {
        let refusal = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n";
        // An answer before the request starts is ignored.
        stream.read_exact(&mut [0; 64]).expect("the request begins");
        stream.write_all(refusal.as_bytes()).expect("answered before the body is read");
        std::thread::sleep(LIMIT * 10);
    });
    let memory = Arc::new(vec![7; 32 << 20]);
    let part = PartBody { number: 1, bytes: Bytes::from_owner(Held(Arc::clone(&memory))), digest: PartDigest::None };
    let failure = bucket.await.upload_part("key", "id", &part).await.expect_err("refused");
    assert_eq!(failure.status, Some(503));
    drop(part);
    let let_go = async {
        while Arc::strong_count(&memory) > 1 {
            sleep(STEP).await;
        }
    };
    tokio::time::timeout(LIMIT * 5, let_go).await.expect("the connection holds it");
}

struct Held(Arc<Vec<u8>>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn unseen_buffers_are_waited_for_at_the_rate_so_far() {
    let began = Instant::now();
    let waited = |sent: u64, held, seconds: u64| {
        let moved = TransferState { began, last: began + Duration::from_secs(seconds), sent, held };
        moved.limit(LIMIT).as_secs()
    };
    assert_eq!(waited(0, None, 100), 1, "nothing was sent yet");
    assert_eq!(waited(12 << 20, Some(1), 200), 1, "our own kernel has it, and is not rid of it");
    assert_eq!(waited(12 << 20, Some(0), 120), 41, "a relay may have 4 MiB of it");
    assert_eq!(waited(12 << 20, Some(0), 0), 1, "a fast link");
    assert_eq!(waited(12 << 20, Some(0), 10_000), 68, "no slower than the slowest link");
    assert_eq!(waited(12 << 20, None, 80), 41, "4 MiB of it are in our own kernel");
    assert_eq!(waited(3 << 20, None, 0), 51, "all of it is in our own kernel, and no rate is known");
    assert_eq!(waited(6_250, None, 0), 1, "a small one");
}
