//! What fails before S3 answers: the connection and TLS, by the messages of the system and of rustls. Part of
//! [`super`].

/// Codes of this program.
pub(super) const NO_CONNECTION: &str = "NoConnection";
const UNKNOWN_AUTHORITY: &str = "UnknownCertificateAuthority";
const EXPIRED_CERTIFICATE: &str = "ExpiredCertificate";
const OTHER_NAME: &str = "CertificateOfAnotherName";
const BAD_CERTIFICATE: &str = "BadCertificate";
const PLAIN_HTTP: &str = "PlainHttp";

/// Messages of failed connections, and the hint for each.
const CONNECTION: &[(&[&str], &str)] = &[
    (&["Connection refused"], "start the server, or correct host and port in S3_URL"),
    (&["dns error", "failed to lookup address"], "correct the host in S3_URL, or look at the DNS of this machine"),
    (&["unreachable", "No route to host"], "correct the host in S3_URL, or look at the network of this machine"),
];

/// The hint for a failure in transit, by its code and message.
pub(super) fn advice(code: &str, message: &str) -> Option<&'static str> {
    Some(match code {
        NO_CONNECTION => {
            let is_said = |words: &[&str]| words.iter().any(|word| message.contains(word));
            let known = CONNECTION.iter().find(|(words, _)| is_said(words));
            known.map_or("look at the server, at S3_URL, and at the network and proxies on the way", |(_, advice)| {
                advice
            })
        }
        PLAIN_HTTP => "the server speaks no TLS at this port: set S3_URL to http://, or correct its port",
        UNKNOWN_AUTHORITY => "set S3_CA_BUNDLE to the certificates of its authority, or correct S3_URL",
        EXPIRED_CERTIFICATE => "have the server's certificate renewed, or set this machine's clock",
        OTHER_NAME => "correct S3_URL: the server's certificate has other names",
        BAD_CERTIFICATE => "have the server's certificate fixed, or correct S3_URL and S3_CA_BUNDLE",
        _ => return None,
    })
}

/// The code for a failure of the server's certificate or TLS. It matches rustls's messages, because its type is inside
/// an `io::Error`, and naming it would need a dependency on its version.
pub(super) fn distrust(cause: &str) -> Option<&'static str> {
    if cause.contains("received corrupt message of type InvalidContentType") {
        return Some(PLAIN_HTTP);
    }
    let (_, why) = cause.split_once("invalid peer certificate: ")?;
    let begins = |words: &[&str]| words.iter().any(|word| why.starts_with(word));
    Some(match () {
        () if begins(&["UnknownIssuer"]) => UNKNOWN_AUTHORITY,
        () if begins(&["Expired", "certificate expired", "NotValidYet", "certificate not valid yet"]) => {
            EXPIRED_CERTIFICATE
        }
        () if begins(&["NotValidForName", "certificate not valid for name"]) => OTHER_NAME,
        () => BAD_CERTIFICATE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_certificate_failures() {
        for (cause, code) in [
            ("client error (Connect): invalid peer certificate: UnknownIssuer", Some(UNKNOWN_AUTHORITY)),
            (
                "invalid peer certificate: certificate expired: verification time 1 (UNIX), but certificate is not valid after 0",
                Some(EXPIRED_CERTIFICATE),
            ),
            ("invalid peer certificate: certificate not valid for name \"a\"; it is valid for \"b\"", Some(OTHER_NAME)),
            ("TLS handshake failed: invalid peer certificate: Expired", Some(EXPIRED_CERTIFICATE)),
            ("invalid peer certificate: BadSignature", Some(BAD_CERTIFICATE)),
            ("client error (Connect): received corrupt message of type InvalidContentType", Some(PLAIN_HTTP)),
            ("client error (Connect): tcp connect error: Connection refused", None),
        ] {
            assert_eq!(distrust(cause), code, "{cause}");
        }
    }
}
