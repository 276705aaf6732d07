//! The commands that restore a backup, for the manifest and for `list NAME`.
//!
//! They are the lines of one bash script. Each line runs only if the one before it succeeded, so that an existing database is
//! not overwritten. Names are quoted for any POSIX shell. A shell without `pipefail` stops with an error before the dump is
//! restored.

use super::DatabaseOption;
use super::manifest::{Manifest, Place};
use super::name::{BackupName, GLOBALS_SUFFIX};
use crate::codec::Codec;
use crate::printable::is_unprintable;
use crate::sql::quoted_name;

/// Databases that every server has, which `createdb` cannot create.
const ALWAYS_THERE: [&str; 3] = ["postgres", "template0", "template1"];
/// Decrypts a file with the identity in `key.txt`.
const DECRYPT: &str = "age -d -i key.txt";
/// The database's name without a manifest.
const UNKNOWN: &str = "restored";

/// Download, verify, create a database with the old locale, run the globals, run the dump.
///
/// Never `psql -1`: the `COMMIT` of large objects would end its transaction, and a large dump needs more locks than a server
/// allows at once.
#[must_use]
pub fn commands(place: &Place<'_>, manifest: Option<&Manifest>) -> Vec<String> {
    let (path, name) = place.location.rsplit_once('/').unwrap_or(("", place.location));
    let stored = Stored::of(name);
    let globals = manifest.and_then(|manifest| manifest.globals.as_ref());
    let globals_name = globals.map(|_| format!("{name}{}", stored.globals_suffix));
    let database = manifest.map_or_else(|| UNKNOWN.to_owned(), target);
    let target = word(&connection(&database));

    let mut files = vec![(name, manifest.map(|manifest| manifest.object_sha256.as_str()))];
    files.extend(globals_name.as_deref().zip(globals).map(|(name, globals)| (name, Some(globals.sha256.as_str()))));
    let endpoint = place.endpoint.map_or_else(String::new, |url| format!(" --endpoint-url {}", word(url)));
    let mut lines: Vec<String> =
        files.iter().map(|(file, _)| format!("aws{endpoint} s3 cp {} .", word(&format!("{path}/{file}")))).collect();
    lines.extend(files.iter().map(|(file, sum)| match sum {
        Some(sum) => format!("echo {} | sha256sum -c", word(&format!("{sum}  {file}"))),
        None => stored.test(&word(file)),
    }));
    lines.push(format!("createdb -T template0{} {}", options(manifest), operand(&database)));
    match (&globals_name, manifest) {
        (Some(globals), _) => lines.push(stored.run_globals(&word(globals), &format!("psql -X -d {target}"))),
        (None, Some(manifest)) => lines.extend(roles(manifest, &target)),
        (None, None) => {}
    }
    // The globals may have set the database or a role read-only.
    let psql = format!("PGOPTIONS='-c default_transaction_read_only=off' psql -X -v ON_ERROR_STOP=1 -d {target}");
    lines.push(format!("(set -o pipefail; {} | {psql})", stored.unpack(&word(name))));
    let last = lines.len() - 1;
    lines[..last].iter_mut().for_each(|line| line.push_str(" &&"));
    lines
}

/// The command that restores an archived object for a week. `storage_class` is what the store calls its archive.
#[must_use]
pub fn restore_request(place: &Place<'_>, storage_class: Option<&str>) -> String {
    let path = place.location.strip_prefix("s3://").unwrap_or(place.location);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let endpoint = place.endpoint.map_or_else(String::new, |url| format!(" --endpoint-url {}", word(url)));
    // Intelligent-Tiering moves the object back permanently.
    let days = if storage_class == Some("INTELLIGENT_TIERING") { "" } else { "Days=7," };
    let (bucket, key) = (word(bucket), word(key));
    format!(
        "aws{endpoint} s3api restore-object --bucket {bucket} --key {key} --restore-request '{days}GlacierJobParameters={{Tier=Standard}}'"
    )
}

impl Manifest {
    /// Adds the restore commands for its location.
    #[must_use]
    pub fn with_restore(mut self, place: &Place<'_>) -> Self {
        self.restore = commands(place, Some(&self));
        self
    }
}

/// How a backup and its globals are stored.
struct Stored {
    codec: Codec,
    is_encrypted: bool,
    globals_suffix: &'static str,
}

impl Stored {
    fn of(file_name: &str) -> Self {
        match BackupName::parse(file_name) {
            Some(name) => {
                Self { codec: name.codec(), is_encrypted: name.is_encrypted(), globals_suffix: name.globals_suffix() }
            }
            None => Self { codec: Codec::default(), is_encrypted: false, globals_suffix: GLOBALS_SUFFIX },
        }
    }

    /// The command that verifies a file's checksums.
    fn test(&self, file: &str) -> String {
        let test = match self.codec {
            Codec::Gzip => "gunzip -t",
            Codec::Zstd => "zstd -t",
        };
        if self.is_encrypted {
            format!("(set -o pipefail; {DECRYPT} {file} | {test})")
        } else {
            format!("{test} {file}")
        }
    }

    /// The command that unpacks a file to stdout.
    fn unpack(&self, file: &str) -> String {
        let unpack = match self.codec {
            Codec::Gzip => "gunzip -c",
            Codec::Zstd => "zstd -dc",
        };
        if self.is_encrypted { format!("{DECRYPT} {file} | {unpack}") } else { format!("{unpack} {file}") }
    }

    /// The command that runs the globals, which are always gzip.
    fn run_globals(&self, file: &str, psql: &str) -> String {
        if self.is_encrypted {
            format!("(set -o pipefail; {DECRYPT} {file} | gunzip -c | {psql})")
        } else {
            format!("gunzip -c {file} | {psql}")
        }
    }
}

/// The name of the new database: the old one, unless every server has it.
fn target(manifest: &Manifest) -> String {
    if ALWAYS_THERE.contains(&manifest.database.as_str()) {
        format!("{}_{UNKNOWN}", manifest.database)
    } else {
        manifest.database.clone()
    }
}

/// Encoding and locale for `createdb`. From version 15 on they have a provider, and clusters differ in their default.
fn options(manifest: Option<&Manifest>) -> String {
    let options = manifest.into_iter().flat_map(Manifest::database_options);
    let given = options.map(|DatabaseOption { name, value }| format!(" --{name}={}", word(value)));
    given.collect()
}

/// Creates the roles that the dump refers to, for a backup without globals. Existing roles stay.
fn roles(manifest: &Manifest, target: &str) -> Option<String> {
    let create = |role: &String| word(&format!("CREATE ROLE {};", quoted_name(role)));
    let statements: Vec<String> = manifest.roles.iter().map(create).collect();
    (!statements.is_empty()).then(|| format!("printf '%s\\n' {} | psql -X -d {target}", statements.join(" ")))
}

/// A database's name for psql's `-d`, which parses some names as connection strings.
fn connection(database: &str) -> String {
    if database.contains('=') || database.contains("://") || database.is_empty() {
        format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
    } else {
        database.to_owned()
    }
}

/// A word that must not be parsed as an option.
fn operand(text: &str) -> String {
    if text.starts_with('-') { format!("-- {}", word(text)) } else { word(text) }
}

/// A word, quoted for every POSIX shell. `$'…'` is not portable: a shell without it runs what follows the quote.
///
/// It contains no control characters: `printf` makes them when the command runs. Only trailing line breaks are literal, because
/// a shell removes them from the output of `printf`.
fn word(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:@%+,=".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let begin = text.trim_end_matches('\n');
    let begin = if begin.contains(is_unprintable) { made_by_printf(begin) } else { quoted(begin) };
    let end = &text[text.trim_end_matches('\n').len()..];
    if end.is_empty() { begin } else { format!("{begin}'{end}'") }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn made_by_printf(text: &str) -> String {
    // Bytes as three octal digits, also for the special characters of `printf` and quotes, and for a dash, which may start an
    // option.
    let octal =
        |letter: char| letter.to_string().bytes().fold(String::new(), |text, byte| text + &format!("\\{byte:03o}"));
    let escaped = text.chars().map(|letter| match letter {
        '\'' | '\\' | '%' | '-' => octal(letter),
        letter if is_unprintable(letter) => octal(letter),
        letter => letter.to_string(),
    });
    format!("\"$(printf '{}')\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { location: "s3://b/app/NAME.sql.gz", endpoint: None };

    fn manifest(fields: &[(&str, serde_json::Value)]) -> Manifest {
        let mut json = serde_json::json!({
            "file_name": "NAME.sql.gz", "key": "app/NAME.sql.gz", "run_id": "1", "database": "shop", "partial": false,
            "started_at": "", "finished_at": "", "server_version": "13", "pg_dump_version": "15", "tool_version": "1",
            "pg_dump_arguments": [], "database_bytes": 1, "dump_bytes": 1, "dump_crc32": "", "object_bytes": 1,
            "object_sha256": "5ac", "compression_ratio": 1.0, "compression_level": 1, "part_bytes": 1, "parts": 1,
            "encoding": "UTF8", "collation": "de_DE.UTF-8", "ctype": "C.UTF-8", "rows": 0, "tables": [],
            "globals": {"file_name": "NAME.sql.gz.globals.sql.gz", "bytes": 1, "sha256": "61a", "role_passwords": true},
        });
        for (name, value) in fields {
            json[*name] = value.clone();
        }
        serde_json::from_value(json).expect("a manifest")
    }

    #[test]
    fn each_line_is_run_only_where_the_one_before_ended_well() {
        let place = Place { location: "s3://b/my path/NAME.sql.gz", endpoint: Some("http://s3.example:9000") };
        let aws = "aws --endpoint-url http://s3.example:9000 s3 cp 's3://b/my path/NAME.sql.gz";
        let writable = "PGOPTIONS='-c default_transaction_read_only=off'";
        let wanted = [
            format!("{aws}' . &&"),
            format!("{aws}.globals.sql.gz' . &&"),
            "echo '5ac  NAME.sql.gz' | sha256sum -c &&".to_owned(),
            "echo '61a  NAME.sql.gz.globals.sql.gz' | sha256sum -c &&".to_owned(),
            "createdb -T template0 --encoding=UTF8 --lc-collate=de_DE.UTF-8 --lc-ctype=C.UTF-8 shop &&".to_owned(),
            "gunzip -c NAME.sql.gz.globals.sql.gz | psql -X -d shop &&".to_owned(),
            format!("(set -o pipefail; gunzip -c NAME.sql.gz | {writable} psql -X -v ON_ERROR_STOP=1 -d shop)"),
        ];
        assert_eq!(commands(&place, Some(&manifest(&[]))), wanted);
    }

    #[test]
    fn the_commands_are_right_for_the_codec() {
        let name = "postgres-backup-2026-11-23_02-00-00.sql.zst";
        let location = format!("s3://b/app/{name}");
        let place = Place { location: &location, endpoint: None };
        let lines = commands(&place, None);
        assert!(lines.contains(&format!("zstd -t {name} &&")), "{lines:#?}");
        let last = lines.last().expect("a line");
        assert!(last.starts_with(&format!("(set -o pipefail; zstd -dc {name} | ")), "{last}");
        let lines = commands(&place, Some(&manifest(&[])));
        assert!(lines.contains(&format!("gunzip -c {name}.globals.sql.gz | psql -X -d shop &&")), "{lines:#?}");
    }

    #[test]
    fn an_encrypted_backup_is_decrypted_first() {
        let name = "postgres-backup-2026-11-23_02-00-00.sql.zst.age";
        let location = format!("s3://b/app/{name}");
        let place = Place { location: &location, endpoint: None };
        let age = "(set -o pipefail; age -d -i key.txt";
        let lines = commands(&place, None);
        assert!(lines.contains(&format!("{age} {name} | zstd -t) &&")), "{lines:#?}");
        let last = lines.last().expect("a line");
        assert!(last.starts_with(&format!("{age} {name} | zstd -dc | PGOPTIONS")), "{last}");
        let lines = commands(&place, Some(&manifest(&[])));
        let globals = format!("{age} {name}.globals.sql.gz.age | gunzip -c | psql -X -d shop) &&");
        assert!(lines.contains(&globals), "{lines:#?}");
    }

    #[test]
    fn an_archived_object_is_asked_for() {
        let place = Place { location: "s3://b/my path/NAME.sql.gz", endpoint: Some("http://s3.example:9000") };
        let wanted = "aws --endpoint-url http://s3.example:9000 s3api restore-object --bucket b --key 'my path/NAME.sql.gz' \
                      --restore-request 'Days=7,GlacierJobParameters={Tier=Standard}'";
        assert_eq!(restore_request(&place, Some("GLACIER")), wanted);
        let by_itself = restore_request(&PLACE, Some("INTELLIGENT_TIERING"));
        assert!(by_itself.ends_with("--restore-request 'GlacierJobParameters={Tier=Standard}'"), "{by_itself}");
    }

    fn createdb(fields: &[(&str, serde_json::Value)]) -> String {
        let lines = commands(&PLACE, Some(&manifest(fields)));
        let line = lines.into_iter().find(|line| line.starts_with("createdb")).expect("a line");
        line.trim_end_matches(" &&").to_owned()
    }

    #[test]
    fn each_locale_provider_has_its_own_options() {
        let libc = "createdb -T template0 --encoding=UTF8 --lc-collate=de_DE.UTF-8 --lc-ctype=C.UTF-8 shop";
        assert_eq!(createdb(&[]), libc, "before PostgreSQL 15");
        let with = |provider: &str, locale: Option<&str>, rules: Option<&str>| {
            let line = createdb(&[
                ("locale_provider", provider.into()),
                ("locale", locale.into()),
                ("icu_rules", rules.into()),
            ]);
            line.replace("createdb -T template0 --encoding=UTF8 ", "")
                .replace(" --lc-collate=de_DE.UTF-8 --lc-ctype=C.UTF-8 shop", "")
        };
        assert_eq!(with("c", None, None), "--locale-provider=libc");
        assert_eq!(with("i", Some("und"), None), "--locale-provider=icu --icu-locale=und");
        assert_eq!(
            with("i", Some("de-u-co-phonebk"), Some("&a < b")),
            "--locale-provider=icu --icu-locale=de-u-co-phonebk --icu-rules='&a < b'"
        );
        assert_eq!(with("b", Some("C.UTF-8"), None), "--locale-provider=builtin --builtin-locale=C.UTF-8");
    }

    #[test]
    fn a_database_that_every_server_has_gets_another_name() {
        assert!(createdb(&[("database", "postgres".into())]).ends_with(" postgres_restored"));
        assert!(createdb(&[("database", "-x".into())]).ends_with(" -- -x"));
    }

    #[test]
    fn without_globals_the_roles_are_made() {
        let fields = [("globals", serde_json::Value::Null), ("roles", vec!["a", "b \"c'"].into())];
        let lines = commands(&PLACE, Some(&manifest(&fields)));
        let wanted = r#"printf '%s\n' 'CREATE ROLE "a";' 'CREATE ROLE "b ""c'\''";' | psql -X -d shop &&"#;
        assert!(lines.iter().any(|line| line == wanted), "{lines:#?}");
    }

    #[test]
    fn any_name_is_one_word() {
        for (text, wanted) in [
            ("shop_1", "shop_1"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's $HOME `x`", r"'it'\''s $HOME `x`'"),
            ("ünï 漢字", "'ünï 漢字'"),
            ("-a\nb'%\\\u{1b}\u{9b}\u{202e}", r#""$(printf '\055a\012b\047\045\134\033\302\233\342\200\256')""#),
            ("a b\n", "'a b''\n'"),
        ] {
            assert_eq!(word(text), wanted);
        }
        assert_eq!(connection("host=x y='z'\\"), r"dbname='host=x y=\'z\'\\'");
        assert_eq!(connection("postgres://h/d"), "dbname='postgres://h/d'");
        assert_eq!(connection("a b"), "a b");
    }

    /// The words that these shells parse.
    fn read_by(shell: &str, script: &str) -> String {
        let output = std::process::Command::new(shell).args(["-c", script]).output().expect("a shell");
        assert!(output.status.success(), "{shell}: {script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[test]
    fn no_name_runs_anything_in_any_shell() {
        let dir = tempfile::tempdir().expect("a directory");
        let mark = dir.path().join("PWNED");
        let touch = format!("touch {}", mark.display());
        for name in [
            format!("a\n'; {touch} #"),
            format!("a\n\\'; {touch} #"),
            format!("\n\"; {touch} #\n"),
            format!("$({touch})"),
            format!("\u{1b}`{touch}`$({touch})\u{7}"),
            format!("-n\n{touch}\n%s%n\\c\\0101\n\n"),
            "\u{202e}漢\u{9b}é\u{85}".to_owned(),
            "\n".to_owned(),
            "'\n'".to_owned(),
            "\r\n".to_owned(),
        ] {
            for shell in ["sh", "bash"] {
                assert_eq!(read_by(shell, &format!("printf '%s|' {}", word(&name))), format!("{name}|"), "{shell}");
                let roles = [
                    ("database", name.as_str().into()),
                    ("globals", serde_json::Value::Null),
                    ("roles", vec![name.as_str()].into()),
                ];
                let commands = commands(&PLACE, Some(&manifest(&roles))).join("\n");
                let stubs = "aws() { :; }; sha256sum() { :; }; gunzip() { :; }; psql() { :; }; createdb() { printf '%s|' \"$@\"; };";
                let script = format!("{stubs}\n{commands} || :");
                let arguments = read_by(shell, &script);
                assert!(arguments.ends_with(&format!("|{name}|")), "{shell}: {arguments:?} of {commands}");
                assert!(!mark.exists(), "{shell} ran what is in {name:?}: {commands}");
            }
        }
    }

    #[test]
    fn a_shell_without_pipefail_says_so_and_restores_nothing() {
        let commands = commands(&PLACE, Some(&manifest(&[]))).join("\n");
        let stubs = "aws() { :; }; sha256sum() { :; }; createdb() { :; }; gunzip() { false; }; psql() { :; };";
        for shell in ["sh", "bash"] {
            let ended = std::process::Command::new(shell).args(["-c", &format!("{stubs}\n{commands}")]).output();
            assert!(!ended.expect("a shell").status.success(), "{shell}: a backup that cannot be unpacked");
        }
    }
}
