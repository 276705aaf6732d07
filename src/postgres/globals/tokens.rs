//! The words of a statement, as PostgreSQL's lexer reads them.
//!
//! Used to read back what [`super`] wrote. A statement of any other form has something in it that is not expected, and is
//! refused for that.

/// A piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A keyword or a name without quotes, as it is written.
    Word(String),
    /// A name in quotes, without them.
    Name(String),
    /// A literal, without its quotes.
    Text(String),
    /// A number.
    Number(String),
    /// Anything else.
    Symbol(char),
}

/// A statement's tokens, read one after the other.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    tokens: std::vec::IntoIter<Token>,
}

impl Tokens {
    /// Of a statement without its semicolon; `None` if it has what none of this program's has: comments, dollar quotes, a quote
    /// that is not closed.
    pub fn of(statement: &str) -> Option<Self> {
        let (mut tokens, mut rest) = (Vec::new(), statement.trim_start());
        while let Some(first) = rest.chars().next() {
            let (token, after) = match first {
                '"' => quoted(rest, '"', Escapes::No).map(|(name, after)| (Token::Name(name), after))?,
                '\'' => quoted(rest, '\'', Escapes::No).map(|(text, after)| (Token::Text(text), after))?,
                'E' if rest.starts_with("E'") => {
                    quoted(&rest[1..], '\'', Escapes::Yes).map(|(text, after)| (Token::Text(text), after))?
                }
                '0'..='9' => split(rest, |letter| letter.is_ascii_digit(), Token::Number),
                letter if is_of_word(letter) => split(rest, is_of_word, Token::Word),
                '(' | ')' | ',' | '=' | ':' | '-' | '.' => (Token::Symbol(first), &rest[1..]),
                _ => return None,
            };
            tokens.push(token);
            rest = after.trim_start();
        }
        let dashes = tokens.windows(2).any(|pair| pair == [Token::Symbol('-'), Token::Symbol('-')]);
        (!dashes).then(|| Self { tokens: tokens.into_iter() })
    }

    /// Takes these keywords, if they come next; else nothing.
    pub fn words(&mut self, words: &str) -> Option<()> {
        let mut ahead = self.clone();
        for word in words.split(' ') {
            match ahead.tokens.next() {
                Some(Token::Word(next)) if next.eq_ignore_ascii_case(word) => {}
                _ => return None,
            }
        }
        *self = ahead;
        Some(())
    }

    /// Takes a symbol, if it comes next.
    pub fn symbol(&mut self, symbol: char) -> Option<()> {
        self.take(|token| (token == Token::Symbol(symbol)).then_some(()))
    }

    /// Takes a name, with or without quotes.
    pub fn name(&mut self) -> Option<String> {
        self.take(|token| match token {
            Token::Word(word) => Some(word.to_ascii_lowercase()),
            Token::Name(name) => Some(name),
            _ => None,
        })
    }

    /// Takes a keyword, whatever it is, in upper case.
    pub fn word(&mut self) -> Option<String> {
        self.take(|token| match token {
            Token::Word(word) => Some(word.to_ascii_uppercase()),
            _ => None,
        })
    }

    /// Takes a literal.
    pub fn text(&mut self) -> Option<String> {
        self.take(|token| match token {
            Token::Text(text) => Some(text),
            _ => None,
        })
    }

    /// Takes literals with commas between them.
    pub fn texts(&mut self) -> Option<Vec<String>> {
        let mut texts = vec![self.text()?];
        while self.symbol(',').is_some() {
            texts.push(self.text()?);
        }
        Some(texts)
    }

    /// Takes a number, perhaps a negative one.
    pub fn number(&mut self) -> Option<i64> {
        let sign = if self.symbol('-').is_some() { -1 } else { 1 };
        let digits = self.take(|token| match token {
            Token::Number(digits) => Some(digits),
            _ => None,
        })?;
        digits.parse().ok().map(|number: i64| sign * number)
    }

    /// Whether nothing is left.
    pub fn end(&self) -> Option<()> {
        self.tokens.as_slice().is_empty().then_some(())
    }

    fn take<T>(&mut self, read: impl FnOnce(Token) -> Option<T>) -> Option<T> {
        let mut ahead = self.clone();
        let taken = read(ahead.tokens.next()?)?;
        *self = ahead;
        Some(taken)
    }
}

/// Whether `\` escapes in a literal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Yes,
    No,
}

/// What stands in quotes at the beginning of a text, and what comes after them.
fn quoted(text: &str, quote: char, escapes: Escapes) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' if escapes == Escapes::Yes => match letters.next()?.1 {
                // All that this program and pg_dump write.
                letter @ ('\\' | '\'') => value.push(letter),
                _ => return None,
            },
            letter if letter == quote && letters.peek().is_some_and(|(_, next)| *next == quote) => {
                value.extend(letters.next().map(|(_, quote)| quote));
            }
            letter if letter == quote => return Some((value, &text[at + quote.len_utf8()..])),
            letter => value.push(letter),
        }
    }
    None
}

fn split(text: &str, belongs: impl Fn(char) -> bool, token: fn(String) -> Token) -> (Token, &str) {
    let end = text.find(|letter| !belongs(letter)).unwrap_or(text.len());
    (token(text[..end].to_owned()), &text[end..])
}

fn is_of_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || !letter.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_literals_and_numbers() {
        let mut tokens =
            Tokens::of("ALTER ROLE \"it's \"\"x\"\"\" set a_b TO E'it''s \\\\ \\'x', '\\' LIMIT = -1").expect("tokens");
        assert_eq!(tokens.words("alter ROLE"), Some(()));
        assert_eq!(tokens.words("SET"), None);
        assert_eq!(tokens.name().as_deref(), Some("it's \"x\""));
        assert_eq!(tokens.words("SET"), Some(()));
        assert_eq!((tokens.name().as_deref(), tokens.words("TO")), (Some("a_b"), Some(())));
        assert_eq!(tokens.texts(), Some(vec!["it's \\ 'x".to_owned(), "\\".to_owned()]));
        assert_eq!((tokens.end(), tokens.words("LIMIT"), tokens.symbol('=')), (None, Some(()), Some(())));
        assert_eq!((tokens.number(), tokens.end()), (Some(-1), Some(())));
    }

    #[test]
    fn what_this_program_never_writes_is_refused() {
        for statement in ["a -- b", "a /* b */", "$$a$$", "'a", "\"a", "E'\\x41'", "a; b", "a\\b", "U&'a'"] {
            assert!(Tokens::of(statement).is_none(), "{statement}");
        }
    }
}
