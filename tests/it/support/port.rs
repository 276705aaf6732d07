//! Ports of this host that no other process gets, for servers that stop and start. Another test could take a port that is only
//! free now, for a listener or as the local end of a connection.

use std::sync::{Mutex, PoisonError};

use tokio::net::TcpSocket;

/// A loopback port without a listener: connections are refused until a test starts a listener there. It is reserved until
/// this test process ends.
///
/// It binds a socket that never listens. The system never assigns this port to a process that asks for any port, but a process
/// that asks for it may listen there with `SO_REUSEADDR`: every server here sets it.
///
/// # Panics
/// If there is no free port.
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
