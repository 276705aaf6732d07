//! What the S3 room is configured with. Filled by `config`, used to build a [`super::Destination`].

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::SecretString;

use crate::pipeline::PartChecksum;

/// The destination, as configured.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// Bucket, or access point ARN.
    pub bucket: String,
    /// What every key begins with.
    pub prefix: Prefix,
    /// The server; AWS where there is none.
    pub endpoint: Option<Endpoint>,
    /// Region; the AWS chain's where there is none.
    pub region: Option<String>,
    /// Static credentials; the AWS chain where there are none.
    pub credentials: Option<StaticCredentials>,
    /// Bucket in the path, not in the host name.
    pub force_path_style: bool,
    /// Certificate authorities, as PEM.
    pub ca_bundle: Option<CaBundle>,
    /// Checksum of the parts.
    pub checksum: ChecksumSetting,
    /// How the backup lies in the store.
    pub at_rest: AtRest,
    /// Longest wait for an answer, less what a body needs.
    pub request_timeout: Duration,
    /// How long S3 may answer nothing well.
    pub max_outage: Duration,
}

impl S3Settings {
    /// Whether the endpoint is Cloudflare R2, which needs parts of equal size (FACTS §2).
    #[must_use]
    pub fn is_r2(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.host.ends_with(".r2.cloudflarestorage.com"))
    }

    /// Whether the store is AWS's own.
    #[must_use]
    pub fn is_aws(&self) -> bool {
        self.endpoint.as_ref().is_none_or(|endpoint| endpoint.host.ends_with(".amazonaws.com"))
    }

    /// The checksum that parts carry: CRC-64/NVME on AWS, which keeps it for the whole object; elsewhere MD5, the one
    /// that every server enforces (FACTS §1, §2).
    #[must_use]
    pub fn part_checksum(&self) -> PartChecksum {
        match self.checksum {
            ChecksumSetting::Crc64Nvme => PartChecksum::Crc64Nvme,
            ChecksumSetting::Auto if self.is_aws() => PartChecksum::Crc64Nvme,
            ChecksumSetting::Auto | ChecksumSetting::Md5 => PartChecksum::Md5,
            ChecksumSetting::None => PartChecksum::None,
        }
    }

    /// Endpoint, bucket and path in one text: what the lock is keyed by.
    #[must_use]
    pub fn identity(&self) -> String {
        let endpoint = self.endpoint.as_ref().map_or("aws", |endpoint| endpoint.url.as_str());
        format!("{endpoint}\n{}\n{}", self.bucket, self.prefix)
    }
}

/// A key prefix without slashes around it; empty for the bucket's top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// From a path without slashes around it.
    #[must_use]
    pub fn new(inner: &str) -> Self {
        Self(inner.to_owned())
    }

    /// The key of a file below this prefix. Always with a `/` between: `app` must never see `app_test`.
    #[must_use]
    pub fn key(&self, file_name: &str) -> String {
        if self.0.is_empty() { file_name.to_owned() } else { format!("{}/{file_name}", self.0) }
    }

    /// The file name of a key directly below this prefix.
    #[must_use]
    pub fn file_name<'a>(&self, key: &'a str) -> Option<&'a str> {
        let name = if self.0.is_empty() { key } else { key.strip_prefix(&self.0)?.strip_prefix('/')? };
        (!name.contains('/')).then_some(name)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An S3 server's URL, without user information.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: String,
    host: String,
    is_plain: bool,
}

impl Endpoint {
    /// From a checked URI.
    #[must_use]
    pub fn new(uri: &Uri) -> Self {
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let url = uri.to_string().trim_end_matches('/').to_owned();
        Self { url, host, is_plain: uri.scheme_str() == Some("http") }
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether backups would cross a network in the clear: plain `http` off this host.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let inner = self.host.trim_start_matches('[').trim_end_matches(']');
        let is_local =
            inner == "localhost" || inner.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        self.is_plain && !is_local
    }
}

/// Credentials that were given as such.
#[derive(Clone, Debug)]
pub struct StaticCredentials {
    /// Access key.
    pub access_key: SecretString,
    /// Secret key.
    pub secret_key: SecretString,
    /// Session token of temporary credentials.
    pub session_token: Option<SecretString>,
}

/// Certificate authorities that were read and found sound.
#[derive(Clone)]
pub struct CaBundle {
    path: PathBuf,
    pem: Vec<u8>,
}

impl CaBundle {
    /// The PEM text.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }
}

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaBundle({})", self.path.display())
    }
}

/// Reads a bundle and every certificate in it: the SDK would panic on a malformed one, at the first request.
///
/// # Errors
/// Where the file cannot be read, or holds no or a malformed certificate.
pub fn read_ca_bundle(path: &str) -> Result<CaBundle, String> {
    let pem = std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Err(error) => Err(format!("{path} holds a certificate that cannot be read: {error:?}")),
        Ok(list) if list.is_empty() => Err(format!("{path} holds no certificate: it must be a PEM file")),
        Ok(_) => Ok(CaBundle { path: PathBuf::from(path), pem }),
    }
}

/// How a backup lies in the store, as far as the bucket does not say.
#[derive(Clone, Debug, Default)]
pub struct AtRest {
    /// `S3_STORAGE_CLASS`
    pub storage_class: Option<String>,
    /// `S3_SSE`
    pub encryption: Option<Encryption>,
    /// `S3_SSE_KMS_KEY_ID`
    pub kms_key: Option<String>,
}

/// `S3_SSE`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With the store's own keys (SSE-S3).
    Aes256,
    /// With a key of the key service (SSE-KMS).
    Kms,
}

impl Encryption {
    /// The words of the setting.
    pub const WORDS: &'static [(&'static str, Self)] = &[("AES256", Self::Aes256), ("aws:kms", Self::Kms)];

    /// The word of the setting.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, encryption)| *encryption == self).map_or("", |(word, _)| *word)
    }

    /// Whether a store does as asked that says that it encrypts so. A key of the key service is more than the store's own.
    #[must_use]
    pub fn is_confirmed_by(self, answered: Option<&str>) -> bool {
        let is_kms = answered.is_some_and(|word| word == "aws:kms" || word == "aws:kms:dsse");
        is_kms || self == Self::Aes256 && answered == Some("AES256")
    }
}

/// `S3_CHECKSUM`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumSetting {
    /// By the endpoint.
    #[default]
    Auto,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// `Content-MD5`
    Md5,
    /// None.
    None,
}

impl ChecksumSetting {
    /// The words of the setting.
    pub const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("crc64nvme", Self::Crc64Nvme), ("md5", Self::Md5), ("none", Self::None)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_never_sees_its_neighbours() {
        let prefix = Prefix::new("app");
        assert_eq!(prefix.key("x"), "app/x");
        assert_eq!(prefix.file_name("app/x"), Some("x"));
        for other in ["app2/x", "app_test/x", "app/sub/x", "x", "app"] {
            assert_eq!(prefix.file_name(other), None, "{other}");
        }
        assert_eq!(Prefix::default().file_name("x"), Some("x"));
        assert_eq!(Prefix::default().file_name("app/x"), None);
    }

    #[test]
    fn encryption_is_confirmed_by_the_stores_own_word() {
        let confirmed = |encryption: Encryption| {
            [None, Some("AES256"), Some("aws:kms"), Some("")].map(|word| encryption.is_confirmed_by(word))
        };
        assert_eq!(confirmed(Encryption::Aes256), [false, true, true, false]);
        assert_eq!(confirmed(Encryption::Kms), [false, false, true, false]);
    }

    #[test]
    fn plain_http_is_exposed_only_off_this_host() {
        for (url, exposed) in [
            ("http://127.0.0.1:8333", false),
            ("http://localhost", false),
            ("http://[::1]:9000", false),
            ("http://s3.internal", true),
            ("https://s3.internal", false),
        ] {
            let uri: Uri = url.parse().expect("URL");
            assert_eq!(Endpoint::new(&uri).is_exposed(), exposed, "{url}");
        }
    }
}
