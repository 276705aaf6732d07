//! Reads one statement up to the `;` that ends it for psql.
//!
//! Used by the lexer. A `;` does not end a statement inside quotes, comments, parentheses (rules with several actions) or `BEGIN
//! ATOMIC … END` (SQL functions, from PostgreSQL 14 on).

use memchr::{memchr, memchr2};

use super::comment::Comment;
use super::two_ways::{Blocks, TwoWays, Variable};
use super::word::{Class, Routine, Word};

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
    /// After a `\` in such a string.
    Escaped,
    /// After a `'` that ends such a string unless another follows.
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
    /// The block ends.
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
    /// The previous byte, if it may start a comment.
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
    /// Only white space and comments came since an `E'…'`: SQL's way to write a long string.
    may_go_on: bool,
    bodies: Blocks,
    variable: Variable,
    two_ways: Option<TwoWays>,
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
            may_go_on: false,
            bodies: Blocks::default(),
            variable: Variable::default(),
            two_ways: None,
        }
    }
}

impl Statement {
    /// Starts the next statement, with the current `standard_conforming_strings`.
    pub fn begin(&mut self) {
        *self = Self { tag: std::mem::take(&mut self.tag), conforming: self.conforming, ..Self::default() };
    }

    /// Whether `\` is an ordinary byte in `'…'` (`standard_conforming_strings`).
    pub fn set_conforming(&mut self, conforming: Conforming) {
        self.conforming = conforming == Conforming::On;
    }

    /// Why psql and the server may read it differently.
    pub fn reads_two_ways(&self) -> Option<TwoWays> {
        self.two_ways
    }

    /// Reads. Returns how many bytes belong to the statement, and why it stopped.
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

    /// Reads until the state changes. Reads nothing if the next byte belongs to the new state.
    fn step(&mut self, rest: &[u8]) -> (usize, Stop) {
        if self.variable.is_quoted() && self.variable.takes(rest[0]) {
            self.two_ways = Some(TwoWays::Variable);
        }
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
                self.may_go_on = true;
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

    /// Reads up to the byte at `at`, which changes the state; without one, everything.
    fn to(&mut self, at: Option<usize>, state: State, rest: &[u8]) -> usize {
        let Some(at) = at else { return rest.len() };
        self.state = state;
        at + 1
    }

    fn plain(&mut self, rest: &[u8]) -> (usize, Stop) {
        let mut next = 0;
        loop {
            let at = next + self.words_and_numbers(&rest[next..]);
            let Some(&byte) = rest.get(at) else { return (at, Stop::NoMore) };
            next = at + 1;
            if self.variable.takes(byte) {
                self.two_ways = Some(TwoWays::Variable);
            }
            if self.word.takes(byte) {
                self.may_go_on = false;
                continue;
            }
            // `\` starts a psql command anywhere: no operator contains it.
            if byte == b'\\' {
                self.end_word();
                self.last = 0;
                return (at, Stop::PsqlCommand);
            }
            let last = if self.word.is_empty() { self.last } else { 0 };
            let escapes = self.escapes(last, byte);
            self.end_word();
            self.bodies.byte(byte);
            self.last = byte;
            self.state = match byte {
                b'\'' if escapes => State::EscapeText,
                b'\'' => State::Text,
                b'"' => State::Name,
                b'$' => State::DollarTag,
                b'-' | b'*' => match Comment::opened_by(last, byte) {
                    Some(comment) => State::Comment(comment),
                    None => continue,
                },
                b';' if self.parentheses == 0 => {
                    if self.ends() {
                        return (at + 1, Stop::End);
                    }
                    continue;
                }
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
    }

    /// The fast way through most of a statement: reads a word, or bytes that neither are part of one nor mean anything. The
    /// result is that of reading them one by one.
    fn words_and_numbers(&mut self, rest: &[u8]) -> usize {
        if self.variable.is_begun() {
            return 0;
        }
        let word = self.word.takes_all(rest);
        if word > 0 {
            self.may_go_on = false;
            return word;
        }
        if !self.word.is_empty() || self.may_go_on || self.bodies.is_begun() {
            return 0;
        }
        let inert = rest.iter().take_while(|byte| matches!(Class::of(**byte), Class::Inert | Class::Digit)).count();
        if inert > 0 {
            self.last = 0;
        }
        inert
    }

    /// Whether `\` escapes in a string that begins with this byte, and whether it may be more of the one before.
    fn escapes(&mut self, last: u8, byte: u8) -> bool {
        // Space goes on, and what may be the first byte of a comment.
        let is_operator = last != 0 && b"-/*".contains(&last) && Comment::opened_by(last, byte).is_none();
        let continues = self.may_go_on && !is_operator;
        self.may_go_on = continues && (byte.is_ascii_whitespace() || b"-/*".contains(&byte));
        if continues && byte == b'\'' {
            self.two_ways = Some(TwoWays::String);
        }
        // Nothing escapes in bits, whatever is set.
        let is_bits = self.word.is(b"b") || self.word.is(b"x");
        self.word.is(b"e") || continues || !self.conforming && !is_bits
    }

    /// Whether a `;` outside parentheses ends the statement.
    fn ends(&mut self) -> bool {
        if !self.bodies.agree(self.blocks) {
            self.two_ways = Some(TwoWays::Body);
        }
        self.blocks == 0
    }

    fn parenthesis(&mut self, byte: u8) {
        self.parentheses = match byte {
            b'(' => self.parentheses.saturating_add(1),
            _ => self.parentheses.saturating_sub(1),
        };
    }

    /// psql's rule, except for `BEGIN` without `ATOMIC`, because a function may be named `begin`.
    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.word);
        self.routine.add(&word);
        if self.parentheses > 0 || !self.routine.is_defined() {
            return;
        }
        self.bodies.word(word.as_bytes());
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
