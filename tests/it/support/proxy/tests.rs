//! Tests of the fault proxy itself: each fault once, against a canned upstream.

mod bench;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{Calls, Fault, ResetAt, Rule, S3Verb, StallAt, When};
use crate::support::client::eventually;
use bench::{ANSWER, Bench, CHUNKED, GET, HEAD, PATIENCE, PUT};

#[test]
fn bytes_pass_unchanged_and_the_connection_lives_on() {
    let mut bench = Bench::new([]);
    let requests: [(&[u8], &str); 5] = [
        (PUT, ANSWER),
        (HEAD, ANSWER.trim_end_matches("0123456789")),
        (CHUNKED, ANSWER),
        (b"DELETE /b/k HTTP/1.1\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            b"GET /chunked HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwxyz\r\n0\r\n\r\n",
        ),
    ];
    for (index, (request, answer)) in requests.into_iter().enumerate() {
        assert_eq!(bench.ask(request), answer);
        assert_eq!(bench.arrived()[index].as_bytes(), request);
    }
    let log = bench.proxy.log();
    let lengths: Vec<_> = log.iter().map(|seen| seen.request_body_len).collect();
    assert_eq!(lengths, [6, 0, 5, 0, 0]);
    assert_eq!((log[0].verb, log[0].call, log[0].status), (S3Verb::PutObject, 1, Some(200)));
    assert_eq!((log[2].call, log[3].status, log[0].header("x-odd")), (2, Some(204), Some("kept")));
    assert_eq!((bench.proxy.count(S3Verb::PutObject), log[0].key().as_str()), (2, "k"));
}

#[test]
fn a_pipelined_second_request_waits_its_turn() {
    let mut bench = Bench::new([]);
    let both = [GET, PUT].concat();
    assert_eq!((bench.ask(&both), bench.answer(false)), (ANSWER.to_owned(), ANSWER.to_owned()));
}

#[test]
fn expect_continue_is_passed_on_and_answered_where_the_body_is_drained() {
    let head = b"PUT /b/k HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n";
    for (fault, status) in [(None, "200 OK"), (Some(Fault::slow_down()), "503 Service")] {
        let mut bench = Bench::new(fault.map(|fault| Rule::any(Calls::All, fault)));
        assert_eq!(bench.ask(head), "HTTP/1.1 100 Continue\r\n\r\n");
        assert!(bench.ask(b"abcdef").starts_with(&format!("HTTP/1.1 {status}")));
    }
}

#[test]
fn an_early_refusal_reaches_the_client() {
    let mut bench = Bench::new([]);
    let answer = bench.ask(b"PUT /refuse/k HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer:?}");
}

#[test]
fn status_before_and_after() {
    for (when, reached) in [(When::Before, 0), (When::After, 1)] {
        let mut bench = Bench::with(Fault::internal_error(when));
        let answer = bench.ask(PUT);
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains("<Code>InternalError</Code>"), "{answer}");
        assert_eq!(bench.arrived().len(), reached);
        let seen = &bench.proxy.log()[0];
        assert_eq!((seen.status, seen.request_body_len), (Some(500), 6));
        assert_eq!(seen.upstream_status, (when == When::After).then_some(200));
        assert_eq!(seen.fault, Some(Fault::internal_error(when)));
        bench.expect_plain_answer();
    }
}

#[test]
fn head_answers_have_no_body() {
    let mut bench = Bench::with(Fault::access_denied());
    let answer = bench.ask(HEAD);
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    bench.expect_plain_answer();
}

#[test]
fn ok_with_an_error_inside_and_a_free_reply() {
    let mut bench = Bench::with(Fault::OkWithError { when: When::After });
    let answer = bench.ask(PUT);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("<Error><Code>InternalError"), "{answer}");
    assert_eq!(bench.arrived().len(), 1);

    let headers = vec![("X-A".to_owned(), "b".to_owned())];
    let mut bench = Bench::with(Fault::Reply { status: 412, headers, body: b"no".to_vec(), when: When::Before });
    let answer = bench.ask(PUT);
    assert_eq!(answer, "HTTP/1.1 412 Precondition Failed\r\nX-A: b\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(bench.arrived().len(), 0);
}

#[test]
fn resets() {
    let half = ANSWER.trim_end_matches("56789");
    let cases = [
        (ResetAt::BeforeRequest, 0, ""),
        (ResetAt::InRequestBody, 0, ""),
        (ResetAt::AfterEffect, 1, ""),
        (ResetAt::InAnswer, 1, half),
    ];
    for (at, reached, answer) in cases {
        let mut bench = Bench::with(Fault::Reset { at });
        let (received, error) = bench.send(PUT).rest();
        assert_eq!((received.as_str(), error), (answer, Some(ErrorKind::ConnectionReset)), "{at:?}");
        assert_eq!(bench.arrived().len(), reached, "{at:?}");
    }
}

#[test]
fn stalls() {
    let half = ANSWER.trim_end_matches("56789");
    for (at, reached, answer) in
        [(StallAt::BeforeEffect, 0, ""), (StallAt::BeforeAnswer, 1, ""), (StallAt::DuringAnswer, 1, half)]
    {
        let mut bench = Bench::with(Fault::Stall { at });
        let mut received = vec![0; answer.len()];
        bench.send(PUT).client.read_exact(&mut received).expect("what comes before the silence");
        assert_eq!(String::from_utf8_lossy(&received), answer, "{at:?}");
        eventually(|| bench.arrived().len() == reached, || format!("{at:?}"));
        bench.expect_silence();
        assert_eq!(bench.arrived().len(), reached, "{at:?}");
    }
}

#[test]
fn truncated_and_garbage_answers() {
    let mut bench = Bench::with(Fault::TruncatedAnswer);
    assert_eq!(bench.send(GET).rest(), (ANSWER.trim_end_matches("56789").to_owned(), None));
    let mut bench = Bench::with(Fault::TruncatedAnswer);
    let (answer, error) = bench.send(HEAD).rest();
    assert!(error.is_none() && answer.len() < 30 && answer.starts_with("HTTP/1.1"), "{answer:?} {error:?}");
    let mut bench = Bench::with(Fault::GarbageAnswer);
    let (answer, error) = bench.send(PUT).rest();
    assert!(error.is_none() && !answer.starts_with("HTTP"), "{answer:?} {error:?}");
    assert_eq!(bench.arrived().len(), 1);
}

#[test]
fn trickle_takes_its_time() {
    let mut bench = Bench::with(Fault::Trickle { bytes_per_second: 40 });
    let started = Instant::now();
    bench.send(PUT).client.read_exact(&mut [0; 4]).expect("an answer");
    // Six bytes at forty a second; a lower bound only, because a busy machine may take any time.
    assert!(started.elapsed() >= Duration::from_millis(140), "{:?}", started.elapsed());
    assert_eq!(bench.arrived().len(), 1);
}

#[test]
fn heads_and_bodies_are_changed_on_request() {
    let cases = [
        (
            Fault::StripRequestHeader("x-odd".to_owned()),
            "PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabcdef",
        ),
        (
            Fault::AddRequestHeader("X-New".to_owned(), "1".to_owned()),
            "PUT /b/k HTTP/1.1\r\nHost: x\r\nX-Odd:  kept \r\nContent-Length: 6\r\nX-New: 1\r\n\r\nabcdef",
        ),
        (Fault::CorruptBody, "PUT /b/k HTTP/1.1\r\nHost: x\r\nX-Odd:  kept \r\nContent-Length: 6\r\n\r\nabceef"),
    ];
    for (fault, arrives) in cases {
        let mut bench = Bench::with(fault);
        assert_eq!(bench.ask(PUT), ANSWER);
        assert_eq!(bench.arrived(), [arrives]);
    }
    let mut bench = Bench::with(Fault::StripAnswerHeader("etag".to_owned()));
    assert_eq!(bench.ask(PUT), "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789");
    let mut bench = Bench::with(Fault::AddAnswerHeader("X-New".to_owned(), "1".to_owned()));
    let answer = bench.ask(PUT);
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\nX-New: 1\r\n\r\n0123456789");
    bench.expect_plain_answer();
}

#[test]
fn the_first_fitting_rule_applies_to_the_calls_it_names() {
    let error = |code| Fault::Status { code, s3_code: "X", when: When::Before };
    let mut bench = Bench::new([
        Rule::on(S3Verb::GetObject, Calls::Nth(2), error(500)),
        Rule::any(Calls::All, error(501)).key_suffix(".json"),
        Rule::on(S3Verb::GetObject, Calls::From(2), error(503)),
    ]);
    for request in [GET, GET, GET, b"GET /b/m.json HTTP/1.1\r\n\r\n", PUT] {
        bench.ask(request);
    }
    let statuses = |bench: &Bench| bench.proxy.log().iter().map(|seen| seen.status).collect::<Vec<_>>();
    assert_eq!(statuses(&bench), [200, 500, 503, 501, 200].map(Some));
    bench.proxy.reset_counts();
    bench.ask(GET);
    bench.proxy.clear_rules();
    bench.ask(GET);
    assert_eq!(statuses(&bench)[5..], [200, 200].map(Some));
}

#[test]
fn an_outage_resets_old_and_new_connections() {
    let mut bench = Bench::new([]);
    bench.expect_plain_answer();
    bench.proxy.pause();
    assert_eq!(bench.rest().1, Some(ErrorKind::ConnectionReset));
    bench.client = TcpStream::connect(bench.proxy.address()).expect("accepted");
    assert_eq!(bench.rest().1, Some(ErrorKind::ConnectionReset));
    bench.proxy.resume();
    bench.client = TcpStream::connect(bench.proxy.address()).expect("accepted");
    bench.client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    bench.expect_plain_answer();
}
