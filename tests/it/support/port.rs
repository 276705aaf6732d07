//! Ports of this host that no other process gets: for servers that come, go, and come back. A port that is merely free now may be
//! another test's a moment later, as a listener's or as the near end of any connection.

use std::sync::{Mutex, PoisonError};

use tokio::net::TcpSocket;

/// A loopback port without a listener: connections are refused until a test starts a listener there. It stays
/// this test process's own to its end.
///
/// A socket is bound there that never listens. The system never assigns its port to a process that asks for any port, and lets others
/// listen there who ask for just this one, as long as they set `SO_REUSEADDR`: every server here does.
///
/// # Panics
/// Where no port can be had.
pub fn own_port() -> u16 {
    static HELD: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a port that others may listen on");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free loopback port");
    let port = socket.local_addr().expect("its address").port();
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    port
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::own_port;

    #[test]
    fn a_port_is_closed_before_and_after_a_listener() {
        let address = ("127.0.0.1", own_port());
        let refused = || TcpStream::connect(address).expect_err("no listener").kind() == ErrorKind::ConnectionRefused;
        for host in ["127.0.0.1", "0.0.0.0", "::"] {
            assert!(refused(), "before {host}");
            let listener = TcpListener::bind((host, address.1)).expect("it may be listened on");
            let _client = TcpStream::connect(address).expect("a connection");
            drop(listener);
        }
        assert!(refused());
    }

    #[test]
    fn an_owned_port_is_never_assigned_to_others() {
        let owned: BTreeSet<u16> = (0..50).map(|_| own_port()).collect();
        assert_eq!(owned.len(), 50, "each is another");
        let listeners: Vec<TcpListener> =
            (0..2_000).map(|_| TcpListener::bind("127.0.0.1:0").expect("any port")).collect();
        let taken = listeners.iter().map(|listener| listener.local_addr().expect("its address").port());
        assert_eq!(taken.filter(|port| owned.contains(port)).collect::<Vec<_>>(), [0_u16; 0]);
    }
}
