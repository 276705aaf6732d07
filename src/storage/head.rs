//! HEAD: the store's description of an object.
//!
//! Called by `commit`, `complete` and `destination`. A field that the store omits is `None`, never zero: most stores
//! omit some, which means nothing.

use std::collections::HashMap;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};

use crate::pipeline::PartChecksum;

use super::failure::{Failure, FailureKind};
use super::requests::{Bucket, PARTIAL, RUN_ID, is_md5};

/// The metadata entry of the run's id in backups of version 0.1; Azure allows no hyphen in such a name.
const OLD_RUN_ID: &str = "run-id";

/// The store's description of an object.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Its size in bytes, if the store gives one.
    pub bytes: Option<u64>,
    /// Its ETag, usually in quotes.
    pub etag: Option<String>,
    /// The CRC-64/NVME of the complete object in base64, if the store keeps one.
    pub crc64: Option<String>,
    /// The run that uploaded it; a store may drop metadata.
    pub run_id: Option<String>,
    /// Its metadata says that it holds a part of its database only. Earlier versions did not write this.
    pub is_partial: bool,
    /// Its storage class; `None` means `STANDARD`.
    pub storage_class: Option<String>,
    /// The store restores it out of an archive, which takes hours.
    pub is_being_restored: bool,
}

impl Head {
    fn of(answer: HeadObjectOutput) -> Self {
        let metadata = answer.metadata.unwrap_or_default();
        let is_composite = answer.checksum_type == Some(ChecksumType::Composite);
        Self {
            bytes: answer.content_length.and_then(|length| u64::try_from(length).ok()),
            etag: answer.e_tag,
            crc64: answer.checksum_crc64_nvme.filter(|_| !is_composite),
            run_id: run_id(&metadata),
            is_partial: metadata.get(PARTIAL).is_some_and(|value| value == "true"),
            is_being_restored: answer.restore.is_some_and(|restore| restore.contains("ongoing-request=\"true\"")),
            storage_class: answer.storage_class.map(|class| class.as_str().to_owned()),
        }
    }
}

/// The run that uploaded an object with this metadata.
pub(super) fn run_id(metadata: &HashMap<String, String>) -> Option<String> {
    metadata.get(RUN_ID).or_else(|| metadata.get(OLD_RUN_ID)).cloned()
}

/// The number of parts in an ETag of S3's multipart form: `"0123…cdef-7"`, 32 hexadecimal digits.
#[must_use]
pub fn etag_parts(etag: &str) -> Option<u32> {
    let (md5, parts) = etag.trim_matches('"').split_once('-')?;
    parts.parse().ok().filter(|_| is_md5(md5))
}

impl Bucket {
    /// HEAD of a key; `None` if there is no object.
    pub async fn head(&self, key: &str) -> Result<Option<Head>, Failure> {
        match self.find(key).await {
            Ok(head) => Ok(Some(head)),
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// HEAD of a key. That there is no object is a failure: any server that knows nothing answers so.
    pub async fn find(&self, key: &str) -> Result<Head, Failure> {
        // B2 refuses to be asked for a checksum: asks only if parts carry the one that is kept.
        let with_checksum = (self.checksum == PartChecksum::Crc64Nvme).then_some(ChecksumMode::Enabled);
        let asked = self.ask(key, with_checksum.clone()).await;
        let is_bare_400 = asked.as_ref().is_err_and(|failure| failure.status == Some(400));
        let answered = if with_checksum.is_some() && is_bare_400 { self.ask(key, None).await } else { asked };
        // An answer to HEAD has no body with a reason, so the status decides.
        answered.map_err(|failure| {
            let kind = match failure.status {
                Some(404) => FailureKind::NotFound,
                // Expired credentials are the one cause of a 400 that can be renewed.
                Some(400) => FailureKind::Expired,
                Some(400..500) if failure.kind == FailureKind::NotFromS3 => FailureKind::Refused,
                _ => failure.kind,
            };
            Failure { kind, ..failure }
        })
    }

    async fn ask(&self, key: &str, mode: Option<ChecksumMode>) -> Result<Head, Failure> {
        let request = self.client.head_object().bucket(&self.name).key(key).set_checksum_mode(mode);
        Ok(Head::of(Box::pin(request.send()).await?))
    }

    /// The size of an object in a listing, if HEAD gives none.
    pub async fn listed_size(&self, key: &str) -> Option<u64> {
        match self.list(key, None, None).await {
            Ok((objects, _)) => objects.into_iter().find(|object| object.key == key).map(|object| object.bytes),
            Err(failure) => {
                tracing::debug!(key, error = %failure, "the object's size cannot be listed");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_field_is_none() {
        let head = Head::of(HeadObjectOutput::builder().build());
        assert_eq!((head.bytes, head.etag, head.run_id, head.storage_class), (None, None, None, None));
    }

    #[test]
    fn the_run_id_is_read_under_both_names() {
        for (name, is_read) in [(RUN_ID, true), (OLD_RUN_ID, true), ("run_id", false)] {
            let head = Head::of(HeadObjectOutput::builder().metadata(name, "7").build());
            assert_eq!(head.run_id.is_some(), is_read, "{name}");
        }
    }

    #[test]
    fn a_checksum_of_the_parts_checksums_is_not_one_of_the_object() {
        let answer = |kind| HeadObjectOutput::builder().checksum_crc64_nvme("AAAAAAAAAAA=").checksum_type(kind).build();
        assert!(Head::of(answer(ChecksumType::FullObject)).crc64.is_some());
        assert_eq!(Head::of(answer(ChecksumType::Composite)).crc64, None);
    }

    #[test]
    fn only_a_multipart_md5_has_a_number_of_parts() {
        assert_eq!(etag_parts("\"d41d8cd98f00b204e9800998ecf8427e-12\""), Some(12));
        assert_eq!(etag_parts("D41D8CD98F00B204E9800998ECF8427E-3"), Some(3));
        for other in [
            "\"d41d8cd98f00b204e9800998ecf8427e\"",
            "\"-CKicn4fknbUCEAE=\"",
            "\"0x8DD3F4A5F0B2C1E-1\"",
            "\"d41d8cd98f00b204e9800998ecf8427e-x\"",
            "\"\"",
        ] {
            assert_eq!(etag_parts(other), None, "{other}");
        }
    }
}
