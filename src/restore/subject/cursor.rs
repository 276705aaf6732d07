//! Reads the tokens of a statement.

use super::Name;
use crate::sql::{Token, Tokens};

/// The place in a statement.
#[derive(Clone)]
pub(in crate::restore) struct Cursor<'a>(pub Tokens<'a>);

impl<'a> Cursor<'a> {
    /// The next word in upper case.
    pub fn keyword(&mut self) -> Option<String> {
        match self.0.next()? {
            Token::Word(word) => Some(String::from_utf8_lossy(word).to_ascii_uppercase()),
            _ => None,
        }
    }

    /// Skips this keyword, unless it is a schema.
    pub fn eat(&mut self, word: &str) -> bool {
        let mut ahead = self.clone();
        let is_next = ahead.keyword().is_some_and(|next| next == word);
        let is_schema = ahead.clone().any_symbol(b'.');
        if is_next && !is_schema {
            *self = ahead;
        }
        is_next && !is_schema
    }

    /// Skips this schema with its dot.
    pub fn eat_before_dot(&mut self, word: &str) {
        let mut ahead = self.clone();
        if ahead.keyword().is_some_and(|next| next == word) && ahead.any_symbol(b'.') {
            *self = ahead;
        }
    }

    /// Skips this symbol.
    pub fn any_symbol(&mut self, symbol: u8) -> bool {
        let mut ahead = self.clone();
        let is_next = ahead.0.next() == Some(Token::Symbol(symbol));
        if is_next {
            *self = ahead;
        }
        is_next
    }

    pub fn any(&mut self, wanted: impl FnMut(Token<'a>) -> bool) -> bool {
        self.0.any(wanted)
    }

    /// Skips everything up to this keyword outside parentheses.
    pub fn skip_to(&mut self, word: &str) -> bool {
        let mut depth = 0_u32;
        self.any(|token| match token {
            Token::Symbol(b'(') => {
                depth += 1;
                false
            }
            Token::Symbol(b')') => {
                depth = depth.saturating_sub(1);
                false
            }
            Token::Word(next) => depth == 0 && next.eq_ignore_ascii_case(word.as_bytes()),
            _ => false,
        })
    }

    pub fn identifier(&mut self) -> Option<String> {
        identifier(self.0.next()?)
    }

    pub fn identifier_after(&mut self, word: &str) -> Option<String> {
        if self.eat(word) { self.identifier() } else { None }
    }

    /// The first two parts of a name with dots.
    pub fn name(&mut self) -> Option<Name> {
        let schema = self.schema()?;
        Some(Name { schema, name: self.identifier()? })
    }

    /// The schema of a qualified name, with its dot. What follows may be an operator.
    pub fn schema(&mut self) -> Option<String> {
        let schema = self.identifier()?;
        self.any_symbol(b'.').then_some(schema)
    }

    /// The next token, if it is a string: `(` before it is skipped.
    pub fn text(&mut self) -> Option<String> {
        self.any_symbol(b'(');
        self.eat("E");
        match self.0.next()? {
            Token::Text(bytes) => Some(text(bytes).replace("''", "'").replace("\\\\", "\\")),
            _ => None,
        }
    }

    /// The string that follows this string and a comma.
    pub fn text_after(&mut self, word: &str) -> Option<String> {
        self.any(|token| token == Token::Text(word.as_bytes())).then(|| self.any_symbol(b','))?;
        self.text()
    }

    /// Every qualified name from here on, also in `'s.q'::regclass`.
    pub fn names(self) -> impl Iterator<Item = Name> {
        let mut text = self;
        std::iter::from_fn(move || {
            loop {
                let mut ahead = text.clone();
                match text.0.next()? {
                    Token::Text(string) => {
                        let mut inside = Cursor(Tokens::of(string));
                        let name = inside.name().filter(|_| inside.0.next().is_none());
                        if name.is_some() {
                            return name;
                        }
                    }
                    Token::Word(_) | Token::Quoted(_) => {
                        if let Some(name) = ahead.name() {
                            text = ahead;
                            return Some(name);
                        }
                    }
                    Token::Symbol(_) => {}
                }
            }
        })
    }
}

/// The name that a token is.
pub(in crate::restore) fn identifier(token: Token<'_>) -> Option<String> {
    match token {
        Token::Word(word) => Some(text(word)),
        Token::Quoted(name) => {
            let name = name.get(1..name.len().max(2) - 1)?;
            Some(text(name).replace("\"\"", "\""))
        }
        _ => None,
    }
}

/// A name as text. In another encoding than UTF-8 each byte is a letter: different names stay different.
pub(in crate::restore) fn text(name: &[u8]) -> String {
    str::from_utf8(name).map_or_else(|_| name.iter().map(|byte| char::from(*byte)).collect(), str::to_owned)
}
