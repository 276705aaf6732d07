//! One function for each S3 request, each a single call with a single [`Failure`].
//!
//! Called by `upload`, `commit` and `destination`, through `retry` if a failure may pass. No request has a deadline
//! while its bytes move (`watchdog`). `head` and `complete` hold those two requests.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::operation::upload_part::UploadPartOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, ServerSideEncryption, StorageClass};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};

use crate::error_chain::Chain;
use crate::pipeline::{PartChecksum, PartDigest};

use super::failure::{Failure, FailureKind};
use super::payload::PayloadSignature;
use super::settings::{AtRest, Encryption, S3Settings};

/// Name of the metadata entry with the run's id. Letters alone: Azure allows no others.
pub(super) const RUN_ID: &str = "runid";
/// Name of the metadata entry of an object that holds a part of its database only; its value is `true`.
pub(super) const PARTIAL: &str = "partial";

/// The bucket and the client for it.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub client: Client,
    pub name: String,
    pub request_timeout: Duration,
    pub at_rest: AtRest,
    /// The checksum of parts.
    pub checksum: PartChecksum,
    /// Whether the signature of a part includes its bytes.
    pub payload: PayloadSignature,
}

/// A part as it is sent.
#[derive(Clone, Debug)]
pub(super) struct PartBody {
    pub number: u32,
    pub bytes: Bytes,
    pub digest: PartDigest,
}

/// A part that the store has accepted.
#[derive(Clone, Debug)]
pub(super) struct UploadedPart {
    pub etag: String,
    pub digest: PartDigest,
    pub bytes: u64,
}

/// An object that is read into memory, if it is small enough.
#[derive(Clone, Debug)]
pub(super) enum SmallObject {
    /// There is none.
    Absent,
    /// All of it.
    Complete(Bytes),
    /// It has more bytes than the caller allows.
    TooLarge,
}

/// The store's answer to CreateMultipartUpload.
#[derive(Clone, Debug)]
pub(super) struct Created {
    pub id: String,
    /// The encryption that the store names.
    pub encryption: Option<String>,
}

/// The parameters of an upload.
#[derive(Clone, Debug)]
pub struct NewUpload {
    /// The object's key.
    pub key: String,
    /// The run's id, for the object's metadata.
    pub run_id: String,
    /// The dump leaves a part of its database out. The object's metadata records it, because its manifest may get lost.
    pub is_partial: bool,
    /// The checksum of its parts.
    pub checksum: PartChecksum,
    /// The object's media type. A `Content-Encoding` would make clients decompress it.
    pub content_type: &'static str,
}

// Each request's future is boxed: the SDK's have 17 KB each, which every caller's future would contain.
impl Bucket {
    /// The bucket of these settings, in a store at this URL; `None` for AWS.
    pub fn new(client: Client, settings: &S3Settings, url: Option<&str>) -> Self {
        Self {
            client,
            name: settings.bucket.clone(),
            request_timeout: settings.request_timeout,
            at_rest: settings.at_rest.clone(),
            checksum: settings.part_checksum(),
            payload: PayloadSignature::new(url),
        }
    }

    /// Starts an upload.
    pub async fn create_upload(&self, with: &NewUpload) -> Result<Created, Failure> {
        let mut request = self
            .client
            .create_multipart_upload()
            .bucket(&self.name)
            .key(&with.key)
            .content_type(with.content_type)
            .set_storage_class(self.at_rest.storage_class.as_deref().map(StorageClass::from))
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.at_rest.kms_key.clone())
            .metadata(RUN_ID, &with.run_id);
        if with.is_partial {
            request = request.metadata(PARTIAL, "true");
        }
        if with.checksum == PartChecksum::Crc64Nvme {
            request = request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject);
        }
        // Without the SDK's retries: a repeated one leaves an upload behind, so the caller must see each attempt.
        let answer = Box::pin(request.customize().config_override(without_sdk_retries()).send()).await?;
        let id = answer.upload_id.ok_or_else(|| Failure::damaged("the answer has no upload id"))?;
        Ok(Created { id, encryption: answer.server_side_encryption.map(|encryption| encryption.as_str().to_owned()) })
    }

    pub async fn upload_part(&self, key: &str, id: &str, part: &PartBody) -> Result<UploadedPart, Failure> {
        let signed = self.payload.is_needed(&part.digest);
        let sent = self.send_part((key, id), part, signed).await;
        if signed {
            return sent;
        }
        self.payload.learn(sent.is_ok());
        match sent {
            // A bucket's policy may deny unsigned bytes, and a store may not know of them. After other failures the caller tries again.
            Err(failure) if failure.is_refusal() && self.payload.is_needed(&part.digest) => {
                tracing::debug!(error = %failure, "part refused without a signature of its bytes: sending it with one");
                self.send_part((key, id), part, true).await
            }
            sent => sent,
        }
    }

    async fn send_part(&self, (key, id): (&str, &str), part: &PartBody, signed: bool) -> Result<UploadedPart, Failure> {
        let number = i32::try_from(part.number).unwrap_or(i32::MAX);
        let request = self.client.upload_part().bucket(&self.name).key(key).upload_id(id).part_number(number);
        let request = match &part.digest {
            PartDigest::Md5(md5) => request.content_md5(BASE64_STANDARD.encode(md5)),
            PartDigest::Crc64Nvme(crc) => request.checksum_crc64_nvme(crc64_text(*crc)),
            PartDigest::None => request,
        };
        let bytes = part.bytes.len() as u64;
        // Bytes in memory are sent with a plain checksum header. Without the SDK's retries: fewer parts may be due by
        // then.
        let request =
            request.body(ByteStream::from(part.bytes.clone())).customize().config_override(without_sdk_retries());
        let request = if signed { request } else { request.disable_payload_signing() };
        let answer = Box::pin(request.send()).await?;
        if is_other(&answer, &part.digest, &part.bytes).await {
            return Err(Failure::damaged("the store's checksum of the part is not that of what was sent"));
        }
        // A success without an ETag may have an error inside, which the SDK does not check here.
        let etag = answer.e_tag.ok_or_else(|| Failure::damaged("the answer has no ETag"))?;
        Ok(UploadedPart { etag, digest: part.digest.clone(), bytes })
    }

    pub async fn abort(&self, key: &str, id: &str) -> Result<(), Failure> {
        let request = self.client.abort_multipart_upload().bucket(&self.name).key(key).upload_id(id);
        match Box::pin(request.send()).await.map_err(Failure::from) {
            Err(failure) if !matches!(failure.kind, FailureKind::NoSuchUpload | FailureKind::NotFound) => Err(failure),
            _ => Ok(()),
        }
    }

    /// A small object's bytes, unless it has more than `most`, which are never in memory.
    pub async fn get(&self, key: &str, most: usize) -> Result<SmallObject, Failure> {
        let request = self.client.get_object().bucket(&self.name).key(key);
        let mut answer = match Box::pin(request.send()).await.map_err(Failure::from) {
            Ok(answer) => answer,
            Err(failure) if failure.kind == FailureKind::NotFound => return Ok(SmallObject::Absent),
            Err(failure) => return Err(failure),
        };
        let length = answer.content_length.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        if length > most {
            return Ok(SmallObject::TooLarge);
        }
        let mut body = BytesMut::with_capacity(length);
        while let Some(piece) = answer.body.next().await {
            let piece = piece.map_err(|error| Failure::damaged(&Chain(&error).to_string()))?;
            // A store may omit the length.
            if body.len() + piece.len() > most {
                return Ok(SmallObject::TooLarge);
            }
            body.extend_from_slice(&piece);
        }
        Ok(SmallObject::Complete(body.freeze()))
    }

    pub async fn put(&self, key: &str, body: Bytes, content_type: &str) -> Result<(), Failure> {
        let md5: [u8; 16] = Md5::digest(&body).into();
        // A sidecar is encrypted like its backup, but stays STANDARD: it is read often.
        let request = self.client.put_object().bucket(&self.name).key(key).content_type(content_type);
        let request =
            request.set_server_side_encryption(self.encryption()).set_ssekms_key_id(self.at_rest.kms_key.clone());
        let request = request.content_md5(BASE64_STANDARD.encode(md5)).body(ByteStream::from(body));
        Box::pin(request.send()).await?;
        Ok(())
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        self.at_rest.encryption.map(|encryption| match encryption {
            Encryption::Aes256 => ServerSideEncryption::Aes256,
            Encryption::Kms => ServerSideEncryption::AwsKms,
        })
    }
}

/// Whether the store's answer to a part shows that it holds other bytes. Some stores ignore a checksum that they do not
/// know, and with `S3_CHECKSUM=none` there is none.
async fn is_other(answer: &UploadPartOutput, digest: &PartDigest, bytes: &Bytes) -> bool {
    if let (PartDigest::Crc64Nvme(crc), Some(theirs)) = (digest, answer.checksum_crc64_nvme()) {
        return theirs != crc64_text(*crc);
    }
    // The ETag of an unencrypted part is the MD5 of the stored bytes; other ETags mean nothing.
    let etag = answer.e_tag().unwrap_or_default().trim_matches('"');
    if !is_md5(etag) || answer.server_side_encryption().is_some() {
        return false;
    }
    let md5 = match digest {
        PartDigest::Md5(md5) => Some(*md5),
        PartDigest::Crc64Nvme(_) | PartDigest::None => {
            let bytes = bytes.clone();
            // A part of 600 MiB takes a second: not on a thread of the runtime.
            tokio::task::spawn_blocking(move || Md5::digest(&bytes).into()).await.ok()
        }
    };
    md5.is_none_or(|md5: [u8; 16]| !etag.eq_ignore_ascii_case(&hex::encode(md5)))
}

/// Whether a text may be an MD5: 32 hexadecimal digits.
pub(super) fn is_md5(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A CRC-64 as S3 writes it: big-endian, in base64.
pub(super) fn crc64_text(crc: u64) -> String {
    BASE64_STANDARD.encode(crc.to_be_bytes())
}

/// Without the SDK's own retries.
pub(super) fn without_sdk_retries() -> Builder {
    Builder::new().retry_config(RetryConfig::disabled())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_is_judged_by_the_checksum_that_the_store_answers() {
        let bytes = Bytes::from_static(b"part");
        let md5: [u8; 16] = Md5::digest(&bytes).into();
        let (ours, other) = (hex::encode(md5), "0123456789abcdef0123456789abcdef".to_owned());
        let upper_case = format!("\"{}\"", ours.to_uppercase());
        let digests = [PartDigest::Md5(md5), PartDigest::Crc64Nvme(7), PartDigest::None];
        let plain = UploadPartOutput::builder;
        let encrypted = || plain().server_side_encryption(ServerSideEncryption::AwsKms);
        for (answer, is_damaged) in [
            (plain().e_tag(&ours), false),
            (plain().e_tag(&upper_case), false),
            (plain().e_tag(&other), true),
            (plain().e_tag("no MD5"), false),
            (encrypted().e_tag(&other), false),
        ] {
            for digest in &digests {
                let answer = answer.clone().build();
                assert_eq!(is_other(&answer, digest, &bytes).await, is_damaged, "{answer:?}, {digest:?}");
            }
        }
        for (crc, is_damaged) in [(7, false), (8, true)] {
            let answer = encrypted().e_tag(&other).checksum_crc64_nvme(crc64_text(crc)).build();
            assert_eq!(is_other(&answer, &PartDigest::Crc64Nvme(7), &bytes).await, is_damaged, "{crc}");
        }
    }
}
