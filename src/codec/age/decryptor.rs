//! Decrypts a stream piece by piece, or a short file at once. Every byte that it returns is authenticated by its chunk's tag.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use age::stream::StreamReader;
use age::{DecryptError as Refusal, Decryptor as Header};

use super::{CHUNK, Identities};

/// The first line of every file.
const BEGINNING: &[u8] = b"age-encryption.org/v1\n";
/// What the last line of the header begins with.
const LAST_LINE: &[u8] = b"\n---";
/// The nonce after the header.
const NONCE: usize = 16;
/// A header of more is damage: it would hold thousands of recipients.
const LARGEST_HEADER: usize = 1 << 20;

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

/// What age reads from: the bytes that were given. Without more of them it must wait, until the end.
#[derive(Clone, Default)]
struct Input(Arc<Mutex<Given>>);

#[derive(Default)]
struct Given {
    bytes: Vec<u8>,
    read: usize,
    has_ended: bool,
}

impl Input {
    fn with<T>(&self, work: impl FnOnce(&mut Given) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn give(&self, bytes: &[u8]) {
        self.with(|given| {
            given.bytes.drain(..given.read);
            given.read = 0;
            given.bytes.extend_from_slice(bytes);
        });
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|given| {
            let mut rest = &given.bytes[given.read..];
            if rest.is_empty() && !given.has_ended {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = rest.read(buffer)?;
            given.read += count;
            Ok(count)
        })
    }
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
                if header.iter().zip(BEGINNING).any(|(byte, wanted)| byte != wanted) || header.len() > LARGEST_HEADER {
                    return Err(DecryptError::Damaged("it does not begin as a file of age".to_owned()).into());
                }
                if !is_complete(header) {
                    return Ok(());
                }
                self.state = opened(header, &self.identities)?;
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
                input.with(|given| given.has_ended = true);
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

/// Whether the bytes hold the header and the nonce.
fn is_complete(bytes: &[u8]) -> bool {
    let last = bytes.windows(LAST_LINE.len()).position(|window| window == LAST_LINE);
    let end = last.and_then(|at| Some(at + 1 + bytes[at + 1..].iter().position(|byte| *byte == b'\n')?));
    end.is_some_and(|end| bytes.len() > end + NONCE)
}

fn opened(header: &[u8], identities: &Identities) -> Result<State, DecryptError> {
    let input = Input::default();
    input.give(header);
    let stream = Header::new(input.clone()).and_then(|header| header.decrypt(identities.each()));
    match stream {
        Ok(stream) => Ok(State::Stream(Box::new(stream), input)),
        Err(Refusal::NoMatchingKeys) => Err(DecryptError::WrongIdentity),
        Err(_) => Err(DecryptError::Damaged("its header is not what was written".to_owned())),
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
