//! Removes known secrets from all output, as the last line of defence.
//!
//! No message contains a secret (values are `SecretString`s, and errors never quote them), but messages quote `pg_dump`, the
//! server and S3. `log` and `commands` write through this. `config` lists the secrets.

use std::borrow::Cow;

use crate::printable::printable;

/// Shorter secrets occur in words: hiding them would garble messages and protect nothing.
const SHORTEST: usize = 4;
const MASK: &str = "[hidden]";

/// The secrets of this process.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<String>,
}

impl Redactor {
    /// Adds secrets. The old ones stay, because messages may still quote them.
    pub fn learn(&mut self, other: Self) {
        self.secrets.extend(other.secrets);
        self.sort();
    }

    /// Hides these secrets, in plain text and as JSON and Debug escape them.
    #[must_use]
    pub fn new(secrets: Vec<String>) -> Self {
        // JSON and Debug escape some characters, and log lines are escaped before this.
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

    /// The longest first, because one secret may contain another.
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

    /// A log line without secrets. In JSON only values are cleaned: a password such as `true` or `level` must not break the
    /// JSON.
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

fn clean_strings(redactor: &Redactor, value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = redactor.clean(text).into_owned(),
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| clean_strings(redactor, value)),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|value| clean_strings(redactor, value)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

/// Removes `user:password@` from URLs and `password=…` from words, for text of unknown origin such as a refused command line.
/// `quoted` are its foreign pieces: each is hidden as one piece if it may contain a password, because a password may have
/// spaces.
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
    fn hides_secrets_in_every_escaped_form() {
        let redactor = Redactor::new(vec!["s3\"cr\\et".to_owned(), "abc".to_owned(), "s3\"cr\\et-longer".to_owned()]);
        assert_eq!(redactor.clean("a s3\"cr\\et b"), "a [hidden] b");
        assert_eq!(redactor.clean(r#"{"m":"s3\"cr\\et"}"#), r#"{"m":"[hidden]"}"#);
        assert_eq!(redactor.clean("x s3\"cr\\et-longer"), "x [hidden]");
        assert_eq!(redactor.clean("abc stays"), "abc stays");
        let redactor = Redactor::new(vec!["a\"\tb\u{202e}c\\".to_owned()]);
        assert_eq!(redactor.clean(r#"a"\tb\u{202e}c\"#), "[hidden]", "as a printable line has it");
    }

    #[test]
    fn adds_learned_secrets() {
        let mut redactor = Redactor::new(vec!["first".to_owned()]);
        redactor.learn(Redactor::new(vec!["first".to_owned(), "first-and-second".to_owned()]));
        assert_eq!(redactor.clean("first first-and-second"), "[hidden] [hidden]");
        assert_eq!(redactor.secrets.len(), 2);
    }

    #[test]
    fn keeps_json_valid_when_hiding_secrets() {
        let redactor = Redactor::new(["true", "level", "12345"].map(str::to_owned).to_vec());
        let line = "{\"level\":\"INFO\",\"standby\":true,\"bytes\":1234567,\"error\":\"it is true\"}\n";
        let clean = redactor.clean_line(line);
        let value: serde_json::Value = serde_json::from_str(&clean).expect("JSON");
        assert_eq!(value["error"], "it is [hidden]");
        assert!(value["standby"] == true && value["level"] == "INFO" && value["bytes"] == 1_234_567);
        assert_eq!(redactor.clean_line("level true\n"), "[hidden] [hidden]\n");
    }

    #[test]
    fn removes_credentials_from_unknown_text() {
        let text = "unexpected argument 'postgres://u:sentinel@h/d' found, password=sentinel";
        assert!(!without_credentials(text, []).contains("sentinel"));
        assert_eq!(without_credentials("see https://example.com/a now", []), "see https://example.com/a now");
        for quoted in ["postgres://u:two sentinel@h/d", "password = 'two sentinel'", "host=h password='a sentinel'"] {
            let text = format!("unexpected argument '{quoted}' found");
            assert_eq!(without_credentials(&text, [quoted]), "unexpected argument '[hidden]' found");
        }
    }
}
