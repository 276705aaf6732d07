//! age encryption around a compressed stream, as the `age` tool writes and reads it: X25519 keys alone.
//!
//! [`Recipients`] are public keys: who has only them cannot read a backup. [`Identities`] are private keys; nothing prints them. An
//! [`Encryptor`] or a [`Decryptor`] is one stream; [`Sections`] decrypts parts of one. Used by `pipeline`, `archive`, `backup` and `restore`; `config` parses the keys.

mod decryptor;
mod encryptor;
mod header;
mod input;
mod sections;

use std::fmt;
use std::sync::Arc;

use ::age::x25519::{Identity, Recipient};

pub use decryptor::{DecryptError, Decryptor, decrypt};
pub use encryptor::{EncryptError, Encryptor, MEMORY, encrypt};
pub use header::{MOST_HEADER, is_encrypted};
pub use sections::{SectionDecryptor, Sections};

/// The end of an encrypted file's name.
pub const EXTENSION: &str = "age";
/// The media type of an encrypted file.
pub const CONTENT_TYPE: &str = "application/octet-stream";
/// The fewest bytes that encryption adds to a stream, as Debian's `age` does for one recipient: the header with its key, the nonce,
/// and one chunk's tag. More recipients and more chunks add more.
pub const SMALLEST_OVERHEAD: u64 = 200;

/// age encrypts and decrypts this many bytes at once.
const CHUNK: usize = 64 << 10;
/// The beginning of a public key.
const PUBLIC: &str = "age1";
/// The beginning of a private key.
const PRIVATE: &str = "AGE-SECRET-KEY-1";
/// Letters of a public key that a short form keeps at its beginning, and at its end.
const SHORT: (usize, usize) = (9, 4);

/// The public keys that a backup is encrypted for, each once.
#[derive(Clone)]
pub struct Recipients(Vec<Recipient>);

impl Recipients {
    /// Parses public keys that are separated by white space or commas. `#` begins a comment, as in age's file of recipients.
    ///
    /// # Errors
    /// What is wrong with the first key that is none. It is not shown, because it may be a private one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(keys, _)| keys));
        let words = lines.flat_map(|line| line.split([' ', '\t', ',', '\r'])).filter(|word| !word.is_empty());
        let mut recipients: Vec<Recipient> = Vec::new();
        for (index, word) in words.enumerate() {
            let recipient: Recipient =
                word.parse().map_err(|_| format!("key {}: {}", index + 1, why_no_recipient(word)))?;
            if !recipients.iter().any(|known| known.to_string() == recipient.to_string()) {
                recipients.push(recipient);
            }
        }
        if recipients.is_empty() {
            return Err(
                "holds no public key: give one, or leave the variable unset for backups without encryption".to_owned()
            );
        }
        Ok(Self(recipients))
    }

    /// The keys, as age writes them.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.0.iter().map(Recipient::to_string).collect()
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}

fn why_no_recipient(word: &str) -> &'static str {
    let is = |beginning: &str| word.get(..beginning.len()).is_some_and(|text| text.eq_ignore_ascii_case(beginning));
    if is("AGE-SECRET-KEY-") {
        "it is a private key, which does not belong on the host that backs up: give the public key that `age-keygen -y` prints"
    } else if is("ssh-") {
        "it is an SSH key: give an age key (age1…), which `age-keygen` makes"
    } else if is(PUBLIC) && word.matches('1').count() > 1 {
        // The letters of a key hold no 1: what is before the last one is its kind.
        "it is a key of another kind: give an X25519 key (age1 and 58 letters), which `age-keygen` makes"
    } else {
        "it is no public key of age: give age1 and its 58 letters, as `age-keygen -y` prints it"
    }
}

/// Private keys. They are never printed.
#[derive(Clone)]
pub struct Identities(Arc<Vec<Identity>>);

impl Identities {
    /// Parses the content of an age identity file.
    ///
    /// # Errors
    /// What is wrong with it, without any of its content.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") {
            return Err(
                "is protected by a passphrase, which cannot be typed unattended: give the identity without one"
                    .to_owned(),
            );
        }
        if text.starts_with("-----BEGIN") {
            return Err(
                "is an SSH or PEM key: give an age identity (AGE-SECRET-KEY-1…), which `age-keygen` makes".to_owned()
            );
        }
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let parse = |(index, line): (usize, &str)| {
            line.parse::<Identity>().map_err(|_| format!("line {}: {}", index + 1, why_no_identity(line)))
        };
        let identities = lines.map(parse).collect::<Result<Vec<_>, _>>()?;
        if identities.is_empty() {
            return Err("holds no identity: give the content of the file that `age-keygen` wrote".to_owned());
        }
        Ok(Self(Arc::new(identities)))
    }

    /// Their public keys.
    #[must_use]
    pub fn public_keys(&self) -> Vec<String> {
        self.0.iter().map(|identity| identity.to_public().to_string()).collect()
    }

    fn each(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|identity| identity as &dyn age::Identity)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} identities", self.0.len())
    }
}

fn why_no_identity(line: &str) -> &'static str {
    if line.starts_with(PUBLIC) {
        "it is a public key: give the identity (AGE-SECRET-KEY-1…) that belongs to it"
    } else if line.starts_with("AGE-PLUGIN-") || line.starts_with("AGE-SECRET-KEY-PQ-") {
        "it is an identity of another kind: give one of X25519 (AGE-SECRET-KEY-1…), which `age-keygen` makes"
    } else {
        "it is no identity of age (AGE-SECRET-KEY-1…)"
    }
}

/// Each private key in a text, for the redactor: a message may show one line of a file.
#[must_use]
pub fn private_keys(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    let is_key = |word: &&str| word.to_ascii_uppercase().starts_with(PRIVATE);
    words.filter(is_key).map(str::to_owned).collect()
}

/// A public key in a table or a message: `age1abcde…wxyz`.
#[must_use]
pub fn short(key: &str) -> String {
    let (beginning, end) = SHORT;
    match (key.get(..beginning), key.len().checked_sub(end).and_then(|at| key.get(at..))) {
        (Some(first), Some(last)) if key.len() > beginning + end + 1 => format!("{first}…{last}"),
        _ => key.to_owned(),
    }
}

/// Public keys in a message, short.
#[must_use]
pub fn short_list(keys: &[String]) -> String {
    keys.iter().map(|key| short(key)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
