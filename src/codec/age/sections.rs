//! Decrypts sections of an encrypted stream. age encrypts in chunks, each with its number, so that a section needs only the chunks
//! that hold it.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use age::stream::StreamReader;

use super::header::{header_length, opened};
use super::input::Input;
use super::{CHUNK, DecryptError, Identities};

/// A chunk in the stream before encryption.
const PLAIN: u64 = CHUNK as u64;
/// The tag of a chunk, which authenticates it.
const TAG: u64 = 16;
/// A chunk in the object.
const STORED: u64 = PLAIN + TAG;

/// An encrypted stream that identities open; cheap to clone.
#[derive(Clone, Debug)]
pub struct Sections {
    identities: Identities,
    /// The header, and the nonce after it.
    header: Arc<[u8]>,
    /// Length of the stream before encryption.
    bytes: u64,
}

impl Sections {
    /// Opens an object of which these are the first bytes, and that holds a stream of this length. `None` if its header is longer.
    ///
    /// # Errors
    /// If no identity opens it, or the header is damaged.
    pub fn open(first: &[u8], identities: &Identities, bytes: u64) -> Result<Option<Self>, DecryptError> {
        let Some(length) = header_length(first)? else { return Ok(None) };
        let header = &first[..length];
        opened(header, identities)?;
        Ok(Some(Self { identities: identities.clone(), header: header.into(), bytes }))
    }

    /// Size of the object in bytes. An empty stream has a chunk, too.
    #[must_use]
    pub fn object_bytes(&self) -> u64 {
        let chunks = self.bytes.div_ceil(PLAIN).max(1);
        self.begin().saturating_add(self.bytes).saturating_add(chunks.saturating_mul(TAG))
    }

    /// The chunks in the object that hold a section of the stream.
    #[must_use]
    pub fn stored(&self, section: &Range<u64>) -> Range<u64> {
        let at = |chunk: u64| self.begin().saturating_add(chunk.saturating_mul(STORED));
        at(section.start / PLAIN)..at(section.end.div_ceil(PLAIN)).min(self.object_bytes())
    }

    /// Starts to decrypt a section of the stream, which is not empty.
    ///
    /// # Errors
    /// If age refuses the header.
    pub fn decryptor(&self, section: Range<u64>) -> Result<SectionDecryptor, DecryptError> {
        let (mut stream, input) = opened(&self.header, &self.identities)?;
        // age remembers that the chunks begin here.
        stream.stream_position().map_err(|error| DecryptError::Damaged(error.to_string()))?;
        let (section, stored) = (section.start.min(self.bytes)..section.end.min(self.bytes), self.stored(&section));
        let first = State::First(Vec::new(), stored.start);
        Ok(SectionDecryptor { stream, input, state: first, section, stored, begin: self.begin() })
    }

    /// Offset of the first chunk.
    fn begin(&self) -> u64 {
        self.header.len() as u64
    }
}

/// Decrypts one section.
pub struct SectionDecryptor {
    stream: StreamReader<Input>,
    input: Input,
    state: State,
    /// What is missing of the section.
    section: Range<u64>,
    /// What is missing of its chunks.
    stored: Range<u64>,
    /// Offset of the first chunk of the object.
    begin: u64,
}

enum State {
    /// The first chunk of the section is not complete. age seeks only to one that is there.
    First(Vec<u8>, u64),
    /// age reads the chunks.
    Stream,
}

impl SectionDecryptor {
    /// Bytes that are missing.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.stored.end - self.stored.start
    }

    /// Decrypts the next bytes of its chunks, not more than are missing, and hands what is authentic and of the section to `take`.
    ///
    /// # Errors
    /// As `take`, or the damage. Nothing may be decrypted after it.
    pub fn decrypt<E: From<DecryptError>>(
        &mut self,
        piece: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.stored.start += piece.len() as u64;
        let has_all = self.missing() == 0;
        match &mut self.state {
            State::Stream => self.input.give(piece),
            State::First(first, at) => {
                first.extend_from_slice(piece);
                if (first.len() as u64) < STORED && !has_all {
                    return Ok(());
                }
                self.input.give_at(*at, std::mem::take(first));
                self.state = State::Stream;
                self.seek(has_all).map_err(|_| self.damage())?;
            }
        }
        if has_all {
            self.input.end();
        }
        self.read(&mut take)?;
        if has_all && !self.section.is_empty() { Err(self.damage().into()) } else { Ok(()) }
    }

    /// Goes to the section. age seeks to the beginning of a chunk only with the last one at hand, so it goes to the second byte first.
    fn seek(&mut self, has_all: bool) -> io::Result<()> {
        if has_all {
            self.input.end();
        }
        let chunk = self.section.start / PLAIN * PLAIN;
        if chunk > 0 {
            self.stream.seek(SeekFrom::Start(chunk + 1))?;
        }
        self.stream.seek(SeekFrom::Start(self.section.start)).map(drop)
    }

    fn read<E: From<DecryptError>>(&mut self, take: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut buffer = vec![0; CHUNK];
        while !self.section.is_empty() {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.damage().into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(self.damage().into()),
            };
            let missing = usize::try_from(self.section.end - self.section.start).unwrap_or(usize::MAX);
            let wanted = count.min(missing);
            self.section.start += wanted as u64;
            take(&buffer[..wanted])?;
        }
        Ok(())
    }

    /// The next chunk is not what was encrypted there.
    fn damage(&self) -> DecryptError {
        let at = self.begin + self.section.start / PLAIN * STORED;
        DecryptError::Damaged(format!("the chunk at byte {at} of the object is not what was encrypted"))
    }
}
