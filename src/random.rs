//! Random identifiers: run ids, names of temporary files, and words that a dump cannot guess. A leaf.

use std::io;

/// Draws 128 random bits, in hexadecimal.
///
/// # Errors
/// If the system has no random numbers.
pub fn random_hex() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("draw a random number: {error}")))?;
    Ok(hex::encode(bytes))
}
