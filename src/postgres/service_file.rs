//! Secrets of a connection string that libpq takes neither from a variable nor from a file of their own (`sslpassword`):
//! handed on in a service file that is on no disk and in nobody's arguments.
//!
//! Made by `config`, kept by [`super::ClientEnvironment`], whose children inherit it. Where there is no such file, the
//! secret is refused.

use std::ffi::OsString;

use secrecy::{ExposeSecret, SecretString};

use super::{Conninfo, ConninfoError};

/// The service's name, in the file and in the connection string.
const SERVICE: &str = "pg-s3-backup";

/// An open file in memory; gone with this value.
#[derive(Debug)]
pub struct ServiceFile {
    #[cfg(target_os = "linux")]
    file: std::fs::File,
}

impl ServiceFile {
    /// Moves the secrets out of a connection string that uses no service of its own, and names this one in it.
    ///
    /// # Errors
    /// [`ConninfoError::OtherSecret`] where there is a service already, or the file cannot hold a secret.
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
        // It would go before the variable that names this file.
        conninfo.remove("servicefile");
        conninfo.set("service", SERVICE);
        Ok(Some(file))
    }

    /// Anonymous memory that children inherit: each opens it anew as a descriptor of its own.
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

    /// Where a child finds it.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn path(&self) -> OsString {
        use std::os::fd::AsRawFd as _;
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Where a child finds it.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn path(&self) -> OsString {
        OsString::new()
    }
}

/// `parseServiceFile` (`fe-connect.c`) takes spaces at the end of a line away, and knows no quotes.
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
    fn a_secret_goes_into_the_file_and_leaves_a_services_name() {
        let told = hidden("host=h servicefile=/elsewhere sslpassword=secret").expect("hidden");
        assert_eq!(told, ("host='h' service='pg-s3-backup'".to_owned(), true));
        assert_eq!(hidden("host=h service=own"), Ok(("host='h' service='own'".to_owned(), false)));
    }

    #[test]
    fn a_secret_that_the_file_cannot_hold_is_refused_by_its_keyword() {
        let refused = Err(ConninfoError::OtherSecret("sslpassword"));
        for text in ["service=own sslpassword=x", "sslpassword='x '", "sslpassword='x\ny'"] {
            assert_eq!(hidden(text), refused, "{text:?}");
        }
    }
}
