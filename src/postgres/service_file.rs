//! Passes secrets such as `sslpassword`, for which libpq has no variable, to child processes in a service file in memory. They
//! appear neither on disk nor in arguments.
//!
//! Made by `config`, kept by [`super::ClientEnvironment`]. Only Linux has such files; elsewhere these secrets are refused.

use std::ffi::OsString;

use secrecy::{ExposeSecret, SecretString};

use super::{Conninfo, ConninfoError};

/// The service's name, in the file and in the connection string.
const SERVICE: &str = "pg-s3-backup";

/// An open file in memory.
#[derive(Debug)]
pub struct ServiceFile {
    #[cfg(target_os = "linux")]
    file: std::fs::File,
}

impl ServiceFile {
    /// Moves the secrets out of a connection string, and sets its service to this one.
    ///
    /// # Errors
    /// [`ConninfoError::OtherSecret`] if the connection string has a service, or a service file cannot contain the secret.
    pub fn hide(conninfo: &mut Conninfo) -> Result<Option<Self>, ConninfoError> {
        let secrets = conninfo.take_other_secrets();
        let Some((first, _)) = secrets.first() else { return Ok(None) };
        if conninfo.get("service").is_some() {
            return Err(ConninfoError::OtherSecret(first));
        }
        let mut text = format!("[{SERVICE}]\n");
        for (keyword, secret) in &secrets {
            text.push_str(&line(keyword, secret)?);
        }
        let file = Self::with_text(&text).ok_or(ConninfoError::OtherSecret(first))?;
        // It would take precedence over PGSERVICEFILE.
        conninfo.remove("servicefile");
        conninfo.set("service", SERVICE);
        Ok(Some(file))
    }

    /// Anonymous memory. Children inherit the descriptor and reopen it.
    #[cfg(target_os = "linux")]
    fn with_text(text: &str) -> Option<Self> {
        use std::io::Write as _;
        let memory = rustix::fs::memfd_create(SERVICE, rustix::fs::MemfdFlags::empty()).ok()?;
        let mut file = std::fs::File::from(memory);
        file.write_all(text.as_bytes()).ok()?;
        Some(Self { file })
    }

    #[cfg(not(target_os = "linux"))]
    fn with_text(_: &str) -> Option<Self> {
        None
    }

    /// Its path for a child.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn path(&self) -> OsString {
        use std::os::fd::AsRawFd as _;
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Its path for a child.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn path(&self) -> OsString {
        OsString::new()
    }
}

/// `parseServiceFile` (`fe-connect.c`) trims trailing spaces and has no quotes.
fn line(keyword: &'static str, secret: &SecretString) -> Result<String, ConninfoError> {
    let secret = secret.expose_secret();
    if secret.contains(char::is_control) || secret.ends_with(char::is_whitespace) {
        return Err(ConninfoError::OtherSecret(keyword));
    }
    Ok(format!("{keyword}={secret}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str) -> Result<(String, bool), ConninfoError> {
        let mut conninfo = Conninfo::parse(text).expect("parses");
        let file = ServiceFile::hide(&mut conninfo)?;
        Ok((conninfo.to_string(), file.is_some()))
    }

    #[test]
    fn moves_secret_into_file() {
        let moved = hidden("host=h servicefile=/elsewhere sslpassword=secret").expect("hidden");
        assert_eq!(moved, ("host='h' service='pg-s3-backup'".to_owned(), true));
        assert_eq!(hidden("host=h service=own"), Ok(("host='h' service='own'".to_owned(), false)));
    }

    #[test]
    fn refuses_secret_that_the_file_cannot_contain() {
        let refused = Err(ConninfoError::OtherSecret("sslpassword"));
        for text in ["service=own sslpassword=x", "sslpassword='x '", "sslpassword='x\ny'"] {
            assert_eq!(hidden(text), refused, "{text:?}");
        }
    }
}
