//! Classifies a statement of a dump by its first words, for the filter.
//!
//! Used by [`super::filter`] and [`super::rules`]. `pg_dump` writes keywords in upper case; a manipulated dump may not.

/// The statements that begin, end or divide a transaction.
const TRANSACTION: [&str; 9] =
    ["BEGIN", "COMMIT", "END", "ROLLBACK", "ABORT", "START", "SAVEPOINT", "RELEASE", "PREPARE"];
/// The number of words that classify a statement.
const WORDS: usize = 4;

/// The first words of a statement, in upper case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    words: Vec<String>,
}

impl Head {
    /// Reads the first words; a quoted name ends them.
    pub fn of(statement: &[u8]) -> Self {
        let mut words = Vec::new();
        let mut rest = without_space(statement);
        while words.len() < WORDS {
            let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
            if length == 0 {
                break;
            }
            words.push(String::from_utf8_lossy(&rest[..length]).to_ascii_uppercase());
            rest = without_space(&rest[length..]);
        }
        Self { words }
    }

    /// Whether the statement begins with this word.
    pub fn is(&self, word: &str) -> bool {
        self.words.first().is_some_and(|first| first == word)
    }

    /// Whether the statement begins with these words.
    pub fn begins(&self, words: &[&str]) -> bool {
        self.words.len() >= words.len() && self.words.iter().zip(words).all(|(own, other)| own == other)
    }

    /// Whether the statement makes or changes a subscription, as `pg_dump` writes it.
    pub fn is_of_subscription(&self) -> bool {
        ["CREATE", "ALTER"].iter().any(|word| self.begins(&[word, "SUBSCRIPTION"]))
            || self.begins(&["COMMENT", "ON", "SUBSCRIPTION"])
    }
}

/// Removes white space and comments before a statement.
fn without_space(mut text: &[u8]) -> &[u8] {
    loop {
        let space = text.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b).count();
        text = &text[space..];
        if text.starts_with(b"--") {
            let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(text.len());
            text = &text[end..];
        } else if text.starts_with(b"/*") {
            text = &text[block_comment(text)..];
        } else {
            return text;
        }
    }
}

/// Length of the comment that a text begins with. Comments nest.
fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while at < text.len() {
        match text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

/// Whether a statement belongs to transactions. `ABORT` and `END` are other words for `ROLLBACK` and `COMMIT`.
pub(super) fn is_transaction_statement(head: &Head) -> bool {
    TRANSACTION.iter().any(|word| head.is(word)) || head.begins(&["SET", "TRANSACTION"])
}
