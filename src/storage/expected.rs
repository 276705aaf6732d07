//! What the object must be, as computed here, compared with what the store says of it.
//!
//! Called by `commit`. Pure comparison: only reading the object back shows whether a difference is damage.

use md5::{Digest, Md5};

use crate::pipeline::PartDigest;
use crate::verified_dump::VerifiedDump;

use super::head::{Head, etag_parts};
use super::requests::{UploadedPart, crc64_text};
use super::upload::Upload;

/// The object that was sent.
#[derive(Debug)]
pub(super) struct Expected {
    bytes: u64,
    run_id: String,
    etag: Option<String>,
    crc64: Option<String>,
}

/// The object under the backup's key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This run's, without a difference.
    Ours,
    /// This run's, with a difference in the store's data.
    Differs(String),
    /// Without a run id, for example because the store drops metadata; it may be what was sent.
    Unnamed,
    /// Another run's.
    Foreign,
}

impl Expected {
    pub fn new(upload: &Upload, verified: &VerifiedDump) -> Self {
        // A resumed upload may lack the ETag of a part.
        let knows_all = upload.parts.keys().copied().eq(1..=verified.totals().parts);
        Self {
            bytes: verified.totals().object_bytes,
            run_id: upload.run_id.clone(),
            etag: composite_etag(upload.parts.values()).filter(|_| knows_all),
            crc64: verified.totals().object_crc64.map(crc64_text),
        }
    }

    /// Whether the object is this run's, and matches what was sent.
    pub fn judge(&self, head: &Head) -> Verdict {
        match &head.run_id {
            Some(id) if *id == self.run_id => self.difference(head).map_or(Verdict::Ours, Verdict::Differs),
            Some(_) => Verdict::Foreign,
            None if head.bytes.is_some_and(|bytes| bytes != self.bytes) => Verdict::Foreign,
            None if head.bytes.is_some() && self.is_named_by(head) => Verdict::Ours,
            None => Verdict::Unnamed,
        }
    }

    /// The difference in the store's data. An ETag that is not in S3's form for this number of parts is no difference.
    pub fn difference(&self, head: &Head) -> Option<String> {
        if let Some(bytes) = head.bytes.filter(|bytes| *bytes != self.bytes) {
            return Some(format!("it has {bytes} bytes, but {} were sent", self.bytes));
        }
        if let (Some(ours), Some(theirs)) = (&self.crc64, &head.crc64)
            && ours != theirs
        {
            return Some(format!("its CRC-64 is {theirs}, but what was sent has {ours}"));
        }
        if let (Some(ours), Some(theirs)) = (&self.etag, &head.etag)
            && etag_parts(theirs) == etag_parts(ours)
            && !is_same_etag(ours, theirs)
        {
            return Some(format!("its ETag is {theirs}, but what was sent has {ours}"));
        }
        None
    }

    /// Whether one of the store's checksums identifies the bytes that were sent.
    pub fn is_named_by(&self, head: &Head) -> bool {
        let etags = self.etag.as_ref().zip(head.etag.as_ref());
        etags.is_some_and(|(ours, theirs)| is_same_etag(ours, theirs))
            || self.crc64.is_some() && self.crc64 == head.crc64
    }
}

/// ETags usually come in quotes; OSS writes them in upper case.
fn is_same_etag(ours: &str, theirs: &str) -> bool {
    ours.eq_ignore_ascii_case(theirs.trim_matches('"'))
}

/// The ETag of a multipart object: the MD5 of the parts' MD5s, and their number. `None` unless each part's ETag is its
/// MD5; with SSE-KMS it is not.
fn composite_etag<'a>(parts: impl ExactSizeIterator<Item = &'a UploadedPart>) -> Option<String> {
    let count = parts.len();
    let mut all = Md5::new();
    for part in parts {
        let PartDigest::Md5(md5) = part.digest else { return None };
        if !is_same_etag(&hex::encode(md5), &part.etag) {
            return None;
        }
        all.update(md5);
    }
    let md5: [u8; 16] = all.finalize().into();
    Some(format!("{}-{count}", hex::encode(md5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "0123456789abcdef0123456789abcdef-2";
    const OTHER: &str = "\"fedcba9876543210fedcba9876543210-2\"";

    fn part(md5: [u8; 16], etag: &str) -> UploadedPart {
        UploadedPart { etag: etag.to_owned(), digest: PartDigest::Md5(md5), bytes: 1 }
    }

    fn expected() -> Expected {
        let (etag, crc64) = (Some(ETAG.to_owned()), Some("AAAAAAAAAAc=".to_owned()));
        Expected { bytes: 7, run_id: "ours".to_owned(), etag, crc64 }
    }

    fn head(run_id: Option<&str>, bytes: Option<u64>, etag: Option<&str>) -> Head {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Head { bytes, etag: text(etag), run_id: text(run_id), ..Head::default() }
    }

    #[test]
    fn the_etag_of_parts_is_the_one_that_s3_computes() {
        // md5("a") and md5("b"), then the md5 of both digests: as `aws s3api` shows for two such parts.
        let (a, b): ([u8; 16], [u8; 16]) = (Md5::digest(b"a").into(), Md5::digest(b"b").into());
        let both: [u8; 16] = Md5::digest([a, b].concat()).into();
        let parts = [part(a, &format!("\"{}\"", hex::encode(a))), part(b, &hex::encode(b).to_uppercase())];
        assert_eq!(composite_etag(parts.iter()), Some(format!("{}-2", hex::encode(both))));
    }

    #[test]
    fn etags_that_are_no_md5_prove_nothing() {
        assert_eq!(composite_etag([part([1; 16], "something-else")].iter()), None);
    }

    #[test]
    fn the_run_id_and_the_given_fields_decide() {
        let ours = Some("ours");
        for etag in [None, Some(ETAG), Some("\"-CKicn4fknbUCEAE=\""), Some("0x8DD3F4A5F0B2C1E-1"), Some("\"\"")] {
            for bytes in [None, Some(7)] {
                assert_eq!(expected().judge(&head(ours, bytes, etag)), Verdict::Ours, "{bytes:?} {etag:?}");
            }
        }
        // Of another number of parts: in S3's form, but not this object's.
        assert_eq!(expected().judge(&head(ours, None, Some(&OTHER.replace("-2", "-1")))), Verdict::Ours);
        assert_eq!(expected().judge(&head(ours, None, Some(&ETAG.to_uppercase()))), Verdict::Ours);
        assert_eq!(expected().judge(&head(Some("theirs"), Some(7), Some(ETAG))), Verdict::Foreign);
    }

    #[test]
    fn every_difference_is_named() {
        let other_crc = Head { crc64: Some("AAAAAAAAAAa=".to_owned()), ..head(Some("ours"), Some(7), Some(ETAG)) };
        for (head, what) in [
            (head(Some("ours"), Some(8), None), "it has 8 bytes, but 7 were sent"),
            (head(Some("ours"), Some(7), Some(OTHER)), "its ETag is \"fedcba"),
            (other_crc, "its CRC-64 is AAAAAAAAAAa="),
        ] {
            let verdict = expected().judge(&head);
            assert!(matches!(&verdict, Verdict::Differs(why) if why.starts_with(what)), "{verdict:?}");
        }
    }

    #[test]
    fn an_object_without_metadata_is_known_by_its_checksum() {
        assert_eq!(expected().judge(&head(None, Some(7), Some(ETAG))), Verdict::Ours);
        assert_eq!(expected().judge(&head(None, Some(7), Some("\"-CKicn4fknbUCEAE=\""))), Verdict::Unnamed);
        assert_eq!(expected().judge(&head(None, None, None)), Verdict::Unnamed);
        assert_eq!(expected().judge(&head(None, Some(8), Some(ETAG))), Verdict::Foreign);
    }
}
