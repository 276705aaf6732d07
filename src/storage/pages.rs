//! Listings, a page at a time: of objects, of open uploads, and of an upload's parts.
//!
//! Called by `destination`, `upkeep` and `upload`. A page that is truncated without saying where the next one begins is
//! a failure: nothing may be deleted or decided by a part of a listing. Any order of a listing is accepted.

use aws_sdk_s3::primitives::DateTime as SdkTime;
use aws_sdk_s3::types::Object;
use chrono::{DateTime, Utc};

use super::failure::Failure;
use super::requests::Bucket;

/// An object in a listing.
#[derive(Clone, Debug)]
pub(super) struct ListedObject {
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A page of objects, and the token of the next page.
pub(super) type Page = (Vec<ListedObject>, Option<String>);

/// An upload that is neither completed nor aborted.
#[derive(Clone, Debug)]
pub(super) struct OpenUpload {
    pub key: String,
    pub id: String,
    /// When it was started, if the store says so.
    pub initiated: Option<DateTime<Utc>>,
}

impl Bucket {
    /// One page of the keys after `first`, from the token `after` on.
    pub async fn list(&self, prefix: &str, first: Option<&str>, after: Option<String>) -> Result<Page, Failure> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        let request = request.set_start_after(first.map(str::to_owned)).set_continuation_token(after.clone());
        let answer = Box::pin(request.send()).await.map_err(|error| Failure::from(error).of_listing())?;
        let token = answer.next_continuation_token.filter(|token| !token.is_empty());
        let next = next_page(answer.is_truncated, token, after.as_ref())?;
        let objects = answer.contents.unwrap_or_default().into_iter().map(listed);
        Ok((objects.collect::<Result<_, _>>()?, next))
    }

    /// One page of the common prefixes up to the next `/` after `prefix`, from the token `after` on.
    pub async fn list_sub_paths(
        &self,
        prefix: &str,
        after: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), Failure> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix).delimiter("/");
        let request = request.set_continuation_token(after.clone());
        let answer = Box::pin(request.send()).await.map_err(|error| Failure::from(error).of_listing())?;
        let token = answer.next_continuation_token.filter(|token| !token.is_empty());
        let next = next_page(answer.is_truncated, token, after.as_ref())?;
        let paths = answer.common_prefixes.unwrap_or_default().into_iter().filter_map(|common| common.prefix);
        Ok((paths.collect(), next))
    }

    /// The open uploads of keys that begin with `prefix`, as far as the store lists them.
    pub async fn open_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, Failure> {
        let mut found = Vec::new();
        let mut after: Option<(String, Option<String>)> = None;
        loop {
            let (key, id) = after.clone().unzip();
            let request = self.client.list_multipart_uploads().bucket(&self.name).prefix(prefix);
            let request = request.set_key_marker(key).set_upload_id_marker(id.flatten());
            let answer = Box::pin(request.send()).await?;
            let key = answer.next_key_marker.filter(|key| !key.is_empty());
            let marker = key.map(|key| (key, answer.next_upload_id_marker));
            let next = next_page(answer.is_truncated, marker, after.as_ref())?;
            found.extend(answer.uploads.unwrap_or_default().into_iter().filter_map(|upload| {
                let initiated = upload.initiated.as_ref().and_then(time);
                Some(OpenUpload { key: upload.key?, id: upload.upload_id?, initiated })
            }));
            if next.is_none() {
                return Ok(found);
            }
            after = next;
        }
    }

    /// Whether a part of an upload was written after a time. Reads pages of a thousand parts until it knows.
    pub async fn is_written_after(&self, key: &str, id: &str, earliest: DateTime<Utc>) -> Result<bool, Failure> {
        let mut after = None;
        loop {
            let request = self.client.list_parts().bucket(&self.name).key(key).upload_id(id);
            let answer = Box::pin(request.set_part_number_marker(after.clone()).send()).await?;
            let mut parts = answer.parts.unwrap_or_default().into_iter();
            // A part without a time may be new.
            if parts.any(|part| part.last_modified.as_ref().and_then(time).is_none_or(|written| written > earliest)) {
                return Ok(true);
            }
            let next = next_page(answer.is_truncated, answer.next_part_number_marker, after.as_ref())?;
            if next.is_none() {
                return Ok(false);
            }
            after = next;
        }
    }
}

/// The token of the next page; `None` after the last. A store that truncates a page without a token, or repeats the
/// token, has broken off its listing.
fn next_page<T: PartialEq>(
    is_truncated: Option<bool>,
    next: Option<T>,
    this: Option<&T>,
) -> Result<Option<T>, Failure> {
    if !is_truncated.unwrap_or(next.is_some()) {
        return Ok(None);
    }
    match next {
        Some(next) if Some(&next) != this => Ok(Some(next)),
        _ => Err(Failure::broken_listing("the listing is incomplete, but the answer has no continuation token")),
    }
}

/// An object of a listing. A missing size is unknown, not zero: an empty backup is deleted before others.
fn listed(object: Object) -> Result<ListedObject, Failure> {
    match (object.key, object.size.map(u64::try_from)) {
        (Some(key), Some(Ok(bytes))) => Ok(ListedObject { key, bytes }),
        (Some(key), _) => Err(Failure::broken_listing(&format!("the listing has no size of {key}"))),
        (None, _) => Err(Failure::broken_listing("the listing has an object without a name")),
    }
}

fn time(time: &SdkTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.secs(), time.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_marked_as_last_is_the_last() {
        assert_eq!(next_page(Some(false), Some("b"), None).ok(), Some(None));
        assert_eq!(next_page::<&str>(None, None, None).ok(), Some(None));
        assert_eq!(next_page(None, Some("b"), None).ok(), Some(Some("b")), "the next page starts here");
        assert_eq!(next_page(Some(true), Some("b"), Some(&"a")).ok(), Some(Some("b")));
        assert!(next_page(Some(true), Some("a"), Some(&"a")).is_err_and(|failure| failure.is_broken_listing()));
        assert!(next_page::<&str>(Some(true), None, Some(&"a")).is_err_and(|failure| failure.is_broken_listing()));
    }

    #[test]
    fn a_listing_without_a_size_is_broken() {
        let listed = |size| listed(Object::builder().key("k").set_size(size).build()).map(|object| object.bytes);
        assert_eq!(listed(Some(0)).ok(), Some(0));
        for size in [None, Some(-1)] {
            assert!(listed(size).is_err_and(|failure| failure.is_broken_listing()), "{size:?}");
        }
    }
}
