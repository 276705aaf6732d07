//! Encrypts a stream piece by piece, or a short file at once.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use age::stream::StreamWriter;
use age::{Encryptor as Header, Recipient};

use super::{CHUNK, Recipients};

/// The most bytes that an encryptor holds: the chunk that it fills, and an encrypted one twice.
pub const MEMORY: u64 = 4 * CHUNK as u64;

/// age did not encrypt.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct EncryptError(#[from] io::Error);

/// Encrypts one stream. It is the only writer of the stream: age counts its chunks.
pub struct Encryptor {
    stream: StreamWriter<Output>,
    output: Output,
}

/// Where age writes to.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|output| output.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Encryptor {
    /// Starts a stream with a key of its own.
    ///
    /// # Errors
    /// If age refuses the recipients.
    pub fn new(recipients: &Recipients) -> Result<Self, EncryptError> {
        let each = recipients.0.iter().map(|recipient| recipient as &dyn Recipient);
        let header = Header::with_recipients(each).map_err(io::Error::other)?;
        let output = Output::default();
        Ok(Self { stream: header.wrap_output(output.clone())?, output })
    }

    /// Encrypts the next bytes, and hands what is ready to `take`.
    ///
    /// # Errors
    /// As `take`, or age's.
    pub fn encrypt<E: From<EncryptError>>(
        &mut self,
        plain: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for piece in plain.chunks(CHUNK) {
            self.stream.write_all(piece).map_err(EncryptError)?;
            drain(&self.output, &mut take)?;
        }
        Ok(())
    }

    /// Ends the stream, and hands its last bytes to `take`.
    ///
    /// # Errors
    /// As `take`, or age's.
    pub fn finish<E: From<EncryptError>>(self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.stream.finish().map_err(EncryptError)?;
        drain(&self.output, &mut take)
    }
}

fn drain<E>(output: &Output, take: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    output.with(|output| {
        let taken = if output.is_empty() { Ok(()) } else { take(output) };
        output.clear();
        taken
    })
}

/// Encrypts a file that is in memory.
///
/// # Errors
/// If age refuses the recipients.
pub fn encrypt(recipients: &Recipients, plain: &[u8]) -> Result<Vec<u8>, EncryptError> {
    let mut file = Vec::new();
    let mut take = |bytes: &[u8]| {
        file.extend_from_slice(bytes);
        Ok::<_, EncryptError>(())
    };
    let mut encryptor = Encryptor::new(recipients)?;
    encryptor.encrypt(plain, &mut take)?;
    encryptor.finish(&mut take)?;
    Ok(file)
}
