//! Whether the bytes of a part are hashed once more for the signature of its request.
//!
//! Called by `requests`. The store decides: by what it verifies, and by what it has refused.

use std::sync::{Arc, OnceLock};

use crate::pipeline::PartDigest;

/// Whether the signature of a part includes its bytes, which are hashed once more for that. Over https they need not be where the
/// store verifies the part's checksum, which the signature includes.
#[derive(Clone, Debug)]
pub(super) struct PayloadSignature {
    /// Whether the store is known to verify a CRC-64. Others ignore a checksum that they do not know.
    verifies_crc64: bool,
    /// Unknown until a part without it has been taken or has failed, for any reason.
    is_required: Arc<OnceLock<bool>>,
}

impl PayloadSignature {
    /// For a store at this URL; `None` for AWS.
    pub fn new(url: Option<&str>) -> Self {
        let is_https = url.is_none_or(|url| url.starts_with("https:"));
        let is_required = if is_https { OnceLock::new() } else { OnceLock::from(true) };
        Self { verifies_crc64: url.is_none(), is_required: Arc::new(is_required) }
    }

    /// Whether the signature of a part with this checksum must include its bytes.
    pub fn is_needed(&self, digest: &PartDigest) -> bool {
        let is_verified = match digest {
            PartDigest::Md5(_) => true,
            PartDigest::Crc64Nvme(_) => self.verifies_crc64,
            PartDigest::None => false,
        };
        !is_verified || self.is_required.get().copied().unwrap_or(false)
    }

    /// Learns from a part that was sent without. The first decides.
    pub fn learn(&self, is_taken: bool) {
        if self.is_required.set(!is_taken).is_ok() && !is_taken {
            tracing::debug!("a part failed without a signature of its bytes: from now on they are signed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use aws_sdk_s3::Client;
    use aws_sdk_s3::primitives::SdkBody;
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use bytes::Bytes;
    use md5::{Digest as _, Md5};

    use super::super::failure::FailureKind;
    use super::super::requests::{Bucket, PartBody};
    use super::super::{S3Settings, client};
    use super::*;

    type Answer = (u16, &'static str);
    const TAKEN: Answer = (200, "");

    /// A store that gives these answers to parts without a signature of their bytes, then to those with one.
    #[derive(Clone, Debug)]
    struct Store {
        answers: [Answer; 2],
        /// Whether the bytes of each part were signed.
        signed: Arc<Mutex<Vec<bool>>>,
    }

    impl HttpConnector for Store {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let is_signed = request.headers().get("x-amz-content-sha256") != Some("UNSIGNED-PAYLOAD");
            self.signed.lock().expect("no panic").push(is_signed);
            let (status, code) = self.answers[usize::from(is_signed)];
            let body = if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code></Error>") };
            let mut answer = HttpResponse::new(status.try_into().expect("a status"), SdkBody::from(body));
            answer.headers_mut().insert("etag", "etag");
            HttpConnectorFuture::ready(Ok(answer))
        }
    }

    /// Sends three parts; says whether the bytes of each were signed, and why the last failed.
    async fn signed(url: Option<&str>, digest: &PartDigest, answers: [Answer; 2]) -> (Vec<bool>, Option<FailureKind>) {
        let store = Store { answers, signed: Arc::default() };
        let settings = S3Settings::of_test_server(url.unwrap_or("https://store.invalid"));
        let connector = SharedHttpConnector::new(store.clone());
        let client = client::build(&settings).await.expect("a client").client;
        let config = client.config().to_builder().http_client(http_client_fn(move |_, _| connector.clone()));
        let bucket = Bucket::new(Client::from_conf(config.build()), &settings, url);
        let part = PartBody { number: 1, bytes: Bytes::from_static(b"part"), digest: digest.clone() };
        let mut last = None;
        for _ in 0..3 {
            // As each part has its own.
            last = bucket.clone().upload_part("key", "id", &part).await.err().map(|failure| failure.kind);
        }
        let signed = store.signed.lock().expect("no panic").clone();
        (signed, last)
    }

    const HTTPS: Option<&str> = Some("https://store.invalid");

    #[tokio::test]
    async fn the_bytes_of_a_part_are_signed_where_nothing_else_protects_them() {
        let [md5, crc64] = [PartDigest::Md5(Md5::digest(b"part").into()), PartDigest::Crc64Nvme(7)];
        let http = Some("http://store.invalid");
        for (url, digest, is_signed) in [
            (HTTPS, &md5, false),
            (None, &md5, false),
            (None, &crc64, false),
            (HTTPS, &crc64, true),
            (http, &md5, true),
            (http, &crc64, true),
            (HTTPS, &PartDigest::None, true),
            (None, &PartDigest::None, true),
        ] {
            let sent = signed(url, digest, [TAKEN; 2]).await;
            assert_eq!(sent, (vec![is_signed; 3], None), "{url:?}, {digest:?}");
        }
    }

    #[tokio::test]
    async fn a_store_that_refuses_a_part_whose_bytes_are_not_signed_gets_them_signed() {
        let md5 = PartDigest::Md5(Md5::digest(b"part").into());
        let (denied, slow, gone) = ((403, "AccessDenied"), (503, "SlowDown"), (404, "NoSuchUpload"));
        for refusal in [denied, (501, "NotImplemented"), (400, "InvalidDigest")] {
            let sent = signed(HTTPS, &md5, [refusal, TAKEN]).await;
            assert_eq!(sent, (vec![false, true, true, true], None), "{refusal:?}");
        }
        // What may pass is tried again by the caller.
        for failure in [slow, (403, ""), (400, "XAmzContentSHA256Mismatch"), (400, "BadDigest")] {
            let sent = signed(HTTPS, &md5, [failure, TAKEN]).await;
            assert_eq!(sent, (vec![false, true, true], None), "{failure:?}");
        }
        // The refusal of both is the caller's, and one that has nothing to do with it.
        let sent = signed(HTTPS, &md5, [denied, denied]).await;
        assert_eq!(sent, (vec![false, true, true, true], Some(FailureKind::Refused)));
        let sent = signed(HTTPS, &md5, [denied, slow]).await;
        assert_eq!(sent, (vec![false, true, true, true], Some(FailureKind::Passing)));
        let sent = signed(HTTPS, &md5, [gone, gone]).await;
        assert_eq!(sent, (vec![false, true, true], Some(FailureKind::NoSuchUpload)));
    }
}
