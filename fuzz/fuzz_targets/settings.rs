//! Settings: an accepted value is within its bounds, and its printed form is accepted again. A refusal of a value that may have a
//! secret does not repeat it. `PG_DUMP_ARGS` accepts only listed arguments.
//!
//! Input: the setting's text, tried as each; `\x01` in it stands for a secret.
#![no_main]

use std::time::Duration;

use bytesize::ByteSize;
use libfuzzer_sys::fuzz_target;
use pg_s3_backup::config::parse;
use pg_s3_backup::postgres::{Coverage, DumpArguments};

const SECRET: &str = "S3ntinel.Of-a_Secret~9f81";
/// All that is taken (SPEC §4.5), by the complete name: `pg_dump` would also take a prefix of one.
const COMPLETE: &[&str] = &[
    "--no-owner",
    "--no-privileges",
    "--no-acl",
    "--no-tablespaces",
    "--no-comments",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
    "--no-toast-compression",
    "--quote-all-identifiers",
    "--extra-float-digits",
    "--inserts",
    "--column-inserts",
    "--attribute-inserts",
    "--rows-per-insert",
    "--on-conflict-do-nothing",
    "--role",
    "--encoding",
    "--verbose",
    "--load-via-partition-root",
    "--serializable-deferrable",
    "--no-table-access-method",
    "--disable-dollar-quoting",
    "--strict-names",
    "-O",
    "-x",
    "-E",
    "-v",
];
const PARTIAL: &[&str] = &[
    "-n",
    "-N",
    "-t",
    "-T",
    "-e",
    "--schema",
    "--exclude-schema",
    "--table",
    "--exclude-table",
    "--extension",
    "--exclude-extension",
    "--exclude-table-data",
    "--exclude-table-data-and-children",
    "--exclude-table-and-children",
    "--table-and-children",
    "--filter",
    "--no-large-objects",
    "--no-blobs",
    "-B",
];

fuzz_target!(|text: &str| {
    let text = &text.replace('\x01', SECRET);
    bounds(text);
    places(text);
    arguments(text);
});

fn bounds(text: &str) {
    if let Ok(duration) = parse::duration(text) {
        assert!((Duration::from_millis(1)..=Duration::from_hours(24 * 24)).contains(&duration));
    }
    assert!(parse::duration(text).is_err() || parse::optional_duration(text).is_ok_and(|some| some.is_some()));
    if let Ok(size) = parse::size(text, ByteSize::mib(5), ByteSize::gib(5)) {
        assert!((5 << 20..=5 << 30).contains(&size));
    }
    assert!(
        parse::number(text, 1, 9).is_ok_and(|number| (1..=9).contains(&number)) || parse::number(text, 1, 9).is_err()
    );
    let _ = parse::boolean(text);
}

fn places(text: &str) {
    if let Ok(prefix) = parse::prefix(text) {
        assert_eq!(parse::prefix(&prefix.to_string()), Ok(prefix.clone()));
        assert_eq!(prefix.file_name(&prefix.key("name")), Some("name"));
        assert!(
            prefix.key("name").len() < 1000
                && !prefix.key("name").split('/').any(|part| matches!(part, "" | "." | ".."))
        );
    }
    if let Ok(bucket) = parse::bucket(text) {
        assert_eq!(bucket, text);
    }
    if let Ok(region) = parse::region(text) {
        assert!(region.is_ascii() && !region.contains(['/', ' ', '\n']));
    }
    match parse::endpoint(text) {
        Ok(endpoint) => {
            let (_, rest) = endpoint.url().split_once("://").expect("a scheme");
            assert!(
                !rest.split('/').next().is_some_and(|authority| authority.contains('@')),
                "user information is taken"
            );
        }
        // It may hold one, so nothing of it may be shown.
        Err(why) => assert!(!why.contains(SECRET), "the refusal repeats the URL"),
    }
}

fn arguments(text: &str) {
    let Ok(arguments) = DumpArguments::parse(text) else { return };
    let words = arguments.words();
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    let again = DumpArguments::parse(&quoted.join(" ")).expect("what was taken is taken again");
    assert_eq!(again, arguments);
    let mut is_value = false;
    for word in words {
        if std::mem::take(&mut is_value) {
            continue;
        }
        let name = if word.starts_with("--") {
            word.split('=').next().unwrap_or_default()
        } else {
            word.get(..2).unwrap_or_default()
        };
        let is_partial = PARTIAL.contains(&name);
        assert!(is_partial || COMPLETE.contains(&name), "{word} is taken");
        assert!(!is_partial || arguments.coverage() == Coverage::Partial, "{word} leaves something out");
        is_value = takes_next_word(word);
    }
}

/// Options that take the next word as their value.
fn takes_next_word(word: &str) -> bool {
    const VALUED: &[&str] = &[
        "-n",
        "-N",
        "-t",
        "-T",
        "-e",
        "-E",
        "--schema",
        "--exclude-schema",
        "--table",
        "--exclude-table",
        "--extension",
        "--exclude-extension",
        "--exclude-table-data",
        "--exclude-table-data-and-children",
        "--exclude-table-and-children",
        "--table-and-children",
        "--filter",
        "--role",
        "--encoding",
        "--extra-float-digits",
        "--rows-per-insert",
    ];
    VALUED.contains(&word)
}
