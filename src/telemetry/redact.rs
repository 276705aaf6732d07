//! The last line of defence: takes known secrets out of whatever is about to be written.
//!
//! No message is built with a secret in it (values are `SecretString`s, and errors never quote them); but other
//! programs' words are passed on: `pg_dump`'s, the server's, S3's. `log` and `commands` write through this.

use std::borrow::Cow;

use secrecy::ExposeSecret;

use crate::config::table::{PING_URL, SETTINGS, Secrecy, Setting};
use crate::config::{Environment, Flags, Resolver};
use crate::postgres::Conninfo;
use crate::printable::printable;

use super::PingUrl;

/// Shorter ones occur in words; taking them out would garble every message and hide nothing.
const SHORTEST: usize = 4;
/// Secrets that reach this process past its own settings.
const OTHERS: &[&str] = &["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
/// Names that are shown.
const NAMES: [&str; 2] = ["PGUSER", "PGDATABASE"];
const MASK: &str = "[hidden]";

/// Knows the secrets of this process.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<String>,
}

impl Redactor {
    /// Gathers the secrets among the settings, whatever may be wrong with them.
    #[must_use]
    pub fn new(flags: &Flags, environment: &Environment) -> Self {
        let resolver = Resolver::new(flags, environment);
        // Of a URL to ping only what lets somebody ping is a secret: its host must be nameable.
        let is_secret = |setting: &Setting| setting.secrecy == Secrecy::Secret && setting.variable != PING_URL.variable;
        let settings = SETTINGS.iter().filter(|setting| is_secret(setting));
        let mut secrets: Vec<String> = settings.flat_map(|setting| resolver.every_form(setting)).collect();
        secrets.extend(OTHERS.iter().filter_map(|name| environment.get(name)?.to_str().map(str::to_owned)));
        let parsed: Vec<Conninfo> = secrets.iter().filter_map(|text| Conninfo::parse(text).ok()).collect();
        let others =
            parsed.iter().flat_map(Conninfo::other_secrets).map(|(_, secret)| secret.expose_secret().to_owned());
        secrets.extend(others);
        secrets.extend(passwords(&parsed, environment));
        secrets.extend(resolver.every_form(&PING_URL).iter().flat_map(|text| PingUrl::secrets(text)));
        Self::of(secrets)
    }

    /// Knows another's secrets, too: those of before may still come by.
    pub fn learn(&mut self, other: Self) {
        self.secrets.extend(other.secrets);
        self.sort();
    }

    fn of(secrets: Vec<String>) -> Self {
        // JSON and Debug write some characters otherwise, and lines of text are made printable before they come here.
        let escaped: Vec<String> = secrets
            .iter()
            .filter_map(|secret| serde_json::to_string(secret).ok())
            .map(|text| text.trim_matches('"').to_owned())
            .chain(secrets.iter().map(|secret| printable(secret).into_owned()))
            .collect();
        let secrets = secrets.into_iter().chain(escaped).filter(|secret| secret.len() >= SHORTEST).collect();
        let mut redactor = Self { secrets };
        redactor.sort();
        redactor
    }

    /// The longest first: a secret may be a part of another.
    fn sort(&mut self) {
        self.secrets.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        self.secrets.dedup();
    }

    /// The text without secrets.
    #[must_use]
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let hide = |text: Cow<'a, str>, secret: &String| {
            if text.contains(secret.as_str()) { Cow::Owned(text.replace(secret.as_str(), MASK)) } else { text }
        };
        self.secrets.iter().fold(Cow::Borrowed(text), hide)
    }

    /// A log line without secrets. Of one in JSON only the values are cleaned: a password such as `true` or `level` must
    /// not make it something else than JSON.
    #[must_use]
    pub fn clean_line<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let clean = self.clean(line);
        if matches!(clean, Cow::Borrowed(_)) {
            return clean;
        }
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(mut value @ serde_json::Value::Object(_)) => {
                clean_strings(self, &mut value);
                Cow::Owned(format!("{value}\n"))
            }
            _ => clean,
        }
    }
}

/// Every password of a connection, but one that is also the name of the user or of the database: those are shown in many places,
/// and a mask there would tell the password.
fn passwords(parsed: &[Conninfo], environment: &Environment) -> Vec<String> {
    let variable = |name: &&str| environment.get(name).map(|value| value.to_string_lossy().into_owned());
    let names = parsed.iter().flat_map(|conninfo| [conninfo.get("user"), conninfo.get("dbname")]);
    let names: Vec<String> = names.flatten().map(str::to_owned).chain(NAMES.iter().filter_map(variable)).collect();
    let given = parsed.iter().filter_map(Conninfo::password).map(|password| password.expose_secret().to_owned());
    given.chain(variable(&"PGPASSWORD")).filter(|password| !names.contains(password)).collect()
}

fn clean_strings(redactor: &Redactor, value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = redactor.clean(text).into_owned(),
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| clean_strings(redactor, value)),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|value| clean_strings(redactor, value)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

/// Takes `user:password@` out of URLs and `password=…` out of words: for text of unknown origin, such as a command
/// line that was refused. `quoted` are the pieces of it that somebody else wrote: each is hidden whole where it may
/// hold a password, which may have spaces in it.
#[must_use]
pub fn without_credentials<'a>(text: &str, quoted: impl IntoIterator<Item = &'a str>) -> String {
    let suspects = quoted.into_iter().filter(|piece| may_hold_a_password(piece));
    let text = suspects.fold(text.to_owned(), |text, piece| text.replace(piece, MASK));
    let words: Vec<&str> = text.split(' ').map(|word| if may_hold_a_password(word) { MASK } else { word }).collect();
    words.join(" ")
}

fn may_hold_a_password(text: &str) -> bool {
    let is_url = text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    is_url || text.to_ascii_lowercase().split_once("password").is_some_and(|(_, rest)| rest.contains('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_in_every_spelling() {
        let redactor = Redactor::of(vec!["s3\"cr\\et".to_owned(), "abc".to_owned(), "s3\"cr\\et-longer".to_owned()]);
        assert_eq!(redactor.clean("a s3\"cr\\et b"), "a [hidden] b");
        assert_eq!(redactor.clean(r#"{"m":"s3\"cr\\et"}"#), r#"{"m":"[hidden]"}"#);
        assert_eq!(redactor.clean("x s3\"cr\\et-longer"), "x [hidden]");
        assert_eq!(redactor.clean("abc stays"), "abc stays");
        let redactor = Redactor::of(vec!["a\"\tb\u{202e}c\\".to_owned()]);
        assert_eq!(redactor.clean(r#"a"\tb\u{202e}c\"#), "[hidden]", "as a printable line has it");
    }

    #[test]
    fn a_password_that_is_a_name_is_not_hidden_where_the_name_is_shown() {
        let of = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            Redactor::new(&Flags::new(), &variables.collect())
        };
        let string = |text| of(&[("POSTGRES_CONNECTION_STRING", text)]);
        let grant = "GRANT SELECT ON t TO \"backup\"";
        for redactor in [
            string("postgresql://backup:backup@h/shop"),
            string("host=h user=x dbname=backup password=backup"),
            of(&[("PGUSER", "backup"), ("PGPASSWORD", "backup")]),
            of(&[("PGDATABASE", "backup"), ("POSTGRES_CONNECTION_STRING", "postgresql://x:backup@h")]),
        ] {
            assert_eq!(redactor.clean(grant), grant);
        }
        let uri = "postgresql://backup:backup@h/shop";
        assert_eq!(string(uri).clean(uri), MASK, "the whole string is a secret all the same");
        for redactor in [
            string("postgresql://backup2:backup@h/shop"),
            of(&[("PGPASSWORD", "backup")]),
            of(&[("PGUSER", "backup"), ("S3_SECRET_KEY", "backup")]),
        ] {
            assert_eq!(redactor.clean(grant), "GRANT SELECT ON t TO \"[hidden]\"");
        }
    }

    #[test]
    fn what_is_learned_is_added() {
        let mut redactor = Redactor::of(vec!["first".to_owned()]);
        redactor.learn(Redactor::of(vec!["first".to_owned(), "first-and-second".to_owned()]));
        assert_eq!(redactor.clean("first first-and-second"), "[hidden] [hidden]");
        assert_eq!(redactor.secrets.len(), 2);
    }

    #[test]
    fn a_line_of_json_stays_json() {
        let redactor = Redactor::of(["true", "level", "12345"].map(str::to_owned).to_vec());
        let line = "{\"level\":\"INFO\",\"standby\":true,\"bytes\":1234567,\"error\":\"it is true\"}\n";
        let clean = redactor.clean_line(line);
        let value: serde_json::Value = serde_json::from_str(&clean).expect("JSON");
        assert_eq!(value["error"], "it is [hidden]");
        assert!(value["standby"] == true && value["level"] == "INFO" && value["bytes"] == 1_234_567);
        assert_eq!(redactor.clean_line("level true\n"), "[hidden] [hidden]\n");
    }

    #[test]
    fn credentials_in_unknown_text_go() {
        let text = "unexpected argument 'postgres://u:sentinel@h/d' found, password=sentinel";
        assert!(!without_credentials(text, []).contains("sentinel"));
        assert_eq!(without_credentials("see https://example.com/a now", []), "see https://example.com/a now");
        for quoted in ["postgres://u:two sentinel@h/d", "password = 'two sentinel'", "host=h password='a sentinel'"] {
            let text = format!("unexpected argument '{quoted}' found");
            assert_eq!(without_credentials(&text, [quoted]), "unexpected argument '[hidden]' found");
        }
    }
}
