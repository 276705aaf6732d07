//! Where psql and the server may read a statement differently, and with it where it ends.
//!
//! Used by [`super::statement`]. psql puts variables into a statement, and the server gets the text with them. psql counts the
//! words of a function's body, and the server reads its grammar: then what psql sends as one statement may be several.

/// Why psql, the server and this lexer may not agree about a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwoWays {
    /// A string continues after an `E'…'` on another line: psql reads it as a new string, the server as part of the same one.
    String,
    /// psql puts the value of a variable there, or looks for one in what the server reads as a name.
    Variable,
    /// A function's body ends elsewhere for psql than for the server.
    Body,
}

/// Words after a `:` in an array's bounds that are no variables of psql's.
const KEYWORDS: [&[u8]; 5] = [b"CASE", b"COALESCE", b"GREATEST", b"LEAST", b"NULLIF"];
/// The longest of them, plus one byte.
const KEPT: usize = 9;

/// `:NAME`, `:'NAME'`, `:"NAME"` and `:{?NAME}` outside quotes. psql sets only variables in upper case.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Variable {
    #[default]
    None,
    /// After a `:` that is not of `::`.
    Colon,
    /// After the quote that follows it.
    Quote,
    Name {
        bytes: [u8; KEPT],
        length: usize,
        is_upper: bool,
    },
}

impl Variable {
    /// Takes each byte outside quotes, and the first one in them. Says whether psql may read it as a variable.
    pub fn takes(&mut self, byte: u8) -> bool {
        let is_of_name = byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        let (next, is_variable) = match (*self, byte) {
            (Self::None, b':') => (Self::Colon, false),
            (Self::Colon, b'{') | (Self::Quote, b'A'..=b'Z') => (Self::None, true),
            (Self::Colon, b'\'' | b'"') => (Self::Quote, false),
            (Self::Colon, _) if is_of_name => (Self::None.with(byte), false),
            (name @ Self::Name { .. }, _) if is_of_name => (name.with(byte), false),
            // psql ends the name here, and a quote begins.
            (Self::Name { .. }, b'$' | b'\'') => (Self::None, true),
            (name @ Self::Name { .. }, _) => (if byte == b':' { Self::Colon } else { Self::None }, name.may_be_set()),
            _ => (Self::None, false),
        };
        *self = next;
        is_variable
    }

    /// Whether a `:` was taken that may begin one.
    pub fn is_begun(self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether the first byte in quotes is to be taken.
    pub fn is_quoted(self) -> bool {
        matches!(self, Self::Quote)
    }

    fn with(self, byte: u8) -> Self {
        let (mut bytes, length, was_upper) = match self {
            Self::Name { bytes, length, is_upper } => (bytes, length, is_upper),
            _ => ([0; KEPT], 0, byte.is_ascii_uppercase()),
        };
        if length < KEPT {
            bytes[length] = byte;
        }
        let is_upper = was_upper && (byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        Self::Name { bytes, length: (length + 1).min(KEPT), is_upper }
    }

    fn may_be_set(self) -> bool {
        let Self::Name { bytes, length, is_upper: true } = self else { return false };
        !KEYWORDS.contains(&&bytes[..length])
    }
}

/// The blocks of a statement that defines a function, as psql counts them and as the server's grammar has them.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// psql counts each BEGIN, and each CASE within.
    psql: u32,
    body: Body,
}

/// `BEGIN ATOMIC … END` as the server reads it.
#[derive(Debug, Default, PartialEq, Eq)]
enum Body {
    #[default]
    Outside,
    /// After BEGIN, and white space at most.
    Begin,
    /// Inside; END closes it where a statement begins.
    Open { is_start: bool },
}

impl Blocks {
    /// Takes a word outside parentheses, in lower case.
    pub fn word(&mut self, word: &[u8]) {
        match word {
            b"begin" => self.psql = self.psql.saturating_add(1),
            b"case" if self.psql > 0 => self.psql = self.psql.saturating_add(1),
            b"end" => self.psql = self.psql.saturating_sub(1),
            _ => {}
        }
        self.body = match (&self.body, word) {
            (Body::Outside | Body::Begin, b"begin") => Body::Begin,
            (Body::Begin, b"atomic") => Body::Open { is_start: true },
            (Body::Outside | Body::Begin, _) | (Body::Open { is_start: true }, b"end") => Body::Outside,
            (Body::Open { .. }, _) => Body::Open { is_start: false },
        };
    }

    /// Whether the bytes between words matter.
    pub fn is_begun(&self) -> bool {
        self.body != Body::Outside
    }

    /// Takes a byte between words. One of `-/*` may begin a comment.
    pub fn byte(&mut self, byte: u8) {
        match &mut self.body {
            _ if byte.is_ascii_whitespace() || byte == 0x0b => {}
            Body::Begin => self.body = Body::Outside,
            Body::Open { is_start } if !b"-/*".contains(&byte) => *is_start = false,
            _ => {}
        }
    }

    /// At a `;` outside parentheses: whether all of `blocks`, psql and the server are inside a body, or all outside.
    pub fn agree(&mut self, blocks: u32) -> bool {
        let is_open = matches!(self.body, Body::Open { .. });
        if is_open {
            self.body = Body::Open { is_start: true };
        }
        is_open == (self.psql > 0) && is_open == (blocks > 0)
    }
}
