//! A writer that holds back the end of a stream until it is released, so that no reader gets a complete unverified dump.

use std::io::{self, Write};

/// The number of bytes that are held back.
const HELD: usize = 64 << 10;
/// The number of bytes that are written at once.
const CHUNK: usize = 64 << 10;

/// Writes everything except the last [`HELD`] bytes.
#[derive(Debug)]
pub(super) struct HoldBack<W> {
    inner: W,
    held: Vec<u8>,
}

impl<W: Write> HoldBack<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, held: Vec::with_capacity(HELD + 2 * CHUNK) }
    }

    /// Writes the rest.
    pub fn release(mut self) -> io::Result<()> {
        self.hand_on(self.held.len())?;
        self.inner.flush()
    }

    fn hand_on(&mut self, count: usize) -> io::Result<()> {
        self.inner.write_all(&self.held[..count])?;
        self.held.drain(..count);
        Ok(())
    }
}

impl<W: Write> Write for HoldBack<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = &bytes[..bytes.len().min(CHUNK)];
        self.held.extend_from_slice(taken);
        if self.held.len() >= HELD + CHUNK {
            self.hand_on(self.held.len() - HELD)?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_come_when_they_are_released() {
        for size in [0, 1, HELD, HELD + 1, HELD + CHUNK, 3 * CHUNK + HELD + 7] {
            let bytes: Vec<u8> = (0..size).map(|index| u8::try_from(index % 251).expect("small")).collect();
            let mut out = Vec::new();
            let mut stream = HoldBack::new(&mut out);
            bytes.chunks(10_007).for_each(|piece| stream.write_all(piece).expect("to memory"));
            let (before, held) = (stream.inner.len(), stream.held.len());
            assert!(held >= HELD.min(size) && before + held == size, "{size}: {before} + {held}");
            stream.release().expect("to memory");
            assert!(out == bytes, "{size}");
        }
    }
}
