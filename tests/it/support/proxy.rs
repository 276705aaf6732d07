//! [`FaultProxy`]: an HTTP/1.1 proxy on the wire between the program and a real S3 server. It passes heads on byte for byte (the
//! `Host` header is signed), counts and logs every request, and does to some of them what a [`Rule`] says. Used by the fault
//! tests of every command. Path-style addresses, no TLS.
//!
//! A request counts in the log from its head on; its status is set when the answer's head goes out. Where the S3 server itself
//! cannot be reached, the client's connection is reset.

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
    // Last, so that the rest of the proxy outlives its connections.
    _background: Background,
}

/// Whether the S3 server can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    No,
    Yes,
}

impl FaultProxy {
    /// Starts a proxy on a free loopback port in front of the S3 server at `upstream` (`host:port`).
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

    /// What the program is given as its S3 endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The proxy's own address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a rule after those already there; the first that fits a request is applied.
    pub fn rule(&self, rule: Rule) -> &Self {
        self.desk.rules().push(rule);
        self
    }

    /// Talks like another store from now on: all of these habits, on every request that no rule is for.
    pub fn speak(&self, habits: &[Habit]) -> &Self {
        *self.desk.dialect() = dialect::Dialect::new(habits);
        self
    }

    /// Takes requests that are signed with these temporary credentials, too, which the server itself does not know.
    pub fn accept(&self, session: &Session) -> &Self {
        self.desk.sessions().push(session.clone());
        self
    }

    /// Forgets all rules. Requests that already have their fault keep it.
    pub fn clear_rules(&self) {
        self.desk.rules().clear();
    }

    /// Lets the counting of calls begin anew at 1, for rules and [`Seen::call`]; the log stays.
    pub fn reset_counts(&self) {
        self.desk.reset_counts();
    }

    /// Every request so far, in the order in which their heads came.
    pub fn log(&self) -> Vec<Seen> {
        self.desk.log()
    }

    /// How many requests of this verb came, with or without a fault.
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

    /// Lets go on every request that waits by [`Fault::Hold`], and whatever would wait from now on.
    pub fn release(&self) {
        self.desk.release();
    }

    /// Begins an outage: every open connection is reset, every new one is accepted and reset. Returns when all are gone.
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
            // Out of file descriptors, say: wait for some to come back instead of spinning.
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

/// Counts a connection while it lives.
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
