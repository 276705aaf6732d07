//! Settings of the S3 module. `config` fills them, [`super::Destination`] is built from them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::SecretString;

use crate::pipeline::PartChecksum;

/// Most parts of one upload on AWS and most stores (AWS: "Amazon S3 multipart upload limits").
pub const MAX_PARTS: u32 = 10_000;
/// Least number of labels in a service's host, after the bucket's name is removed: `fra1.digitaloceanspaces.com`. A
/// shorter one is more likely a server's own, such as `backups.example.com`.
const LEAST_LABELS_OF_A_SERVICE: usize = 3;

/// A store's rules for parts, if they differ from AWS's.
struct PartRules {
    /// The suffix of its hosts' names.
    host: &'static str,
    max_parts: u32,
    equal: bool,
}

const PART_RULES: &[PartRules] = &[
    // developers.cloudflare.com/r2/objects/multipart-objects. A jurisdiction is part of the host, as in ACCOUNT.eu.r2….
    PartRules { host: ".r2.cloudflarestorage.com", max_parts: MAX_PARTS, equal: true },
    // scaleway.com/en/docs/object-storage/api-cli/multipart-uploads
    PartRules { host: ".scw.cloud", max_parts: 1_000, equal: false },
];

/// The destination, as configured.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// Bucket, or access point ARN.
    pub bucket: String,
    /// The prefix of every key.
    pub prefix: Prefix,
    /// The server; `None` for AWS.
    pub endpoint: Option<Endpoint>,
    /// Region; `None` for the AWS chain's.
    pub region: Option<String>,
    /// Static credentials; `None` for the AWS chain's.
    pub credentials: Option<StaticCredentials>,
    /// Bucket in the path, not in the host name.
    pub force_path_style: bool,
    /// Certificate authorities, as PEM.
    pub ca_bundle: Option<CaBundle>,
    /// Checksum of the parts.
    pub checksum: ChecksumSetting,
    /// Storage class and encryption.
    pub at_rest: AtRest,
    /// Longest time without progress of one request.
    pub request_timeout: Duration,
    /// Longest time without a successful response.
    pub max_outage: Duration,
}

impl S3Settings {
    /// Most parts of one upload that the store accepts, as far as its host's name shows.
    #[must_use]
    pub fn max_parts(&self) -> u32 {
        self.part_rules().map_or(MAX_PARTS, |rules| rules.max_parts)
    }

    /// Whether the store requires equal parts except the last, as far as its host's name shows.
    #[must_use]
    pub fn wants_equal_parts(&self) -> bool {
        self.part_rules().is_some_and(|rules| rules.equal)
    }

    fn part_rules(&self) -> Option<&'static PartRules> {
        let host = &self.endpoint.as_ref()?.host;
        PART_RULES.iter().find(|rules| host.ends_with(rules.host))
    }

    /// Whether the store is AWS's own.
    #[must_use]
    pub fn is_aws(&self) -> bool {
        self.endpoint.as_ref().is_none_or(|endpoint| endpoint.host.ends_with(".amazonaws.com"))
    }

    /// The checksum of parts: CRC-64/NVME on AWS, which keeps it for the complete object; elsewhere MD5, which every
    /// server enforces.
    #[must_use]
    pub fn part_checksum(&self) -> PartChecksum {
        match self.checksum {
            ChecksumSetting::Crc64Nvme => PartChecksum::Crc64Nvme,
            ChecksumSetting::Auto if self.is_aws() => PartChecksum::Crc64Nvme,
            ChecksumSetting::Auto | ChecksumSetting::Md5 => PartChecksum::Md5,
            ChecksumSetting::None => PartChecksum::None,
        }
    }

    /// `s3://bucket/path/`
    #[must_use]
    pub fn location(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix.key(""))
    }

    /// Endpoint, bucket and path in one text, as the key of the lock.
    #[must_use]
    pub fn identity(&self) -> String {
        let endpoint = self.endpoint.as_ref().map_or("aws", |endpoint| endpoint.url.as_str());
        format!("{endpoint}\n{}\n{}", self.bucket, self.prefix)
    }
}

/// A key prefix without slashes around it; empty for the top level of the bucket.
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

    /// The prefix of a sub-path, which has no slashes around it.
    #[must_use]
    pub fn below(&self, sub_path: &str) -> Self {
        Self(self.key(sub_path))
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

    /// The URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL as the SDK needs it: it joins path and bucket without a slash.
    pub(super) fn url_before_bucket(&self) -> String {
        format!("{}/", self.url)
    }

    /// Whether this is a bucket's address, as some stores show it (`https://BUCKET.fra1.digitaloceanspaces.com`,
    /// `https://host/BUCKET`), instead of the store's.
    #[must_use]
    pub fn holds_bucket(&self, bucket: &str) -> bool {
        let bucket = bucket.to_ascii_lowercase();
        let in_host = self.host.strip_prefix(&bucket).and_then(|rest| rest.strip_prefix('.')).is_some_and(|store| {
            let labels = store.split('.').collect::<Vec<_>>();
            // A Kubernetes service's name has no bucket in it.
            labels.len() >= LEAST_LABELS_OF_A_SERVICE && !labels.contains(&"svc")
        });
        let is_address = self.host.parse::<std::net::Ipv4Addr>().is_ok();
        let path = self.url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
        in_host && !is_address || path.is_some_and(|path| path.eq_ignore_ascii_case(&bucket))
    }

    /// Whether backups would cross a network unencrypted: plain `http` to another host.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let inner = self.host.trim_start_matches('[').trim_end_matches(']');
        let is_local =
            inner == "localhost" || inner.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        self.is_plain && !is_local
    }
}

/// Credentials from the settings.
#[derive(Clone, Debug)]
pub struct StaticCredentials {
    /// Access key.
    pub access_key: SecretString,
    /// Secret key.
    pub secret_key: SecretString,
    /// Session token of temporary credentials.
    pub session_token: Option<SecretString>,
}

/// Certificate authorities that were read and checked.
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

/// Reads a bundle and parses every certificate: the SDK would panic on a malformed one, at the first request.
///
/// # Errors
/// If the file cannot be read, or holds no or a malformed certificate.
pub fn read_ca_bundle(path: &str) -> Result<CaBundle, String> {
    let pem = std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Err(error) => Err(format!("{path} holds a certificate that cannot be read: {error:?}")),
        Ok(list) if list.is_empty() => Err(format!("{path} holds no certificate: it must be a PEM file")),
        Ok(_) => Ok(CaBundle { path: PathBuf::from(path), pem }),
    }
}

/// Storage class and encryption, if they are not the bucket's defaults.
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

    /// Whether a store that names this encryption does what was requested. A key of the key service is more than the
    /// store's own.
    #[must_use]
    pub fn is_confirmed_by(self, answered: Option<&str>) -> bool {
        let is_kms = answered.is_some_and(|word| word == "aws:kms" || word == "aws:kms:dsse");
        is_kms || self == Self::Aes256 && answered == Some("AES256")
    }
}

/// `S3_CHECKSUM`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumSetting {
    /// Chosen by the endpoint.
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
mod tests;
