//! Splits one statement into its tokens: words, quoted names, strings and symbols.
//!
//! Used by `restore`, which looks for the objects of a statement. Comments and white space are left out.

use memchr::memchr;

/// A token of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A keyword, a name without quotes, or a number.
    Word(&'a [u8]),
    /// A quoted name, with its quotes.
    Quoted(&'a [u8]),
    /// A string `'…'`, without its quotes; or one in dollar quotes, with them.
    Text(&'a [u8]),
    /// Any other byte.
    Symbol(u8),
}

/// The tokens of a statement.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    rest: &'a [u8],
    /// Whether the string that follows is `E'…'`.
    escapes: bool,
}

impl<'a> Tokens<'a> {
    /// Reads a statement.
    #[must_use]
    pub fn of(statement: &'a [u8]) -> Self {
        Self { rest: statement, escapes: false }
    }

    /// Takes this many bytes.
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// `'…'` or `"…"`, with its quotes. A doubled quote does not end it.
    fn quoted(&mut self, quote: u8) -> &'a [u8] {
        let (text, mut at) = (self.rest, 1);
        while let Some(byte) = text.get(at) {
            at += match byte {
                b'\\' if self.escapes => 2,
                byte if *byte == quote && text.get(at + 1) == Some(&quote) => 2,
                byte if *byte == quote => return self.take(at + 1),
                _ => 1,
            };
        }
        self.take(text.len())
    }

    /// `$tag$…$tag$`; `None` if the `$` begins none.
    fn dollar_quoted(&mut self) -> Option<&'a [u8]> {
        let text = self.rest;
        let tag = 2 + memchr(b'$', &text[1..])?;
        let is_tag = text[1..tag - 1].iter().all(|byte| is_of_word(*byte) && *byte != b'$');
        let length = memchr::memmem::find(&text[tag..], &text[..tag]).filter(|_| is_tag)?;
        Some(self.take(tag + length + tag))
    }

    fn comment(&mut self) -> bool {
        let length = match self.rest {
            [b'-', b'-', ..] => memchr(b'\n', self.rest),
            [b'/', b'*', ..] => memchr::memmem::find(self.rest, b"*/").map(|at| at + 2),
            _ => return false,
        };
        self.take(length.unwrap_or(self.rest.len()));
        true
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let space = self.rest.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b).count();
            self.take(space);
            if !self.comment() {
                break;
            }
        }
        let first = *self.rest.first()?;
        let token = match first {
            b'"' => Token::Quoted(self.quoted(b'"')),
            b'\'' => {
                let text = self.quoted(b'\'');
                Token::Text(text.get(1..text.len().max(2) - 1).unwrap_or_default())
            }
            b'$' => match self.dollar_quoted() {
                Some(text) => Token::Text(text),
                None => Token::Symbol(self.take(1)[0]),
            },
            byte if is_of_word(byte) => {
                let length = self.rest.iter().take_while(|byte| is_of_word(**byte)).count();
                Token::Word(self.take(length))
            }
            _ => Token::Symbol(self.take(1)[0]),
        };
        self.escapes = matches!(token, Token::Word(b"E" | b"e")) && self.rest.first() == Some(&b'\'');
        Some(token)
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::Token::{Quoted, Symbol, Text, Word};
    use super::*;

    #[test]
    fn splits_a_statement() {
        let statement = "CREATE VIEW a.\"b \"\"c\" /* ' */ AS -- '\nSELECT 'it''s', E'\\'', $x$ ' $$ $x$, $1;";
        let expected = [
            Word(b"CREATE"),
            Word(b"VIEW"),
            Word(b"a"),
            Symbol(b'.'),
            Quoted(b"\"b \"\"c\""),
            Word(b"AS"),
            Word(b"SELECT"),
            Text(b"it''s"),
            Symbol(b','),
            Word(b"E"),
            Text(b"\\'"),
            Symbol(b','),
            Text(b"$x$ ' $$ $x$"),
            Symbol(b','),
            Symbol(b'$'),
            Word(b"1"),
            Symbol(b';'),
        ];
        assert_eq!(Tokens::of(statement.as_bytes()).collect::<Vec<_>>(), expected);
    }

    proptest::proptest! {
        #[test]
        fn reads_any_bytes(bytes in proptest::collection::vec(proptest::sample::select(b"a'\"$\\E-/*\n ;.\xc3".to_vec()), 0..40)) {
            Tokens::of(&bytes).for_each(drop);
        }
    }
}
