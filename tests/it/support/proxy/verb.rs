//! Which S3 operation a request is: method, path and query of a path-style address. Used by [`super::FaultProxy`].

/// An S3 operation as far as the tests distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum S3Verb {
    /// `POST /bucket/key?uploads`
    CreateMultipartUpload,
    /// `PUT /bucket/key?partNumber=…&uploadId=…`
    UploadPart,
    /// `POST /bucket/key?uploadId=…`
    CompleteMultipartUpload,
    /// `DELETE /bucket/key?uploadId=…`
    AbortMultipartUpload,
    /// `GET /bucket/key?uploadId=…`
    ListParts,
    /// `GET /bucket?uploads`
    ListMultipartUploads,
    /// `HEAD /bucket/key`
    HeadObject,
    /// `HEAD /bucket`
    HeadBucket,
    /// `GET /bucket/key`
    GetObject,
    /// `PUT /bucket/key`
    PutObject,
    /// `DELETE /bucket/key`
    DeleteObject,
    /// `POST /bucket?delete`
    DeleteObjects,
    /// `GET /bucket`, both versions of the listing
    ListObjects,
    /// Anything else: bucket creation, tags, ACLs, versions, location …
    Other,
}

/// Sub-resources that turn a request into something other than the plain operation on an object or a bucket.
const SUB_RESOURCES: [&str; 20] = [
    "acl",
    "attributes",
    "cors",
    "encryption",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "object-lock",
    "policy",
    "replication",
    "restore",
    "retention",
    "select",
    "tagging",
    "torrent",
    "versioning",
    "versions",
    "website",
];

impl S3Verb {
    /// Classifies a request by its method and its request target (`/bucket/key?query`).
    pub fn classify(method: &str, target: &str) -> Self {
        let (path, query) = split_target(target);
        let has = |name: &str| query_names(query).any(|found| found == name);
        if SUB_RESOURCES.iter().any(|name| has(name)) {
            return Self::Other;
        }
        let (bucket, key) = split_path(path);
        if bucket.is_empty() {
            return Self::Other;
        }
        match (method, key.is_empty()) {
            ("POST", false) if has("uploads") => Self::CreateMultipartUpload,
            ("PUT", false) if has("uploadId") => Self::UploadPart,
            ("POST", false) if has("uploadId") => Self::CompleteMultipartUpload,
            ("DELETE", false) if has("uploadId") => Self::AbortMultipartUpload,
            ("GET", false) if has("uploadId") => Self::ListParts,
            ("GET", true) if has("uploads") => Self::ListMultipartUploads,
            ("HEAD", false) => Self::HeadObject,
            ("HEAD", true) => Self::HeadBucket,
            ("GET", false) => Self::GetObject,
            ("PUT", false) => Self::PutObject,
            ("DELETE", false) => Self::DeleteObject,
            ("POST", true) if has("delete") => Self::DeleteObjects,
            ("GET", true) => Self::ListObjects,
            _ => Self::Other,
        }
    }
}

/// Splits a request target into path and query; an absolute one (`http://host/…`) loses its host.
pub fn split_target(target: &str) -> (&str, &str) {
    let local = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => target,
    };
    local.split_once('?').unwrap_or((local, ""))
}

/// Splits a path into bucket and key, both still percent-encoded; the key is empty for the bucket itself.
pub fn split_path(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').unwrap_or((path, ""))
}

/// The object's key, percent-decoded; empty for a request to the bucket itself.
pub fn key_of(path: &str) -> String {
    decoded(split_path(path).1)
}

/// A parameter of a query, percent-decoded; `None` where it is not there.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> String {
    let raw = text.as_bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        let escaped = raw.get(at + 1..at + 3).filter(|_| byte == b'%');
        let value = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        decoded.push(value.unwrap_or(byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn query_names(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::{S3Verb, key_of};

    #[test]
    fn every_verb_is_recognised() {
        let cases = [
            ("POST", "/b/k?uploads", S3Verb::CreateMultipartUpload),
            ("POST", "/b/a/k?uploads=&x-id=CreateMultipartUpload", S3Verb::CreateMultipartUpload),
            ("PUT", "/b/k?x-id=UploadPart&partNumber=3&uploadId=x", S3Verb::UploadPart),
            ("POST", "/b/k?uploadId=x", S3Verb::CompleteMultipartUpload),
            ("DELETE", "/b/k?x-id=AbortMultipartUpload&uploadId=x", S3Verb::AbortMultipartUpload),
            ("GET", "/b/k?x-id=ListParts&uploadId=x", S3Verb::ListParts),
            ("GET", "/b?uploads&prefix=p", S3Verb::ListMultipartUploads),
            ("GET", "/b/?uploads", S3Verb::ListMultipartUploads),
            ("HEAD", "/b/k", S3Verb::HeadObject),
            ("HEAD", "/b", S3Verb::HeadBucket),
            ("HEAD", "/b/", S3Verb::HeadBucket),
            ("GET", "/b/k?x-id=GetObject", S3Verb::GetObject),
            ("PUT", "/b/k?x-id=PutObject", S3Verb::PutObject),
            ("PUT", "http://s3.test:80/b/k", S3Verb::PutObject),
            ("DELETE", "/b/k", S3Verb::DeleteObject),
            ("POST", "/b/?delete", S3Verb::DeleteObjects),
            ("GET", "/b?list-type=2&prefix=uploads", S3Verb::ListObjects),
            ("GET", "/b/k?tagging", S3Verb::Other),
            ("GET", "/b?location", S3Verb::Other),
            ("PUT", "/b", S3Verb::Other),
            ("GET", "/", S3Verb::Other),
        ];
        for (method, target, verb) in cases {
            assert_eq!(S3Verb::classify(method, target), verb, "{method} {target}");
        }
    }

    #[test]
    fn the_key_is_decoded() {
        assert_eq!(key_of("/b/a%20b/%C3%A4.gz"), "a b/ä.gz");
        assert_eq!(key_of("/b/100%"), "100%");
        assert_eq!(key_of("/b"), "");
    }
}
