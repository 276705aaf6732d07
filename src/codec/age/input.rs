//! What age reads from: the bytes that were given.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// Without more bytes, age must wait, until the end. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Input(Arc<Mutex<Window>>);

#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    read: usize,
    has_ended: bool,
}

impl Input {
    fn with<T>(&self, work: impl FnOnce(&mut Window) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives the bytes that follow.
    pub fn give(&self, bytes: &[u8]) {
        self.with(|window| {
            window.bytes.drain(..window.read);
            window.read = 0;
            window.bytes.extend_from_slice(bytes);
        });
    }

    /// No bytes follow.
    pub fn end(&self) {
        self.with(|window| window.has_ended = true);
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|window| {
            let mut rest = &window.bytes[window.read..];
            if rest.is_empty() && !window.has_ended {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = rest.read(buffer)?;
            window.read += count;
            Ok(count)
        })
    }
}
