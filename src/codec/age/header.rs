//! The header of an encrypted object, which holds its key for each recipient.

use age::stream::StreamReader;
use age::{DecryptError as Refusal, Decryptor as Header};

use super::input::Input;
use super::{DecryptError, Identities};

/// A longer header is damage: it would hold thousands of recipients.
pub const MOST_HEADER: usize = 1 << 20;

/// The first line of every file.
const BEGINNING: &[u8] = b"age-encryption.org/v1\n";
/// What the last line of the header begins with.
const LAST_LINE: &[u8] = b"\n---";
/// The nonce after the header.
const NONCE: usize = 16;

/// Whether a file begins as one of age.
#[must_use]
pub fn is_encrypted(file: &[u8]) -> bool {
    file.starts_with(BEGINNING)
}

/// The length of the header with the nonce; `None` if these bytes end before.
pub(super) fn header_length(bytes: &[u8]) -> Result<Option<usize>, DecryptError> {
    let damaged = || DecryptError::Damaged("it does not begin as a file of age".to_owned());
    if bytes.iter().zip(BEGINNING).any(|(byte, wanted)| byte != wanted) {
        return Err(damaged());
    }
    let searched = &bytes[..bytes.len().min(MOST_HEADER)];
    let last = searched.windows(LAST_LINE.len()).position(|window| window == LAST_LINE);
    let end = last.and_then(|at| Some(at + 1 + searched[at + 1..].iter().position(|byte| *byte == b'\n')?));
    match end.map(|end| end + 1 + NONCE) {
        None if bytes.len() > MOST_HEADER => Err(damaged()),
        length => Ok(length.filter(|length| bytes.len() >= *length)),
    }
}

/// Opens an object of which these are the first bytes, with its header. age reads its chunks from the input.
pub(super) fn opened(first: &[u8], identities: &Identities) -> Result<(StreamReader<Input>, Input), DecryptError> {
    let input = Input::default();
    input.give(first);
    let stream = Header::new(input.clone()).and_then(|header| header.decrypt(identities.each()));
    match stream {
        Ok(stream) => Ok((stream, input)),
        Err(Refusal::NoMatchingKeys) => Err(DecryptError::WrongIdentity),
        Err(_) => Err(DecryptError::Damaged("its header is not what was written".to_owned())),
    }
}
