//! The bytes of a connection that the peer has not acknowledged, from the kernel: they may not have arrived.
//!
//! Linux lists them for every TCP connection of the process's network namespace in `/proc/self/net/tcp` and `tcp6`, to
//! any user and in any container. Other systems do not. Called by [`super::watchdog`].

use std::net::{IpAddr, SocketAddr};

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Socket {
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// Bytes written to a connection and not acknowledged; `None` if the kernel does not say.
pub(super) fn unacknowledged(socket: Socket) -> Option<u64> {
    let table = if socket.local.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    find(&std::fs::read_to_string(table).ok()?, socket)
}

/// A line of the table begins `   0: 0100007F:1538 0100007F:D2F0 01 0000A3F0:00000000`: a number, both ends, the state,
/// and the bytes that wait to be acknowledged and to be read.
fn find(table: &str, socket: Socket) -> Option<u64> {
    let (local, remote) = (written(socket.local), written(socket.remote));
    let queue = table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        (fields.next()? == local && fields.next()? == remote).then(|| fields.nth(1))?
    })?;
    u64::from_str_radix(queue.split_once(':')?.0, 16).ok()
}

/// An address as the kernel prints it: 32-bit words in the machine's byte order.
fn written(address: SocketAddr) -> String {
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_ne_bytes).unwrap_or_default();
    let words =
        |octets: &[u8]| octets.chunks(4).fold(String::new(), |text, bytes| text + &format!("{:08X}", word(bytes)));
    let address_in_words = match address.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{address_in_words}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_connection_is_found_with_what_its_peer_has_not_acknowledged() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let mut stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
            let (mut peer, _) = listener.accept().expect("accepted");
            let ends = |stream: &TcpStream| Socket {
                local: stream.local_addr().expect("an address"),
                remote: stream.peer_addr().expect("an address"),
            };
            assert_eq!(unacknowledged(ends(&stream)), Some(0), "{host}");
            stream.set_nonblocking(true).expect("set");
            let written = std::iter::from_fn(|| stream.write(&[7; 8_192]).ok()).sum::<usize>();
            // The peer's kernel buffers a part; the rest stays here until the peer reads.
            let held = unacknowledged(ends(&stream)).expect("known");
            assert!(held > 0 && held <= written as u64, "{host}: {held} of {written}");
            peer.read_exact(&mut vec![0; written]).expect("all of it");
            assert_eq!(unacknowledged(ends(&stream)), Some(0), "{host}");
            drop(peer);
        }
        let unused = "127.0.0.1:9".parse().expect("an address");
        assert_eq!(unacknowledged(Socket { local: unused, remote: unused }), None);
    }
}
