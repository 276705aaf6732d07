//! [`TcpProxy`]: a plain TCP forwarder in front of the database (or anything else) that cuts, stalls and refuses connections.
//! Used by the tests of a dying or silent database connection, and as a slow link to S3. It understands nothing of what it
//! carries, TLS included.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::background::{Background, read_some, reset_on_close, write_all};
use super::client::eventually;

const BUFFER_BYTES: usize = 64 * 1024;
/// What a slow link takes at once, and what its kernel buffers hold of a connection: more would hide that it is slow.
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
    /// Raised by every cut; a connection dies when it changes.
    cuts: watch::Sender<u64>,
    /// Bytes from server to client until the next cut.
    budget: AtomicU64,
    to_client: AtomicU64,
    /// A connection that has carried so many bytes to its client falls silent.
    hold: watch::Sender<u64>,
    /// Connections that have.
    held: AtomicU64,
    /// Of a slow link.
    uplink: Option<Uplink>,
}

/// What goes from client to server over all connections together.
#[derive(Debug)]
struct Uplink {
    bytes_per_second: u32,
    /// When it is free again.
    free: Mutex<Instant>,
}

impl Uplink {
    /// Waits until so many bytes have gone over it.
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
    /// Where no port or thread can be had.
    pub fn start(upstream: &str) -> Self {
        let state = State::new(upstream, Mode::Forward);
        let shared = Arc::clone(&state);
        let (address, background) = Background::listen("tcp-proxy", move |listener| accept(listener, shared));
        Self { state, address, _background: background }
    }

    /// A forwarder over a link that takes so many bytes a second from all clients together.
    ///
    /// # Panics
    /// Where no port or thread can be had.
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

    /// A forwarder with a taken port and no listener until [`Self::resume`]: the kernel refuses every connection,
    /// which [`Self::refuse`] cannot do, as its connections live for a moment.
    ///
    /// # Panics
    /// Where no port or thread can be had.
    pub fn start_closed(upstream: &str) -> Self {
        let state = State::new(upstream, Mode::Closed);
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free loopback port");
        let address = socket.local_addr().expect("its address");
        let shared = Arc::clone(&state);
        let serve = move || async move {
            // The sender lives as long as the state.
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

    /// Resets every open connection once `bytes` more have gone from server to client, over all connections together. Once.
    pub fn cut_after_bytes(&self, bytes: u64) {
        self.state.budget.store(bytes, Ordering::SeqCst);
    }

    /// Falls silent: connections stay open, new ones are accepted, nothing is forwarded.
    pub fn pause(&self) {
        self.state.mode.send_replace(Mode::Paused);
    }

    /// Resets every new connection as soon as it is there (to a client, it was there for a moment); open ones live on (see
    /// [`Self::cut`]).
    pub fn refuse(&self) {
        self.state.mode.send_replace(Mode::Refusing);
    }

    /// Falls silent on each connection that has carried `bytes` to its client, both ways; the others go on.
    pub fn hold_after_bytes(&self, bytes: u64) {
        self.state.hold.send_replace(bytes);
    }

    /// Waits until a connection is held.
    ///
    /// # Panics
    /// Where none is within `timeout`.
    pub fn wait_until_held(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.state.held.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "no connection is held after {timeout:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Forwards on the connections that are held, and holds no others.
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
    /// Where there is none within a minute.
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

    /// How many of `wanted` bytes may still pass to a client, and whether the cut comes right after them.
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

/// With a receive buffer of a known size: the kernel's own grows to tens of megabytes, and what is held would not be.
async fn connect(upstream: &str) -> std::io::Result<TcpStream> {
    let address = tokio::net::lookup_host(upstream).await?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(256 * 1024)?;
    socket.connect(address).await
}

/// Ends where either side closes or fails; the database's protocol has no half-closed connections.
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
    // Neither does a farewell pass where nothing passes.
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
            // Lets the allowed bytes reach the client before the RST overtakes them.
            tokio::time::sleep(Duration::from_millis(20)).await;
            state.cut();
            return std::future::pending().await;
        }
    }
    gate.pass().await;
}

/// Where bytes wait while nothing is forwarded.
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
