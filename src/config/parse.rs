//! Parses the text of one setting. Each error says what is wrong, and never repeats a secret.
//!
//! Called by [`super`] through the resolver, which adds the variable's name to the message.

use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use http::Uri;

use crate::codec::Codec;
use crate::pipeline::Level;
use crate::storage::{Endpoint, Prefix};

/// The unit of `pg_dump` and the server; a shorter time would become 0, which means "no limit" to them.
const LEAST_DURATION: Duration = Duration::from_millis(1);
/// The server stores timeouts as 31 bits of milliseconds (24.8 days).
const LONGEST_DURATION: Duration = Duration::from_hours(24 * 24);

/// Parses a duration from 1 ms to 24 days.
///
/// # Errors
/// If it is invalid.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration < LEAST_DURATION => Err(format!("`{text}` is not at least 1ms")),
        Ok(duration) if duration > LONGEST_DURATION => Err(format!("`{text}` is longer than 24 days")),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("`{text}` is not a duration such as `30s`, `15m` or `36h`: {error}")),
    }
}

/// Parses a duration, or `off` or 0 for none.
///
/// # Errors
/// If it is neither.
pub fn optional_duration(text: &str) -> Result<Option<Duration>, String> {
    let is_zero = humantime::parse_duration(text).is_ok_and(|duration| duration.is_zero());
    if is_zero || is_off(text) { Ok(None) } else { duration(text).map(Some) }
}

/// Whether a value turns its setting off.
#[must_use]
pub fn is_off(text: &str) -> bool {
    text.eq_ignore_ascii_case("off") || text.trim() == "0"
}

/// Parses a size in bytes within bounds.
///
/// # Errors
/// If it is not a size, or out of bounds.
pub fn size(text: &str, least: ByteSize, most: ByteSize) -> Result<u64, String> {
    let size = ByteSize::from_str(text).map_err(|_| format!("`{text}` is not a size such as `16MiB`"))?;
    if (least..=most).contains(&size) {
        Ok(size.as_u64())
    } else {
        Err(format!("`{text}` is not between {} and {}", least.display().iec(), most.display().iec()))
    }
}

/// Parses an integer within bounds.
///
/// # Errors
/// If it is invalid.
pub fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    match text.trim().parse::<u32>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("`{text}` is not a whole number from {least} to {most}")),
    }
}

/// Parses a level of this codec, or `auto`.
///
/// # Errors
/// If the codec does not have it.
pub fn level(text: &str, codec: Codec) -> Result<Level, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(Level::Auto);
    }
    let (fast, small) = codec.levels().into_inner();
    let level = number(text, fast, small).map_err(|why| format!("{why}, the levels of {codec}, nor `auto`"))?;
    Ok(Level::Fixed(level))
}

/// Parses `true` or `false`, in their common spellings.
///
/// # Errors
/// If it is neither.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("`{text}` is neither `true` nor `false`")),
    }
}

/// Parses one of these words, in any case.
///
/// # Errors
/// If it is none of them.
pub fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        format!("`{text}` is not one of {}", known.join(", "))
    })
}

/// Parses a bucket's name. Stores differ in what they allow, so only names that no store accepts are refused.
///
/// # Errors
/// If no store accepts it.
pub fn bucket(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return Err("must be the bucket's bare name, without a scheme".to_owned());
    }
    // An access point's name is its ARN, which has slashes.
    if text.contains('/') && !text.starts_with("arn:") {
        return Err("must be the bucket's name alone: a key prefix belongs in S3_PATH".to_owned());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) || text.len() < 3 && !text.starts_with("arn:") {
        return Err("is not a bucket's name: at least 3 characters, no white space".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses a key prefix, with or without slashes around it.
///
/// # Errors
/// If S3 or its tools cannot address keys below it.
pub fn prefix(text: &str) -> Result<Prefix, String> {
    let inner = text.trim_matches('/');
    if inner.starts_with("s3:") {
        return Err("must be the prefix alone, without scheme and bucket".to_owned());
    }
    if inner.split('/').any(|part| matches!(part, "." | "..")) || inner.contains("//") {
        return Err("must not have empty, `.` or `..` parts".to_owned());
    }
    if inner.chars().any(char::is_control) {
        return Err("must not have control characters".to_owned());
    }
    // S3 keys have at most 1,024 bytes; the longest name of a sidecar has less than 80.
    if inner.len() > 900 {
        return Err("is longer than 900 bytes".to_owned());
    }
    Ok(Prefix::new(inner))
}

/// Parses a region's name. The SDK panics on one that an HTTP header cannot hold.
///
/// # Errors
/// If it is not a name.
pub fn region(text: &str) -> Result<String, String> {
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
        Ok(text.to_owned())
    } else {
        Err("must be a region's name, such as us-east-1".to_owned())
    }
}

/// Parses an endpoint's URL.
///
/// # Errors
/// If it is not a plain `http` or `https` URL of a server.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    // The error does not repeat the URL, which may contain a password.
    let uri: Uri = text.parse().map_err(|_| "is not a URL such as https://s3.example.com".to_owned())?;
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    if authority.contains('@') {
        return Err("must not hold user and password: set S3_ACCESS_KEY and S3_SECRET_KEY".to_owned());
    }
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err("must begin with https:// or http://".to_owned()),
        None => return Err("must begin with https:// or http://, such as https://s3.example.com".to_owned()),
    }
    let inner = authority.rsplit_once(']').map_or(authority, |(_, behind_address)| behind_address);
    if inner.contains(':') && uri.port_u16().is_none_or(|port| port == 0) {
        return Err("must have a port from 1 to 65535, or none".to_owned());
    }
    if uri.query().is_some() || text.contains('#') {
        return Err("must not have a query or a fragment".to_owned());
    }
    Ok(Endpoint::new(&uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_sizes_and_durations() {
        let (least, most) = (ByteSize::mib(5), ByteSize::gib(5));
        assert_eq!(size("16MiB", least, most), Ok(16 << 20));
        assert_eq!(size("5 GiB", least, most), Ok(5 << 30));
        assert!(size("4MiB", least, most).is_err() && size("huge", least, most).is_err());
        assert_eq!(duration("36h"), Ok(Duration::from_hours(36)));
        assert!(duration("0s").is_err() && duration("soon").is_err());
        assert!(duration("500us").is_err() && duration("25d").is_err() && duration("584542046090y").is_err());
        for off in ["off", "OFF", "0", "0s", "0ms"] {
            assert_eq!(optional_duration(off), Ok(None), "{off}");
        }
        assert!(optional_duration("1us").is_err() && optional_duration("-1h").is_err());
    }

    #[test]
    fn normalises_slashes_of_a_prefix() {
        assert_eq!(prefix("/backup/"), Ok(Prefix::new("backup")));
        for wrong in ["a//b", "../a", "a/./b", "a\nb", "s3://b/a", "/s3:b/a"] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn refuses_user_information_in_an_endpoint_without_showing_it() {
        let why = endpoint("https://user:sentinel@host").expect_err("refused");
        assert!(!why.contains("sentinel"));
        for wrong in [
            "s3.example.com",
            "ftp://host",
            "https://host/?x",
            "https://",
            "nonsense here",
            "http://h:99999",
            "http://h:x",
            "http://h:0",
            "http://h:",
            "http://[::1]:x",
        ] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
        for right in ["http://127.0.0.1:8333", "https://host", "http://[::1]", "http://[::1]:9000/"] {
            assert!(endpoint(right).is_ok(), "{right}");
        }
    }

    #[test]
    fn buckets() {
        assert!(bucket("my-bucket").is_ok());
        for wrong in ["s3://b", "bucket/path", "a b c", "ab"] {
            assert!(bucket(wrong).is_err(), "{wrong}");
        }
    }
}
