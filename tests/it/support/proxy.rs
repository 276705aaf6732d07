//! [`FaultProxy`]: an HTTP/1.1 proxy between the program and a real S3 server. It forwards heads unchanged (the `Host` header
//! is signed), counts and logs every request, and applies the fault of a [`Rule`]. Used by the fault tests of every command.
//! Path-style addresses, no TLS.
//!
//! A request is logged when its head is read; its status is set when the answer's head is sent. If the S3 server is
//! unreachable, the proxy resets the client's connection.

mod desk;
mod dialect;
mod http;
mod plan;
mod relay;
mod rules;
mod session;
#[cfg(test)]
mod tests;
mod verb;
mod xml;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::background::{Background, reset_on_close};
use desk::Desk;
pub use desk::Seen;
pub use dialect::{Etag, Habit, Uploads};
pub use http::has_no_body;
pub use rules::{Calls, Fault, ResetAt, Rule, StallAt, When};
pub use session::{Session, signed_head};
pub use verb::S3Verb;

/// A running proxy; dropping it closes every connection.
#[derive(Debug)]
pub struct FaultProxy {
    desk: Arc<Desk>,
    outage: watch::Sender<Outage>,
    connections: Arc<AtomicUsize>,
    address: SocketAddr,
    // The last field, so that connections end before the other fields.
    _background: Background,
}

/// Whether the proxy resets all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    No,
    Yes,
}

impl FaultProxy {
    /// Starts a proxy on a free loopback port for the S3 server at `upstream` (`host:port`).
    ///
    /// # Panics
    /// If there is no free port, or no thread can start.
    pub fn start(upstream: &str) -> Self {
        let desk = Arc::new(Desk::new(upstream));
        let connections = Arc::new(AtomicUsize::new(0));
        let (outage, state) = watch::channel(Outage::No);
        let shared = (Arc::clone(&desk), Arc::clone(&connections));
        let (address, background) = Background::listen("fault-proxy", move |listener| accept(listener, shared, state));
        Self { desk, outage, connections, address, _background: background }
    }

    /// The program's S3 endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The proxy's own address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Appends a rule; the first that matches a request is applied.
    pub fn rule(&self, rule: Rule) -> &Self {
        self.desk.rules().push(rule);
        self
    }

    /// Answers like another S3 server from now on: with these habits, for every request without a rule.
    pub fn speak(&self, habits: &[Habit]) -> &Self {
        *self.desk.dialect() = dialect::Dialect::new(habits);
        self
    }

    /// Also accepts requests that are signed with these temporary credentials, which the server does not know.
    pub fn accept(&self, session: &Session) -> &Self {
        self.desk.sessions().push(session.clone());
        self
    }

    /// Removes all rules. Requests that already have a fault keep it.
    pub fn clear_rules(&self) {
        self.desk.rules().clear();
    }

    /// Restarts the count of calls at 1, for rules and [`Seen::call`]; the log stays.
    pub fn reset_counts(&self) {
        self.desk.reset_counts();
    }

    /// Returns the requests so far, in the order of their heads.
    pub fn log(&self) -> Vec<Seen> {
        self.desk.log()
    }

    /// Counts the requests of this verb, with and without a fault.
    pub fn count(&self, verb: S3Verb) -> usize {
        self.desk.count(verb)
    }

    /// Waits until `count` requests of this verb have come.
    ///
    /// # Panics
    /// If `timeout` is over.
    pub fn wait_for(&self, verb: S3Verb, count: usize, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.count(verb) < count {
            assert!(Instant::now() < deadline, "no {count} x {verb:?} within {timeout:?}; seen: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Continues every request that waits because of [`Fault::Hold`], and makes no more wait.
    pub fn release(&self) {
        self.desk.release();
    }

    /// Starts an outage: resets open connections, and accepts and resets new ones. Returns when all are closed.
    pub fn pause(&self) {
        self.outage.send_replace(Outage::Yes);
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.connections.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the outage.
    pub fn resume(&self) {
        self.outage.send_replace(Outage::No);
    }
}

async fn accept(listener: TcpListener, shared: (Arc<Desk>, Arc<AtomicUsize>), outage: watch::Receiver<Outage>) {
    let (desk, connections) = shared;
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // For example out of file descriptors: wait instead of spinning.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let open = Open::count(&connections);
        let (desk, mut outage) = (Arc::clone(&desk), outage.clone());
        tokio::spawn(async move {
            let _open = open;
            serve(client, &desk, &mut outage).await;
        });
    }
}

async fn serve(client: TcpStream, desk: &Arc<Desk>, outage: &mut watch::Receiver<Outage>) {
    let client = Arc::new(client);
    // Without it, an answer's body waits for the client's delayed acknowledgement of its head.
    let _ = client.set_nodelay(true);
    tokio::select! {
        biased;
        _ = outage.wait_for(|state| *state == Outage::Yes) => reset_on_close(&client),
        () = relay::serve(Arc::clone(&client), desk) => {}
    }
}

/// Counts an open connection.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn count(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(connections))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
