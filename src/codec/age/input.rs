//! What age reads from: the bytes that were given, at their offsets in the object.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

/// A window of the object. After its last byte age must wait for more, until the end. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Input(Arc<Mutex<Window>>);

#[derive(Default)]
struct Window {
    /// Offset in the object of the first byte.
    at: u64,
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
            window.at += window.read as u64;
            window.read = 0;
            window.bytes.extend_from_slice(bytes);
        });
    }

    /// Gives the bytes at another offset, instead of those that were given.
    pub fn give_at(&self, at: u64, bytes: Vec<u8>) {
        self.with(|window| *window = Window { at, bytes, ..Window::default() });
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

/// age seeks to the first chunk that is needed, and asks for the offset of the first of all.
impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.with(|window| match to {
            SeekFrom::Current(0) => Ok(window.at + window.read as u64),
            SeekFrom::Start(offset) => {
                let read = offset.checked_sub(window.at).and_then(|read| usize::try_from(read).ok());
                let read = read.filter(|read| *read <= window.bytes.len());
                window.read = read.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
                Ok(offset)
            }
            SeekFrom::Current(_) | SeekFrom::End(_) => Err(io::ErrorKind::Unsupported.into()),
        })
    }
}
