//! What a user may give `pg_dump` (`PG_DUMP_ARGS`, or words behind `--`): an allow-list.
//!
//! Read by `config`, handed to `dump`, recorded in the manifest. An allow-list and not a deny-list, because `--schema-only`,
//! `--section`, `--enable-row-security` and their kind all end with success and a perfect trailer while half the
//! database is missing (FACTS §3). Options that leave out something the user names are taken, and make the backup a
//! *partial* one.

/// How much of the database the arguments let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// All of it.
    #[default]
    Whole,
    /// What the arguments name, or do not exclude.
    Partial,
}

/// Arguments that were found to be allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpArguments {
    words: Vec<String>,
    coverage: Coverage,
}

/// An option of `pg_dump`.
struct Known {
    long: &'static str,
    short: Option<char>,
    takes_value: bool,
    coverage: Coverage,
}

const fn flag(long: &'static str, short: Option<char>) -> Known {
    Known { long, short, takes_value: false, coverage: Coverage::Whole }
}

const fn valued(long: &'static str, short: Option<char>) -> Known {
    Known { long, short, takes_value: true, coverage: Coverage::Whole }
}

const fn partial(long: &'static str, short: Option<char>) -> Known {
    Known { long, short, takes_value: true, coverage: Coverage::Partial }
}

/// SPEC §4.5, with `pg_dump`'s own short forms and older names.
const ALLOWED: &[Known] = &[
    flag("no-owner", Some('O')),
    flag("no-privileges", Some('x')),
    flag("no-acl", None),
    flag("no-tablespaces", None),
    flag("no-comments", None),
    flag("no-publications", None),
    flag("no-subscriptions", None),
    flag("no-security-labels", None),
    flag("no-toast-compression", None),
    flag("quote-all-identifiers", None),
    flag("inserts", None),
    flag("column-inserts", None),
    flag("attribute-inserts", None),
    flag("on-conflict-do-nothing", None),
    flag("verbose", Some('v')),
    valued("extra-float-digits", None),
    valued("rows-per-insert", None),
    valued("role", None),
    valued("encoding", Some('E')),
    partial("schema", Some('n')),
    partial("exclude-schema", Some('N')),
    partial("table", Some('t')),
    partial("exclude-table", Some('T')),
    partial("extension", Some('e')),
    partial("exclude-extension", None),
    partial("exclude-table-data", None),
    partial("filter", None),
    Known { long: "no-large-objects", short: Some('B'), takes_value: false, coverage: Coverage::Partial },
    Known { long: "no-blobs", short: None, takes_value: false, coverage: Coverage::Partial },
];

impl DumpArguments {
    /// Reads words in the quoting of a shell.
    ///
    /// # Errors
    /// Where the quoting is open, or an option is not allowed: named in the message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = shlex::split(text).ok_or_else(|| "has a quote that is not closed".to_owned())?;
        let mut arguments = Self::default();
        let mut rest = words.into_iter();
        while let Some(word) = rest.next() {
            let (known, has_value) = recognise(&word)?;
            if known.coverage == Coverage::Partial {
                arguments.coverage = Coverage::Partial;
            }
            arguments.words.push(word);
            if known.takes_value && !has_value {
                let missing = || format!("--{} lacks its value", known.long);
                arguments.words.push(rest.next().ok_or_else(missing)?);
            }
        }
        Ok(arguments)
    }

    /// The words, for `pg_dump`.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The role that `pg_dump` takes on before it reads.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        let mut words = self.words.iter();
        let mut role = None;
        while let Some(word) = words.next() {
            match word.strip_prefix("--role") {
                Some("") => role = words.next().map(String::as_str),
                Some(attached) => role = attached.strip_prefix('='),
                None => {}
            }
        }
        role
    }

    /// Whether the dump says whose everything is.
    #[must_use]
    pub fn has_owners(&self) -> bool {
        !self.hold(&["--no-owner", "-O"])
    }

    /// Whether the dump holds grants.
    #[must_use]
    pub fn has_privileges(&self) -> bool {
        !self.hold(&["--no-privileges", "--no-acl", "-x"])
    }

    /// Whether the dump names tablespaces.
    #[must_use]
    pub fn has_tablespaces(&self) -> bool {
        !self.hold(&["--no-tablespaces"])
    }

    fn hold(&self, spellings: &[&str]) -> bool {
        self.words.iter().any(|word| spellings.contains(&word.as_str()))
    }

    /// How much of the database they let through.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }
}

/// Which option a word is, and whether its value is in the same word.
fn recognise(word: &str) -> Result<(&'static Known, bool), String> {
    // A bare word may be a connection string, so it is not repeated.
    if !word.starts_with('-') {
        return Err("holds a word that is no option: the database is named by POSTGRES_CONNECTION_STRING".to_owned());
    }
    let refused = || {
        // The value may be a connection string, so it is not repeated, however it is attached.
        let name = if word.starts_with("--") {
            word.split('=').next().unwrap_or(word).to_owned()
        } else {
            word.chars().take(2).collect()
        };
        format!(
            "`{name}` is not taken: it may leave a part of the database out or change the format; see the manual for what is"
        )
    };
    let found = if let Some(long) = word.strip_prefix("--") {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let known = ALLOWED.iter().find(|known| known.long == name && (known.takes_value || value.is_none()));
        known.map(|known| (known, value.is_some()))
    } else {
        let mut letters = word.strip_prefix('-').unwrap_or_default().chars();
        let known = letters.next().and_then(|letter| ALLOWED.iter().find(|known| known.short == Some(letter)));
        let has_value = letters.next().is_some();
        // `-Ox` would be two options in one word: spelled out they are taken.
        known.filter(|known| known.takes_value || !has_value).map(|known| (known, has_value))
    };
    found.ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_nothing_out_is_taken() {
        for text in
            ["", "--no-owner -x", "--role=backup -E UTF8", "-EUTF8 --rows-per-insert 100", "--verbose --inserts"]
        {
            let arguments = DumpArguments::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(arguments.coverage(), Coverage::Whole, "{text}");
        }
    }

    #[test]
    fn what_leaves_something_out_makes_the_backup_partial() {
        for text in ["-n public", "-npublic", "--exclude-table-data='audit.*'", "-T 'a b'", "--no-large-objects", "-B"]
        {
            let arguments = DumpArguments::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(arguments.coverage(), Coverage::Partial, "{text}");
        }
        let words = DumpArguments::parse(r#"-t '"My Table"'"#).expect("taken");
        assert_eq!(words.words(), ["-t", r#""My Table""#]);
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for text in [
            "--schema-only",
            "-s",
            "--data-only",
            "-a",
            "--section=data",
            "--jobs=2",
            "-j2",
            "--file=x",
            "-f x",
            "-Fc",
            "--format=c",
            "--compress=9",
            "-Z9",
            "--enable-row-security",
            "--clean",
            "-c",
            "-C",
            "--snapshot=x",
            "--dbname=other",
            "-d other",
            "-h host",
            "--host=h",
            "-U x",
            "-W",
            "--statistics-only",
            "--no-data",
            "--no-own",
            "--no-owner=x",
            "-Ox",
            "-",
            "--",
            "--lock-wait-timeout=1",
            "--version",
            "--help",
            "--no-schema",
            "--sequence-data",
            "--restrict-key=x",
            "--binary-upgrade",
        ] {
            let why = DumpArguments::parse(text).expect_err(text);
            let name = if text.starts_with("--") {
                text.split('=').next().unwrap_or(text)
            } else {
                &text[..text.len().min(2)]
            };
            assert!(why.contains(name), "{text}: {why}");
        }
        assert!(DumpArguments::parse("-n").is_err() && DumpArguments::parse("-n 'open").is_err());
    }

    #[test]
    fn the_role_is_the_last_that_is_named() {
        let role = |text: &str| DumpArguments::parse(text).expect("taken").role().map(str::to_owned);
        assert_eq!(role("--no-owner"), None);
        assert_eq!(role("--role=a"), Some("a".to_owned()));
        assert_eq!(role("--role a --role 'b c' -x"), Some("b c".to_owned()));
    }

    #[test]
    fn a_refusal_repeats_no_value() {
        for text in ["postgres://u:sentinel@h", "-dpostgres://u:sentinel@h", "--dbname=postgres://u:sentinel@h"] {
            assert!(!DumpArguments::parse(text).expect_err("refused").contains("sentinel"), "{text}");
        }
    }
}
