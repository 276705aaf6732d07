//! One statement, from its first byte to the `;` that ends it for psql.
//!
//! Used by the lexer. A `;` ends no statement inside quotes, comments, parentheses (rules with several actions) and
//! `BEGIN ATOMIC … END` (functions in SQL, from PostgreSQL 14 on).

use memchr::{memchr, memchr2};

use super::comment::Comment;

/// As long as the longest keyword that is looked for, `procedure`, and one byte more.
const WORD_BYTES: usize = 10;

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Outside quotes and comments.
    #[default]
    Plain,
    Comment(Comment),
    /// `'…'`; a doubled quote ends it and begins it again.
    Text,
    /// `E'…'`, where `\` escapes.
    EscapeText,
    /// After a `\` in such a text.
    Escaped,
    /// After a `'` that ends such a text unless another follows.
    EscapeTextEnd,
    /// `"…"`; a doubled quote ends it and begins it again.
    Name,
    /// After a `$` that may begin a dollar quote.
    DollarTag,
    /// `$tag$…$tag$`, with `matched` bytes of the closing tag seen.
    Dollar {
        matched: usize,
    },
}

/// Why the reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// No more bytes are there.
    NoMore,
    /// The statement ends.
    End,
    /// The next byte is a `\`, which begins a psql command.
    PsqlCommand,
}

/// A statement that is being read.
#[derive(Debug)]
pub(super) struct Statement {
    state: State,
    /// The byte before, where it may be the first of a comment's two.
    last: u8,
    word: Word,
    /// The statement's first words.
    routine: Routine,
    parentheses: u32,
    /// Open `BEGIN ATOMIC` and the `CASE` inside it.
    blocks: u32,
    after_begin: bool,
    tag: Vec<u8>,
    conforming: bool,
    continuation: Continuation,
}

/// SQL's way to write a long string: it goes on after white space and comments.
#[derive(Debug, Default)]
struct Continuation {
    /// Only those came since an `E'…'`.
    is_possible: bool,
    /// One went on in this statement.
    was_seen: bool,
}

impl Default for Statement {
    fn default() -> Self {
        Self {
            state: State::Plain,
            last: 0,
            word: Word::default(),
            routine: Routine::default(),
            parentheses: 0,
            blocks: 0,
            after_begin: false,
            tag: Vec::new(),
            conforming: true,
            continuation: Continuation::default(),
        }
    }
}

impl Statement {
    /// Begins another, as `standard_conforming_strings` says from then on.
    pub fn begin(&mut self) {
        *self = Self { tag: std::mem::take(&mut self.tag), conforming: self.conforming, ..Self::default() };
    }

    /// Whether `\` is an ordinary byte in `'…'` (`standard_conforming_strings`).
    pub fn set_conforming(&mut self, conforming: Conforming) {
        self.conforming = conforming == Conforming::On;
    }

    /// Whether psql and the server read it differently.
    pub fn reads_two_ways(&self) -> bool {
        self.continuation.was_seen
    }

    /// Reads on. Returns how many bytes belong to the statement, and why no more do.
    pub fn advance(&mut self, rest: &[u8]) -> (usize, Stop) {
        let mut at = 0;
        while at < rest.len() {
            let (used, stop) = self.step(&rest[at..]);
            at += used;
            if stop != Stop::NoMore {
                return (at, stop);
            }
        }
        (at, Stop::NoMore)
    }

    /// Reads on until the state changes. May read nothing where the next byte belongs to the new state.
    fn step(&mut self, rest: &[u8]) -> (usize, Stop) {
        let used = match &mut self.state {
            State::Plain => return self.plain(rest),
            State::Comment(comment) => {
                let (used, ends) = comment.advance(rest);
                if ends {
                    self.state = State::Plain;
                }
                used
            }
            State::Text => self.to(memchr(b'\'', rest), State::Plain, rest),
            State::Name => self.to(memchr(b'"', rest), State::Plain, rest),
            State::EscapeText => {
                let at = memchr2(b'\'', b'\\', rest);
                let is_escape = at.is_some_and(|at| rest[at] == b'\\');
                self.to(at, if is_escape { State::Escaped } else { State::EscapeTextEnd }, rest)
            }
            State::Escaped => self.to(Some(0), State::EscapeText, rest),
            State::EscapeTextEnd if rest[0] == b'\'' => self.to(Some(0), State::EscapeText, rest),
            State::EscapeTextEnd => {
                self.state = State::Plain;
                self.continuation.is_possible = true;
                0
            }
            State::DollarTag => self.dollar_tag(rest[0]),
            State::Dollar { matched: 0 } => self.to(memchr(b'$', rest), State::Dollar { matched: 1 }, rest),
            State::Dollar { matched } => {
                let byte = rest[0];
                *matched = if self.tag.get(*matched) == Some(&byte) { *matched + 1 } else { usize::from(byte == b'$') };
                if *matched == self.tag.len() {
                    self.state = State::Plain;
                }
                1
            }
        };
        (used, Stop::NoMore)
    }

    /// Reads up to the byte at `at`, which leads to another state; without one, all.
    fn to(&mut self, at: Option<usize>, state: State, rest: &[u8]) -> usize {
        let Some(at) = at else { return rest.len() };
        self.state = state;
        at + 1
    }

    fn plain(&mut self, rest: &[u8]) -> (usize, Stop) {
        for (at, &byte) in rest.iter().enumerate() {
            if self.word.takes(byte) {
                self.continuation.is_possible = false;
                continue;
            }
            // `\` begins a command wherever it stands: no operator has it.
            if byte == b'\\' {
                self.end_word();
                self.last = 0;
                return (at, Stop::PsqlCommand);
            }
            let last = if self.word.is_empty() { self.last } else { 0 };
            // Space goes on, and what may be the first byte of a comment.
            let is_operator = last != 0 && b"-/*".contains(&last) && Comment::begun_by(last, byte).is_none();
            let continues = self.continuation.is_possible && !is_operator;
            self.continuation.is_possible = continues && (byte.is_ascii_whitespace() || b"-/*".contains(&byte));
            self.continuation.was_seen |= continues && byte == b'\'';
            let escapes = !self.conforming || self.word.is(b"e") || continues;
            self.end_word();
            self.last = byte;
            self.state = match byte {
                b'\'' if escapes => State::EscapeText,
                b'\'' => State::Text,
                b'"' => State::Name,
                b'$' => State::DollarTag,
                b'-' | b'*' => match Comment::begun_by(last, byte) {
                    Some(comment) => State::Comment(comment),
                    None => continue,
                },
                b';' if self.parentheses == 0 && self.blocks == 0 => return (at + 1, Stop::End),
                b'(' | b')' => {
                    self.parenthesis(byte);
                    continue;
                }
                _ => continue,
            };
            self.last = 0;
            self.tag.clear();
            return (at + 1, Stop::NoMore);
        }
        (rest.len(), Stop::NoMore)
    }

    fn parenthesis(&mut self, byte: u8) {
        self.parentheses = match byte {
            b'(' => self.parentheses.saturating_add(1),
            _ => self.parentheses.saturating_sub(1),
        };
    }

    /// The rule of psql, but for `BEGIN` without `ATOMIC`: a function may be named `begin`.
    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.word);
        self.routine.add(&word);
        if self.parentheses > 0 || !self.routine.is_defined() {
            return;
        }
        let after_begin = std::mem::replace(&mut self.after_begin, word.is(b"begin"));
        if word.is(b"atomic") && after_begin || word.is(b"case") && self.blocks > 0 {
            self.blocks = self.blocks.saturating_add(1);
        } else if word.is(b"end") {
            self.blocks = self.blocks.saturating_sub(1);
        }
    }

    fn dollar_tag(&mut self, byte: u8) -> usize {
        match byte {
            b'$' => {
                self.tag.insert(0, b'$');
                self.tag.push(b'$');
                self.state = State::Dollar { matched: 0 };
                1
            }
            b'0'..=b'9' if self.tag.is_empty() => self.no_dollar_quote(),
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | 0x80.. => {
                self.tag.push(byte);
                1
            }
            _ => self.no_dollar_quote(),
        }
    }

    fn no_dollar_quote(&mut self) -> usize {
        self.state = State::Plain;
        0
    }
}

/// Value of `standard_conforming_strings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conforming {
    On,
    Off,
}

/// An identifier or keyword without quotes, in lower case, as far as a keyword may reach.
#[derive(Debug, Default)]
struct Word {
    bytes: [u8; WORD_BYTES],
    length: usize,
}

impl Word {
    /// Takes a byte that begins a word, or goes on with it.
    fn takes(&mut self, byte: u8) -> bool {
        let belongs = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => true,
            b'0'..=b'9' | b'$' => self.length > 0,
            _ => false,
        };
        if belongs && self.length < WORD_BYTES {
            self.bytes[self.length] = byte.to_ascii_lowercase();
            self.length += 1;
        }
        belongs
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn is(&self, keyword: &[u8]) -> bool {
        self.bytes[..self.length] == *keyword
    }
}

/// Whether the statement defines a function or procedure, which its first words say.
#[derive(Debug, Default)]
enum Routine {
    #[default]
    Beginning,
    Create,
    CreateOr,
    CreateOrReplace,
    Defined,
    None,
}

impl Routine {
    fn add(&mut self, word: &Word) {
        *self = match self {
            Self::Defined => Self::Defined,
            Self::Beginning if word.is(b"create") => Self::Create,
            Self::Create if word.is(b"or") => Self::CreateOr,
            Self::CreateOr if word.is(b"replace") => Self::CreateOrReplace,
            Self::Create | Self::CreateOrReplace if word.is(b"function") || word.is(b"procedure") => Self::Defined,
            _ => Self::None,
        };
    }

    fn is_defined(&self) -> bool {
        matches!(self, Self::Defined)
    }
}
