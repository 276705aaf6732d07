//! Compares the parser of connection strings with libpq itself, on thousands of generated strings.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pg_s3_backup::postgres::{Conninfo, ConninfoError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use crate::connections::quoted;
use crate::support::setup::{installed, repository_file};

const CASES: u32 = 5_000;
/// From this version on, libpq trims spaces in a URI, or refuses them.
const TRIMS_SPACES: u32 = 170_000;

/// A process with libpq in it.
struct Libpq {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    about: About,
}

#[derive(Debug, Deserialize)]
struct About {
    version: u32,
    keywords: Vec<String>,
}

/// What libpq makes of a connection string; a value that is not UTF-8 is `None`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reading {
    Values(BTreeMap<String, Option<String>>),
    Error(String),
}

impl Libpq {
    fn start() -> Self {
        installed("libpq");
        let mut command = Command::new("python3");
        command.arg(repository_file("tests/it/support/libpq.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3");
        let stdin = child.stdin.take().expect("its input");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
        let about = serde_json::from_str(&line(&mut stdout)).expect("libpq's version and keywords");
        Self { child, stdin, stdout, about }
    }

    fn read(&mut self, conninfo: &str) -> Reading {
        writeln!(self.stdin, "{}", serde_json::json!(conninfo)).expect("written");
        serde_json::from_str(&line(&mut self.stdout)).expect("libpq's reading")
    }
}

impl Drop for Libpq {
    fn drop(&mut self) {
        // It waits for its next line.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("a line");
    line
}

/// Words that occur in connection strings, and such as do not belong there.
fn keyword() -> impl Strategy<Value = String> {
    let known = [
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "passfile",
        "sslmode",
        "sslrootcert",
        "options",
        "service",
        "application_name",
        "connect_timeout",
        "target_session_attrs",
        "requiressl",
        "keepalives",
        "channel_binding",
        "sslpassword",
    ];
    let broken = ["", "Host", "pass word", "nonsense", "hôst", "user'", "%75ser", "user%00", "ssl", "ho\\st"];
    prop_oneof![30 => select(known.to_vec()), 1 => select(broken.to_vec())].prop_map(str::to_owned)
}

/// Text, what the grammars look for, and percent-encodings good and bad.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "a", "db", "é", "漢", "🐘", " ", "\t", "\n", "\u{b}", "\u{a0}", "'", "\\", "\\'", "''", "\"", "=", "&", "?", "/",
    ":", "@", ",", "#", ";", "[", "]", "[::1]", "::1", "%25", "%20", "%C3%A9", "%ff", "%", "%4", "%zz", "%00", "+",
    "true", "5432", "-1", "127.0.0.1", "/run/pg", "$", "{", "*",
];

/// A value as people write it, of pieces that matter, or of anything.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z0-9.]{1,8}",
        3 => vec(select(PIECES), 0..6).prop_map(|pieces| pieces.concat()),
        1 => "[^\0]{0,12}",
    ]
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(String::new()), 1 => "[ \t\n\r\u{b}\u{c}]{1,3}"]
}

/// `key=value` words: bare, quoted as it should be, or quoted badly.
fn words() -> impl Strategy<Value = String> {
    let escape = |text: String| text.replace('\\', "\\\\").replace('\'', "\\'").replace([' ', '\t', '\n'], "\\ ");
    let any_value = prop_oneof![
        3 => value().prop_map(|text| quoted(&text)),
        2 => value().prop_map(escape),
        1 => value(),
        1 => value().prop_map(|text| format!("'{text}'")),
        1 => value().prop_map(|text| format!("'{text}")),
    ];
    let equals = prop_oneof![20 => Just("="), 1 => Just(""), 1 => Just("==")];
    let word = (keyword(), space(), equals, space(), any_value)
        .prop_map(|(key, left, equals, right, value)| format!("{key}{left}{equals}{right}{value}"));
    (space(), vec(word, 1..5), prop_oneof![5 => Just(" "), 1 => Just("\n\t ")], space())
        .prop_map(|(before, words, between, after)| format!("{before}{}{after}", words.join(between)))
}

fn encoded(text: &str) -> String {
    crate::connections::percent_encoded(text)
}

/// A piece of a URI: mostly encoded as it should be.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![3 => value().prop_map(|text| encoded(&text)), 1 => value()]
}

fn uri() -> impl Strategy<Value = String> {
    let scheme = prop_oneof![4 => Just("postgres://"), 4 => Just("postgresql://"), 1 => Just("postgres:/"), 1 => Just("Postgres://")];
    let user = prop_oneof![
        2 => Just(String::new()),
        2 => piece().prop_map(|user| format!("{user}@")),
        3 => (piece(), piece()).prop_map(|(user, password)| format!("{user}:{password}@")),
    ];
    let odd_hosts = ["", "[::1]", "[fe80::1%25eth0]", "[::1", "[]", "[::1]x", "a[b/c]", "[a,b]", "%2Frun%2Fpg", "h]"];
    let host =
        prop_oneof![4 => "[a-z0-9.-]{0,8}", 3 => select(odd_hosts.to_vec()).prop_map(str::to_owned), 1 => piece()];
    let port = prop_oneof![3 => Just(""), 3 => Just(":5432"), 1 => Just(":"), 1 => Just(":54:32"), 1 => Just(":x%20")];
    let address = (host, port).prop_map(|(host, port)| format!("{host}{port}"));
    let database = prop_oneof![1 => Just(String::new()), 1 => Just("/".to_owned()), 3 => piece().prop_map(|name| format!("/{name}"))];
    let parameter = prop_oneof![
        8 => (keyword(), piece()).prop_map(|(key, value)| format!("{key}={value}")),
        1 => select(&["ssl=true", "ssl=false", "novalue", "", "=", "a=b=c", "sslmode=a%3Db"][..]).prop_map(str::to_owned),
    ];
    let query = prop_oneof![
        3 => Just(String::new()),
        3 => vec(parameter, 0..4).prop_map(|parameters| format!("?{}", parameters.join("&"))),
        1 => piece().prop_map(|text| format!("?{text}&")),
    ];
    (scheme, user, vec(address, 1..4), database, query).prop_map(|(scheme, user, addresses, database, query)| {
        format!("{scheme}{user}{}{database}{query}", addresses.join(","))
    })
}

/// What is refused here though libpq takes it, and why that is meant so.
fn is_refused_on_purpose(error: &ConninfoError, text: &str, theirs: &BTreeMap<String, Option<String>>) -> bool {
    let of = |keyword: &str| theirs.get(keyword).and_then(Option::as_deref).unwrap_or_default();
    match error {
        // A password that was cut off in its middle makes such a host or database, and would be printed.
        ConninfoError::Unescaped => {
            let rest = text.split_once("://").map_or("", |(_, rest)| rest);
            let after_user =
                rest.find(['@', '/']).filter(|&at| rest[at..].starts_with('@')).map_or(rest, |at| &rest[at + 1..]);
            after_user.split('?').next().is_some_and(|place| place.contains('@'))
        }
        // libpq refuses these when it connects.
        ConninfoError::Port => of("port").split(',').any(|port| !matches!(trimmed(port).parse(), Ok(1_u16..))),
        ConninfoError::Number(keyword) => trimmed(of(keyword)).parse::<i32>().is_err(),
        ConninfoError::SslMode => !["disable", "allow", "prefer", "require"].contains(&of("sslmode")),
        // It cannot be written into arguments that are text.
        ConninfoError::NotUtf8 => {
            text.split('%').skip(1).any(|code| code.starts_with(|c| matches!(c, '8'..='9' | 'a'..='f' | 'A'..='F')))
        }
        _ => false,
    }
}

/// Without C's white space, as libpq reads a number.
fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c'])
}

fn same_as_libpq(libpq: &mut Libpq, text: &str) -> Result<(), TestCaseError> {
    let ours = Conninfo::parse(text);
    match (libpq.read(text), ours) {
        (Reading::Error(_), Err(_)) => Ok(()),
        (Reading::Error(why), Ok(ours)) => {
            Err(TestCaseError::fail(format!("libpq refuses it ({why}), we read {ours}")))
        }
        (Reading::Values(theirs), Err(error)) => {
            prop_assert!(is_refused_on_purpose(&error, text, &theirs), "libpq reads {theirs:?}, we say: {error}");
            Ok(())
        }
        (Reading::Values(theirs), Ok(ours)) => {
            // As a child gets it: arguments, and the secrets apart from them.
            let mut rendered = ours.to_string();
            if let Some(password) = ours.password() {
                rendered = format!("{rendered} password={}", quoted(password.expose_secret()));
            }
            for (keyword, secret) in ours.other_secrets() {
                rendered = format!("{rendered} {keyword}={}", quoted(secret.expose_secret()));
            }
            let ours = match libpq.read(&rendered) {
                Reading::Values(ours) => ours,
                // No `=` in it: there was no word.
                Reading::Error(_) if rendered.is_empty() => BTreeMap::new(),
                Reading::Error(why) => return Err(TestCaseError::fail(format!("libpq refuses {rendered}: {why}"))),
            };
            prop_assert_eq!(ours, theirs, "rendered: {}", rendered);
            Ok(())
        }
    }
}

#[test]
fn parses_connection_strings_like_libpq() {
    let libpq = RefCell::new(Libpq::start());
    let trims_spaces = libpq.borrow().about.version >= TRIMS_SPACES;
    let accepted = RefCell::new([0_u32; 2]);
    let strings = prop_oneof![words(), uri()];
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let result = runner.run(&strings, |text| {
        let is_uri = text.starts_with("postgres://") || text.starts_with("postgresql://");
        prop_assume!(!(trims_spaces && is_uri && text.contains(' ')));
        accepted.borrow_mut()[usize::from(is_uri)] += u32::from(Conninfo::parse(&text).is_ok());
        same_as_libpq(&mut libpq.borrow_mut(), &text)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let accepted = accepted.into_inner();
    assert!(accepted.iter().all(|&count| count > CASES / 10), "too few good ones of either form: {accepted:?}");
}

#[test]
fn every_keyword_of_libpq_is_known() {
    let mut libpq = Libpq::start();
    let keywords = std::mem::take(&mut libpq.about.keywords);
    assert!(keywords.len() > 30, "{keywords:?}");
    for keyword in keywords {
        same_as_libpq(&mut libpq, &format!("{keyword}=x")).unwrap_or_else(|error| panic!("{keyword}: {error}"));
    }
}
