//! Parses the user's arguments of `pg_dump` (`PG_DUMP_ARGS`, or words after `--`) by an allow-list, which is in `options`.
//!
//! Not a deny-list, because `--schema-only`, `--section`, `--enable-row-security` and others leave out data without an error and
//! with a valid trailer. Options that exclude named objects are accepted, and make the backup a *partial* one.

mod options;

pub use options::{DumpOption, PG_DUMP_OPTIONS};

/// Where the accepted options are listed.
const LIST: &str = "see `pg-s3-backup help backup` or docs/pg-dump-arguments.md for what is";
/// The largest distance of a suggested option.
const TYPO: usize = 2;

/// How much of the database a dump contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// All of it.
    #[default]
    Complete,
    /// The objects that the arguments include, or do not exclude.
    Partial,
}

/// Accepted arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpArguments {
    words: Vec<String>,
    /// Long names and values, in their order.
    options: Vec<(&'static str, Option<String>)>,
    coverage: Coverage,
}

impl DumpArguments {
    /// Parses words with shell quoting.
    ///
    /// # Errors
    /// If a quote is not closed, or an option is not accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = shlex::split(text).ok_or_else(|| "has a quote that is not closed".to_owned())?;
        let mut arguments = Self::default();
        let mut rest = words.into_iter();
        while let Some(word) = rest.next() {
            let (option, attached) = find_option(&word)?;
            let mut value = attached.map(str::to_owned);
            arguments.words.push(word);
            if option.value.is_some() && value.is_none() {
                let next = rest.next().ok_or_else(|| format!("--{} lacks its value", option.long))?;
                arguments.words.push(next.clone());
                value = Some(next);
            }
            if option.coverage == Coverage::Partial {
                arguments.coverage = Coverage::Partial;
            }
            arguments.options.push((option.long, value));
        }
        Ok(arguments)
    }

    /// The words, for `pg_dump`.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The options' names, without values.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.options.iter().map(|(long, _)| format!("--{long}")).collect()
    }

    /// The role of `--role`.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        let last = self.options.iter().rfind(|(long, _)| *long == "role");
        last.and_then(|(_, value)| value.as_deref())
    }

    /// Whether the dump sets owners.
    #[must_use]
    pub fn has_owners(&self) -> bool {
        !self.has(&["no-owner"])
    }

    /// Whether the dump contains grants.
    #[must_use]
    pub fn has_privileges(&self) -> bool {
        !self.has(&["no-privileges", "no-acl"])
    }

    /// Whether the dump names tablespaces.
    #[must_use]
    pub fn has_tablespaces(&self) -> bool {
        !self.has(&["no-tablespaces"])
    }

    /// Whether the dump contains subscriptions, if the role may dump them.
    #[must_use]
    pub fn has_subscriptions(&self) -> bool {
        !self.has(&["no-subscriptions"])
    }

    /// Whether a restore routes rows to their partition again.
    #[must_use]
    pub fn loads_via_partition_root(&self) -> bool {
        self.has(&["load-via-partition-root"])
    }

    fn has(&self, names: &[&str]) -> bool {
        self.options.iter().any(|(long, _)| names.contains(long))
    }

    /// How much of the database the dump contains.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }
}

/// The option of a word, and the value in the same word. No message repeats a value, which may be a connection string.
fn find_option(word: &str) -> Result<(&'static DumpOption, Option<&str>), String> {
    if let Some(long) = word.strip_prefix("--") {
        return find_long_option(long);
    }
    let Some(letters) = word.strip_prefix('-') else {
        return Err("contains a word that is not an option: set the database in POSTGRES_CONNECTION_STRING".to_owned());
    };
    let letter = letters.chars().next();
    let attached = letters.get(letter.map_or(0, char::len_utf8)..).filter(|attached| !attached.is_empty());
    let known = PG_DUMP_OPTIONS.iter().find(|option| letter.is_some() && option.short == letter);
    let spelling = letter.map_or_else(|| word.to_owned(), |letter| format!("-{letter}"));
    match known {
        None => Err(refusal(&spelling)),
        Some(option) if option.value.is_none() && attached.is_some() => {
            Err(format!("`{spelling}` takes no value: write each option as a separate word"))
        }
        Some(option) => Ok((option, attached)),
    }
}

fn find_long_option(word: &str) -> Result<(&'static DumpOption, Option<&str>), String> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    match PG_DUMP_OPTIONS.iter().find(|option| option.long == name) {
        Some(option) if option.value.is_none() && value.is_some() => Err(format!("`--{name}` takes no value")),
        Some(option) => Ok((option, value)),
        // `pg_dump` accepts a unique prefix, but which prefixes are unique depends on its version.
        None if !name.is_empty() && PG_DUMP_OPTIONS.iter().any(|option| option.long.starts_with(name)) => {
            Err(format!("`--{name}` is abbreviated; {LIST}"))
        }
        None => Err(refusal(&format!("--{name}"))),
    }
}

fn refusal(spelling: &str) -> String {
    let distance = |option: &&DumpOption| strsim::osa_distance(spelling, &format!("--{}", option.long));
    let nearest = PG_DUMP_OPTIONS.iter().min_by_key(distance).filter(|option| distance(option) <= TYPO);
    if let Some(option) = nearest.filter(|_| spelling.starts_with("--")) {
        return format!("`{spelling}` is not accepted (did you mean `--{}`?); {LIST}", option.long);
    }
    let why = "it may leave out a part of the database or change the format";
    format!("`{spelling}` is not accepted: {why}; {LIST}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_options_of_complete_dumps() {
        let long_options = "--load-via-partition-root --serializable-deferrable --no-table-access-method \
                             --disable-dollar-quoting --strict-names";
        for text in [
            "",
            "--no-owner -x",
            "--role=backup -E UTF8",
            "-EUTF8 --rows-per-insert 100",
            "--verbose --inserts",
            long_options,
        ] {
            let arguments = DumpArguments::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(arguments.coverage(), Coverage::Complete, "{text}");
        }
    }

    #[test]
    fn excluding_options_make_backup_partial() {
        for text in [
            "-n public",
            "-npublic",
            "--exclude-table-data='audit.*'",
            "-T 'a b'",
            "--no-large-objects",
            "-B",
            "--exclude-table-data-and-children=a",
            "--exclude-table-and-children a",
            "--table-and-children=a",
        ] {
            let arguments = DumpArguments::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(arguments.coverage(), Coverage::Partial, "{text}");
        }
        let words = DumpArguments::parse(r#"-t '"My Table"'"#).expect("taken");
        assert_eq!(words.words(), ["-t", r#""My Table""#]);
    }

    #[test]
    fn refuses_other_options_by_name() {
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
    fn refusal_suggests_nearest_option() {
        for (text, wanted) in [
            ("--schemas=x", "`--schemas` is not accepted (did you mean `--schema`?); see "),
            ("--no-ownr", "`--no-ownr` is not accepted (did you mean `--no-owner`?); see "),
            ("--schema-only", "`--schema-only` is not accepted: it may leave"),
            ("-s", "`-s` is not accepted: it may leave"),
            ("--no-own", "`--no-own` is abbreviated; see "),
        ] {
            let why = DumpArguments::parse(text).expect_err("refused");
            assert!(why.starts_with(wanted) && why.contains("docs/pg-dump-arguments.md"), "{text}: {why}");
            assert!(why.len() < 200, "{why}");
        }
    }

    #[test]
    fn value_is_no_option() {
        let arguments = DumpArguments::parse("-t --no-owner -T -x -n --role=x").expect("taken");
        assert!(arguments.has_owners() && arguments.has_privileges() && arguments.role().is_none());
        assert!(DumpArguments::parse("-O").is_ok_and(|arguments| !arguments.has_owners()));
    }

    #[test]
    fn last_role_counts() {
        let role = |text: &str| DumpArguments::parse(text).expect("taken").role().map(str::to_owned);
        assert_eq!(role("--no-owner"), None);
        assert_eq!(role("--role=a"), Some("a".to_owned()));
        assert_eq!(role("--role a --role 'b c' -x"), Some("b c".to_owned()));
    }

    #[test]
    fn refusal_repeats_no_value() {
        for text in ["postgres://u:sentinel@h", "-dpostgres://u:sentinel@h", "--dbname=postgres://u:sentinel@h"] {
            assert!(!DumpArguments::parse(text).expect_err("refused").contains("sentinel"), "{text}");
        }
    }
}
