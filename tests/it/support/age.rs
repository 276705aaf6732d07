//! Debian's `age`: keys, and files that it encrypts and decrypts.

use std::io::Write;
use std::process::{Command, Stdio};

use tempfile::NamedTempFile;

use super::setup::installed;

/// Whether a run encrypts what it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// It does not.
    None,
    /// With age.
    Age,
}

/// A pair of keys.
pub struct AgeKey {
    /// `age1…`
    pub recipient: String,
    /// The content of the identity file, as `age-keygen` wrote it.
    pub identity: String,
}

impl AgeKey {
    /// Makes a new pair.
    ///
    /// # Panics
    /// If `age-keygen` fails.
    pub fn new() -> Self {
        installed("age");
        let output = Command::new("age-keygen").output().expect("age-keygen");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let identity = String::from_utf8(output.stdout).expect("text");
        let recipient = identity.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("a public key");
        Self { recipient: recipient.to_owned(), identity }
    }

    /// The line with the private key.
    pub fn private_key(&self) -> &str {
        self.identity.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).expect("a private key")
    }

    /// What `age -d` reads in a file.
    ///
    /// # Panics
    /// If it refuses.
    #[track_caller]
    pub fn decrypted(&self, file: &[u8]) -> Vec<u8> {
        let identity = written(self.identity.as_bytes());
        let mut command = Command::new("age");
        command.arg("-d").arg("-i").arg(identity.path());
        filtered(command, file)
    }
}

/// A file that `age` encrypts for these keys.
///
/// # Panics
/// If it refuses.
#[track_caller]
pub fn encrypted_by_age(plain: &[u8], recipients: &[&AgeKey]) -> Vec<u8> {
    installed("age");
    let mut command = Command::new("age");
    for key in recipients {
        command.arg("-r").arg(&key.recipient);
    }
    filtered(command, plain)
}

fn written(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    file
}

#[track_caller]
fn filtered(mut command: Command, input: &[u8]) -> Vec<u8> {
    let input = written(input);
    let output = command.arg(input.path()).stdin(Stdio::null()).output().expect("age");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
