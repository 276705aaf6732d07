//! Decrypts a stream piece by piece, or a short file at once. Every byte that it returns is authenticated by its chunk's tag.

use std::io::{self, Read};

use age::stream::StreamReader;

use super::header::{header_length, opened};
use super::input::Input;
use super::{CHUNK, Identities};

/// Why a stream was not decrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// It is encrypted for others.
    #[error("no identity in BACKUP_AGE_IDENTITY opens it")]
    WrongIdentity,
    /// It is not what was encrypted.
    #[error("{0}")]
    Damaged(String),
}

/// Decrypts one stream.
pub struct Decryptor {
    identities: Identities,
    state: State,
    /// Bytes that were given.
    bytes: u64,
}

enum State {
    /// The header is not complete.
    Header(Vec<u8>),
    Stream(Box<StreamReader<Input>>, Input),
}

impl Decryptor {
    /// Starts before the first byte.
    #[must_use]
    pub fn new(identities: Identities) -> Self {
        Self { identities, state: State::Header(Vec::new()), bytes: 0 }
    }

    /// Decrypts the next bytes, and hands what is authentic to `take`.
    ///
    /// # Errors
    /// As `take`, or the damage. Nothing may be decrypted after it.
    pub fn decrypt<E: From<DecryptError>>(
        &mut self,
        piece: &[u8],
        take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.bytes += piece.len() as u64;
        match &mut self.state {
            State::Stream(_, input) => input.give(piece),
            State::Header(header) => {
                header.extend_from_slice(piece);
                if header_length(header)?.is_none() {
                    return Ok(());
                }
                let (stream, input) = opened(header, &self.identities)?;
                self.state = State::Stream(Box::new(stream), input);
            }
        }
        self.read(take)
    }

    /// Ends the stream after its last byte.
    ///
    /// # Errors
    /// As `take`, or if the stream has not ended.
    pub fn finish<E: From<DecryptError>>(&mut self, take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        match &self.state {
            State::Header(_) => {
                Err(DecryptError::Damaged(format!("its header has not ended after {} bytes", self.bytes)).into())
            }
            State::Stream(_, input) => {
                input.end();
                self.read(take)
            }
        }
    }

    fn read<E: From<DecryptError>>(&mut self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let State::Stream(stream, _) = &mut self.state else { return Ok(()) };
        let mut buffer = vec![0; CHUNK];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => take(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(DecryptError::Damaged(format!("it has not ended after {} bytes", self.bytes)).into());
                }
                Err(_) => {
                    let why = format!("a chunk before byte {} is not what was encrypted", self.bytes);
                    return Err(DecryptError::Damaged(why).into());
                }
            }
        }
    }
}

/// Decrypts a file that is in memory.
///
/// # Errors
/// If no identity opens it, or it is damaged.
pub fn decrypt(identities: &Identities, file: &[u8]) -> Result<Vec<u8>, DecryptError> {
    let mut plain = Vec::new();
    let mut take = |bytes: &[u8]| {
        plain.extend_from_slice(bytes);
        Ok::<_, DecryptError>(())
    };
    let mut decryptor = Decryptor::new(identities.clone());
    decryptor.decrypt(file, &mut take)?;
    decryptor.finish(&mut take)?;
    Ok(plain)
}
