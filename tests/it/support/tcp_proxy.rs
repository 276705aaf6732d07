//! [`TcpProxy`]: a TCP forwarder that resets, stalls and refuses connections to the database (or any server). Used by the tests
//! of broken and silent database connections, and as a slow link to S3. It forwards any protocol, also TLS.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::background::{Background, read_some, reset_on_close, write_all};
use super::client::eventually;

const BUFFER_BYTES: usize = 64 * 1024;
/// The buffer of a slow link, and of its kernel sockets: with larger ones it would seem fast.
const SLOW_BYTES: u32 = 16 * 1024;
/// "No limit" for the bytes that may still pass.
const UNLIMITED: u64 = u64::MAX;

/// A running forwarder; dropping it closes every connection.
#[derive(Debug)]
pub struct TcpProxy {
    state: Arc<State>,
    address: SocketAddr,
    _background: Background,
}

#[derive(Debug)]
struct State {
    upstream: String,
    mode: watch::Sender<Mode>,
    /// Incremented by every cut; a connection ends when it changes.
    cuts: watch::Sender<u64>,
    /// Bytes from server to client until the next cut.
    budget: AtomicU64,
    to_client: AtomicU64,
    /// A connection stalls after so many bytes to its client.
    hold: watch::Sender<u64>,
    /// Stalled connections.
    held: AtomicU64,
    /// The bandwidth of a slow link.
    uplink: Option<Uplink>,
}

/// The bandwidth from clients to the server, shared by all connections.
#[derive(Debug)]
struct Uplink {
    bytes_per_second: u32,
    /// The time when the link is free again.
    free: Mutex<Instant>,
}

impl Uplink {
    /// Waits until so many bytes have been sent.
    async fn carry(&self, bytes: usize) {
        let takes = Duration::from_secs(1) * u32::try_from(bytes).expect("a buffer's size") / self.bytes_per_second;
        let done = {
            let mut free = self.free.lock().expect("no panic");
            *free = Instant::now().max(*free) + takes;
            *free
        };
        tokio::time::sleep_until(done.into()).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Forward,
    Paused,
    Refusing,
    /// There is no listener yet.
    Closed,
}

impl TcpProxy {
    /// Starts a forwarder on a free loopback port to `upstream` (`host:port`).
    ///
    /// # Panics
    /// If there is no free port, or no thread can start.
    pub fn start(upstream: &str) -> Self {
        let state = State::new(upstream, Mode::Forward);
        let shared = Arc::clone(&state);
        let (address, background) = Background::listen("tcp-proxy", move |listener| accept(listener, shared));
        Self { state, address, _background: background }
    }

    /// Starts a forwarder over a link with so many bytes per second, shared by all clients.
    ///
    /// # Panics
    /// If there is no free port, or no thread can start.
    pub fn start_slow(upstream: &str, bytes_per_second: u32) -> Self {
        let uplink = Uplink { bytes_per_second, free: Mutex::new(Instant::now()) };
        let state = Arc::new(State { uplink: Some(uplink), ..State::of(upstream, Mode::Forward) });
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(SLOW_BYTES).expect("set");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free loopback port");
        let address = socket.local_addr().expect("its address");
        let shared = Arc::clone(&state);
        let (listens, listening) = std::sync::mpsc::channel();
        let serve = move || async move {
            let listener = socket.listen(128).expect("a listener");
            listens.send(()).expect("a receiver waits for it");
            accept(listener, shared).await;
        };
        let background = Background::run("slow-link", serve);
        listening.recv().expect("the slow link listens");
        Self { state, address, _background: background }
    }

    /// Starts a forwarder with a reserved port but no listener until [`Self::resume`]: the kernel refuses every connection.
    /// ([`Self::refuse`] accepts a connection and resets it.)
    ///
    /// # Panics
    /// If there is no free port, or no thread can start.
    pub fn start_closed(upstream: &str) -> Self {
        let state = State::new(upstream, Mode::Closed);
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free loopback port");
        let address = socket.local_addr().expect("its address");
        let shared = Arc::clone(&state);
        let serve = move || async move {
            // The state owns the sender.
            let _ = shared.mode.subscribe().wait_for(|mode| *mode != Mode::Closed).await;
            accept(socket.listen(128).expect("a listener"), shared).await;
        };
        Self { state, address, _background: Background::run("tcp-proxy", serve) }
    }

    /// The address to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The host to connect to.
    pub fn host(&self) -> String {
        self.address.ip().to_string()
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Bytes that went from server to client so far, over all connections.
    pub fn bytes_to_client(&self) -> u64 {
        self.state.to_client.load(Ordering::SeqCst)
    }

    /// Resets every open connection now; new ones are served.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Resets all open connections, once, after `bytes` more from server to clients, over all connections.
    pub fn cut_after_bytes(&self, bytes: u64) {
        self.state.budget.store(bytes, Ordering::SeqCst);
    }

    /// Stalls: connections stay open, new ones are accepted, nothing is forwarded.
    pub fn pause(&self) {
        self.state.mode.send_replace(Mode::Paused);
    }

    /// Accepts and then resets every new connection; open ones continue (see
    /// [`Self::cut`]).
    pub fn refuse(&self) {
        self.state.mode.send_replace(Mode::Refusing);
    }

    /// Stalls each connection, in both directions, after `bytes` to its client.
    pub fn hold_after_bytes(&self, bytes: u64) {
        self.state.hold.send_replace(bytes);
    }

    /// Waits until a connection is stalled.
    ///
    /// # Panics
    /// If `timeout` is over.
    pub fn wait_until_held(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.state.held.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "no connection is held after {timeout:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resumes stalled connections, and stalls no others.
    pub fn let_go(&self) {
        self.state.hold.send_replace(UNLIMITED);
        self.state.held.store(0, Ordering::SeqCst);
    }

    /// Forwards and accepts again.
    pub fn resume(&self) {
        self.state.mode.send_replace(Mode::Forward);
    }

    /// Waits for a listener on the port of [`Self::start_closed`].
    ///
    /// # Panics
    /// If there is none within a minute.
    pub fn wait_until_open(&self) {
        let is_open = || std::net::TcpStream::connect(self.address).is_ok();
        eventually(is_open, || format!("no listener on {}", self.address));
    }
}

impl State {
    fn new(upstream: &str, mode: Mode) -> Arc<Self> {
        Arc::new(Self::of(upstream, mode))
    }

    fn of(upstream: &str, mode: Mode) -> Self {
        Self {
            upstream: upstream.to_owned(),
            mode: watch::Sender::new(mode),
            cuts: watch::Sender::new(0),
            budget: AtomicU64::new(UNLIMITED),
            to_client: AtomicU64::new(0),
            hold: watch::Sender::new(UNLIMITED),
            held: AtomicU64::new(0),
            uplink: None,
        }
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Returns how many of `wanted` bytes may still pass to a client, and whether the cut comes after them.
    fn spend(&self, wanted: usize) -> (usize, bool) {
        let limit = wanted as u64;
        let take = |left: u64| (left != UNLIMITED).then(|| left.saturating_sub(limit));
        match self.budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(left) => (usize::try_from(left).unwrap_or(usize::MAX).min(wanted), left <= limit),
            Err(_) => (wanted, false),
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if *state.mode.borrow() == Mode::Refusing {
            reset_on_close(&client);
            continue;
        }
        tokio::spawn(serve(client, Arc::clone(&state)));
    }
}

async fn serve(client: TcpStream, state: Arc<State>) {
    let mut cuts = state.cuts.subscribe();
    let Ok(server) = connect(&state.upstream).await else {
        return reset_on_close(&client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let carried = AtomicU64::new(0);
    let was_cut = tokio::select! {
        biased;
        _ = cuts.changed() => true,
        () = to_server(&client, &server, (&state, &carried)) => false,
        () = to_client(&server, &client, (&state, &carried)) => false,
    };
    if was_cut {
        reset_on_close(&client);
        reset_on_close(&server);
    }
}

/// Connects with a small receive buffer: by default the kernel would buffer tens of megabytes.
async fn connect(upstream: &str) -> std::io::Result<TcpStream> {
    let address = tokio::net::lookup_host(upstream).await?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(256 * 1024)?;
    socket.connect(address).await
}

/// Ends if either side closes or fails; the database's protocol has no half-closed connections.
async fn to_server(client: &TcpStream, server: &TcpStream, (state, carried): (&State, &AtomicU64)) {
    let mut gate = Gate::of(state, carried);
    let mut buffer = vec![0; if state.uplink.is_some() { SLOW_BYTES as usize } else { BUFFER_BYTES }];
    while let Ok(count @ 1..) = read_some(client, &mut buffer).await {
        gate.pass().await;
        if let Some(uplink) = &state.uplink {
            uplink.carry(count).await;
        }
        if write_all(server, &buffer[..count]).await.is_err() {
            return;
        }
    }
    // While it stalls, it does not forward the end of the connection either.
    gate.pass().await;
}

async fn to_client(server: &TcpStream, client: &TcpStream, (state, carried): (&State, &AtomicU64)) {
    let mut gate = Gate::of(state, carried);
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = read_some(server, &mut buffer).await {
        gate.pass().await;
        let (allowed, is_last) = state.spend(count);
        state.to_client.fetch_add(allowed as u64, Ordering::SeqCst);
        carried.fetch_add(allowed as u64, Ordering::SeqCst);
        if write_all(client, &buffer[..allowed]).await.is_err() {
            return;
        }
        if is_last {
            state.budget.store(UNLIMITED, Ordering::SeqCst);
            // Waits until the allowed bytes reach the client, before the RST.
            tokio::time::sleep(Duration::from_millis(20)).await;
            state.cut();
            return std::future::pending().await;
        }
    }
    gate.pass().await;
}

/// Blocks bytes while nothing is forwarded.
struct Gate<'a> {
    mode: watch::Receiver<Mode>,
    hold: watch::Receiver<u64>,
    state: &'a State,
    carried: &'a AtomicU64,
}

impl<'a> Gate<'a> {
    fn of(state: &'a State, carried: &'a AtomicU64) -> Self {
        Self { mode: state.mode.subscribe(), hold: state.hold.subscribe(), state, carried }
    }

    async fn pass(&mut self) {
        let is_open = |limit: &u64| self.carried.load(Ordering::SeqCst) < *limit;
        if !is_open(&self.hold.borrow_and_update()) {
            self.state.held.fetch_add(1, Ordering::SeqCst);
            let _ = self.hold.wait_for(is_open).await;
        }
        let _ = self.mode.wait_for(|mode| *mode != Mode::Paused).await;
    }
}

#[cfg(test)]
mod tests;
