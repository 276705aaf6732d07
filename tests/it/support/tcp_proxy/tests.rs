//! The forwarder itself: what it lets pass, holds, slows down and cuts.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::TcpProxy;

/// Sends back whatever it gets, on every connection.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    address
}

fn connect(proxy: &TcpProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
    stream
}

/// Sends something to which nothing comes back for a moment.
#[track_caller]
fn assert_silent(stream: &TcpStream) {
    let wait = |time| stream.set_read_timeout(Some(time)).expect("a timeout");
    wait(Duration::from_millis(300));
    assert_eq!(ping(&mut &*stream).expect_err("silence").kind(), ErrorKind::WouldBlock);
    wait(Duration::from_mins(1));
}

fn ping(stream: &mut (impl Read + Write)) -> std::io::Result<()> {
    stream.write_all(b"ping")?;
    stream.read_exact(&mut [0; 4])
}

#[test]
fn it_forwards_and_cuts() {
    let proxy = TcpProxy::start(&echo());
    let mut stream = connect(&proxy);
    ping(&mut stream).expect("an echo");
    assert_eq!(proxy.bytes_to_client(), 4);
    proxy.cut();
    let error = stream.read(&mut [0; 4]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    ping(&mut connect(&proxy)).expect("a new connection works");
}

#[test]
fn a_slow_link_is_shared_by_its_connections() {
    let proxy = TcpProxy::start_slow(&echo(), 100_000);
    let began = std::time::Instant::now();
    let send = || {
        let mut stream = connect(&proxy);
        stream.write_all(&vec![7; 40_000]).expect("written");
        stream.read_exact(&mut vec![0; 40_000]).expect("the echo");
    };
    std::thread::scope(|scope| {
        scope.spawn(send);
        scope.spawn(send);
    });
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
}

#[test]
fn it_cuts_after_exactly_so_many_bytes() {
    let proxy = TcpProxy::start(&echo());
    proxy.cut_after_bytes(6);
    let mut stream = connect(&proxy);
    ping(&mut stream).expect("four of six bytes");
    stream.write_all(b"pong").expect("written");
    let mut rest = Vec::new();
    let error = stream.read_to_end(&mut rest).expect_err("a reset");
    assert_eq!((error.kind(), rest.as_slice()), (ErrorKind::ConnectionReset, b"po".as_slice()));
    assert_eq!(proxy.bytes_to_client(), 6);
    ping(&mut connect(&proxy)).expect("only once");
}

#[test]
fn it_holds_a_connection_that_has_carried_enough_and_no_other() {
    let proxy = TcpProxy::start(&echo());
    proxy.hold_after_bytes(8);
    let (mut busy, mut quiet) = (connect(&proxy), connect(&proxy));
    ping(&mut busy).expect("4 of 8 bytes");
    ping(&mut busy).expect("8 of 8 bytes");
    assert_silent(&busy);
    proxy.wait_until_held(Duration::from_secs(10));
    ping(&mut quiet).expect("the other goes on");
    proxy.let_go();
    busy.read_exact(&mut [0; 4]).expect("the late echo");
}

#[test]
fn it_is_closed_until_it_is_opened() {
    let proxy = TcpProxy::start_closed(&echo());
    let error = TcpStream::connect(proxy.address()).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    proxy.resume();
    proxy.wait_until_open();
    ping(&mut connect(&proxy)).expect("an echo");
}

#[test]
fn it_pauses_refuses_and_resumes() {
    let proxy = TcpProxy::start(&echo());
    let mut stream = connect(&proxy);
    proxy.pause();
    assert_silent(&stream);
    proxy.resume();
    stream.read_exact(&mut [0; 4]).expect("the late echo");
    proxy.refuse();
    assert!(ping(&mut connect(&proxy)).is_err());
    ping(&mut stream).expect("the old connection lives");
    proxy.resume();
    ping(&mut connect(&proxy)).expect("a new connection");
}
