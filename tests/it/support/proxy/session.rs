//! Signatures. The proxy signs requests again with a key of the S3 server: for temporary credentials, which the server does not
//! know (the proxy verifies signature and token first, as S3 would), and to imitate a server that does not verify bodies. Also
//! signs the tests' own requests. Used by [`super::desk`].

use std::io;

use sha2::{Digest as _, Sha256};

use super::http::{RequestHead, header, invalid};
use super::plan::Edit;
use super::verb::split_target;
use crate::support::servers::{S3, s3};
use crate::support::setup::hex;

const TOKEN_HEADER: &str = "x-amz-security-token";

/// Temporary credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Their access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// Their session token.
    pub token: String,
}

/// The `Authorization` header, taken apart.
struct Authorization<'a> {
    access_key: &'a str,
    scope: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (credential, rest) = text.strip_prefix("AWS4-HMAC-SHA256 Credential=")?.split_once(", SignedHeaders=")?;
        let (signed, signature) = rest.split_once(", Signature=")?;
        let (access_key, scope) = credential.split_once('/')?;
        Some(Self { access_key, scope, signed: signed.split(';').collect(), signature })
    }
}

impl Session {
    /// The head with a signature of the server's own, where the request is rightly signed with these credentials.
    pub fn resigned(&self, request: &RequestHead) -> Option<Vec<u8>> {
        let given = header(&request.headers, "authorization")?;
        let authorization = Authorization::parse(given)?;
        let is_ours = authorization.access_key == self.access_key
            && header(&request.headers, TOKEN_HEADER) == Some(&self.token)
            && authorization.signed.contains(&TOKEN_HEADER)
            && signature(request, authorization.scope, &authorization.signed, &self.secret_key)?
                == authorization.signature;
        if !is_ours {
            return None;
        }
        signed_anew(request, |name| name == TOKEN_HEADER)
    }
}

/// The head without every checksum of its body, in headers and in the signature.
pub fn unchecked(request: &RequestHead) -> Option<Vec<u8>> {
    let text = String::from_utf8(request.bytes.clone()).ok()?;
    let checksum = header(&request.headers, "x-amz-content-sha256")?;
    let request = RequestHead::parse(text.replace(checksum, "UNSIGNED-PAYLOAD").into_bytes()).ok()?;
    signed_anew(&request, |name| name == "content-md5" || name.contains("-checksum-"))
}

/// The head without the header of this (lower-case) name.
pub fn without(request: &RequestHead, name: &str) -> Option<Vec<u8>> {
    signed_anew(request, |header| header == name)
}

/// A head without a signature, with the one of the key that may do everything.
///
/// # Errors
/// If it is not a valid head.
pub fn signed_head(head: String, server: &S3) -> io::Result<Vec<u8>> {
    let request = RequestHead::parse(head.into_bytes())?;
    let mut signed: Vec<String> = request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    signed.retain(|name| name != "connection");
    signed.sort();
    let names: Vec<&str> = signed.iter().map(String::as_str).collect();
    let day = header(&request.headers, "x-amz-date").unwrap_or_default().get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/s3/aws4_request", server.region);
    let signature =
        signature(&request, &scope, &names, &server.secret_key).ok_or_else(|| invalid("a header is missing"))?;
    let (key, names) = (&server.access_key, names.join(";"));
    let line = format!("AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}");
    Ok(Edit::Add("authorization".to_owned(), line).apply(&request.bytes))
}

/// The head at another address, with a signature for that; nothing where it is not rightly signed as it came.
pub fn readdressed(request: &RequestHead, target: &str, host: &str) -> Option<RequestHead> {
    let authorization = Authorization::parse(header(&request.headers, "authorization")?)?;
    let expected = signature(request, authorization.scope, &authorization.signed, &s3().secret_key)?;
    if authorization.access_key != s3().access_key || expected != authorization.signature {
        return None;
    }
    let text = String::from_utf8(request.bytes.clone()).ok()?;
    let text = text.replacen(&format!(" {} ", request.target), &format!(" {target} "), 1).into_bytes();
    let moved = Edit::Replace("host".to_owned(), host.to_owned()).apply(&text);
    RequestHead::parse(signed_anew(&RequestHead::parse(moved).ok()?, |_| false)?).ok()
}

/// The head less the headers of these (lower-case) names, with the signature of a key that the server has.
pub fn signed_anew(request: &RequestHead, is_dropped: impl Fn(&str) -> bool) -> Option<Vec<u8>> {
    let given = header(&request.headers, "authorization")?;
    let Authorization { scope, signed, .. } = Authorization::parse(given)?;
    let signed: Vec<&str> = signed.into_iter().filter(|name| !is_dropped(name)).collect();
    let signature = signature(request, scope, &signed, &s3().secret_key)?;
    let (key, names) = (&s3().access_key, signed.join(";"));
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}");
    let text = String::from_utf8(request.bytes.clone()).ok()?;
    let name = |line: &str| line.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let lines = text.split_inclusive('\n').filter(|line| !is_dropped(&name(line)));
    Some(lines.collect::<String>().replace(given, &authorization).into_bytes())
}

/// Signature Version 4 of these headers (AWS documentation, "Create a signed AWS API request").
fn signature(request: &RequestHead, scope: &str, signed: &[&str], secret: &str) -> Option<String> {
    let (path, query) = split_target(&request.target);
    let value = |name: &str| header(&request.headers, name);
    let mut parameters: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
    for parameter in &mut parameters {
        if !parameter.contains('=') {
            parameter.push('=');
        }
    }
    parameters.sort();
    let headers: Option<String> = signed.iter().map(|name| Some(format!("{name}:{}\n", value(name)?.trim()))).collect();
    let canonical =
        [&request.method, path, &parameters.join("&"), &headers?, &signed.join(";"), value("x-amz-content-sha256")?]
            .join("\n");
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", value("x-amz-date")?, hex(&Sha256::digest(canonical)));
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    Some(hex(&hmac(&key, text.as_bytes())))
}

/// HMAC-SHA-256 with a key of at most one block (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    assert!(key.len() <= BLOCK, "a longer key would have to be hashed first");
    let pad = |with: u8| -> Vec<u8> { (0..BLOCK).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}
