//! Connection strings, URIs and words: what is rendered means the same, and no secret is ever in it, nor in an error.
//!
//! Input: the string; `\x01` in it stands for a secret that occurs nowhere else.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use pg_s3_backup::postgres::{Conninfo, ConninfoError, ServiceFile};
use secrecy::ExposeSecret as _;

const SECRET: &str = "S3ntinel.Of-a_Secret~9f81";

fuzz_target!(|text: &str| {
    let text = text.replace('\x01', SECRET);
    let mut conninfo = match Conninfo::parse(&text) {
        Ok(conninfo) => conninfo,
        Err(error) => return shows_nothing(&error),
    };
    let shown = format!("{conninfo} {conninfo:?}");
    let password = conninfo.password().into_iter();
    let secrets: Vec<String> = password
        .chain(conninfo.other_secrets().iter().map(|(_, secret)| secret))
        .map(|s| s.expose_secret().to_owned())
        .collect();
    assert!(secrets.iter().all(|secret| !secret.is_empty()), "an empty secret is none");
    // Written once, and taken for a secret: then it stands nowhere else.
    if text.matches(SECRET).count() == 1 && secrets.iter().any(|secret| secret.contains(SECRET)) {
        assert!(!shown.contains(SECRET), "the secret is shown");
    }
    renders_the_same(&conninfo);
    match ServiceFile::hide(&mut conninfo) {
        Ok(file) => {
            assert!(conninfo.other_secrets().is_empty());
            assert!(file.is_none() || conninfo.get("service").is_some());
        }
        Err(error) => shows_nothing(&error),
    }
    assert!(conninfo.to_string().is_empty() || Conninfo::parse(&conninfo.to_string()).is_ok());
});

/// The rendering, which children are given, has the same words and no secret.
fn renders_the_same(conninfo: &Conninfo) {
    let rendered = conninfo.to_string();
    if rendered.is_empty() {
        return;
    }
    let again = Conninfo::parse(&rendered).expect("what is rendered can be read");
    assert!(again.password().is_none() && again.other_secrets().is_empty());
    assert_eq!(again.to_string(), rendered);
    for keyword in ["host", "port", "dbname", "user", "options", "service", "passfile", "sslmode"] {
        assert_eq!(again.get(keyword), conninfo.get(keyword), "{keyword}");
    }
}

fn shows_nothing(error: &ConninfoError) {
    let mut shown = error.to_string();
    write!(shown, "{error:?}").expect("written");
    assert!(!shown.contains(SECRET), "the error shows the secret");
}
