//! A thread with a small tokio runtime, so that the proxies work with plain `#[test]` functions. Used by
//! [`super::proxy`] and [`super::tcp_proxy`].

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A running background thread; dropping it ends all its tasks and closes all its connections.
#[derive(Debug)]
pub struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Listens on a free loopback port and runs `serve` with that listener on a new thread.
    ///
    /// # Panics
    /// If there is no free port, or no thread or runtime can start.
    pub fn listen<F, S>(name: &str, serve: S) -> (SocketAddr, Self)
    where
        S: FnOnce(TcpListener) -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let listener = StdListener::bind(("127.0.0.1", 0)).expect("a free loopback port");
        let address = listener.local_addr().expect("the listener's address");
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let serve = move || async move { serve(TcpListener::from_std(listener).expect("the listener in tokio")).await };
        (address, Self::run(name, serve))
    }

    /// Runs `serve` on a new thread.
    ///
    /// # Panics
    /// If no thread or runtime can start.
    pub fn run<F, S>(name: &str, serve: S) -> Self
    where
        S: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let (stop, stopped) = oneshot::channel();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a tokio runtime");
            runtime.block_on(async move {
                tokio::select! {
                    () = serve() => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread");
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread printed its own panic; a second one inside a drop would abort.
            let _ = thread.join();
        }
    }
}

/// Makes dropping this stream send a RST instead of a FIN.
pub fn reset_on_close(stream: &TcpStream) {
    // It fails only on a socket that is already closed.
    let _ = stream.set_zero_linger();
}

/// Writes all of `bytes` through a shared reference, so that one task may read the same stream meanwhile.
///
/// # Errors
/// If the peer is gone.
pub async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads some bytes through a shared reference; returns 0 at the end of the stream.
///
/// # Errors
/// If the connection was reset.
pub async fn read_some(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}
