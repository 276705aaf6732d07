//! Words outside quotes: identifiers and keywords, and the bytes between them.
//!
//! Used by [`super::statement`].

/// The longest keyword, `procedure`, plus one byte.
const WORD_BYTES: usize = 10;

/// What a byte outside quotes and comments may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Of a word.
    Letter,
    /// Of a word after a letter, else of a number.
    Digit,
    /// Of a word after a letter, else of a dollar quote.
    Dollar,
    /// What may begin or end something.
    Mark,
    /// White space and what else only separates words.
    Inert,
}

impl Class {
    const ALL: [Self; 256] = {
        let mut all = [Self::Inert; 256];
        let mut byte = 0;
        while byte < all.len() {
            #[expect(clippy::cast_possible_truncation, reason = "there are 256 bytes")]
            let class = match byte as u8 {
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Self::Letter,
                b'0'..=b'9' => Self::Digit,
                b'$' => Self::Dollar,
                b'\\' | b'\'' | b'"' | b'-' | b'/' | b'*' | b';' | b'(' | b')' | b':' => Self::Mark,
                _ => Self::Inert,
            };
            all[byte] = class;
            byte += 1;
        }
        all
    };

    pub fn of(byte: u8) -> Self {
        Self::ALL[usize::from(byte)]
    }
}

/// An identifier or keyword without quotes, in lower case, up to the length of a keyword.
#[derive(Debug, Default)]
pub(super) struct Word {
    bytes: [u8; WORD_BYTES],
    length: usize,
}

impl Word {
    /// Adds a byte that starts or continues a word.
    pub fn takes(&mut self, byte: u8) -> bool {
        let belongs = self.continues_with(byte);
        if belongs && self.length < WORD_BYTES {
            self.bytes[self.length] = byte.to_ascii_lowercase();
            self.length += 1;
        }
        belongs
    }

    /// Adds the bytes that start or continue a word, and returns how many there are.
    pub fn takes_all(&mut self, rest: &[u8]) -> usize {
        let Some(&first) = rest.first() else { return 0 };
        if !self.takes(first) {
            return 0;
        }
        let count = 1 + rest[1..].iter().take_while(|byte| self.continues_with(**byte)).count();
        let kept = (WORD_BYTES - self.length).min(count - 1);
        for (to, byte) in self.bytes[self.length..].iter_mut().zip(&rest[1..=kept]) {
            *to = byte.to_ascii_lowercase();
        }
        self.length += kept;
        count
    }

    /// The word, or its beginning if no keyword is as long.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn continues_with(&self, byte: u8) -> bool {
        match Class::of(byte) {
            Class::Letter => true,
            Class::Digit | Class::Dollar => self.length > 0,
            Class::Mark | Class::Inert => false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn is(&self, keyword: &[u8]) -> bool {
        *self.as_bytes() == *keyword
    }
}

/// Whether the statement defines a function or procedure, by its first words.
#[derive(Debug, Default)]
pub(super) enum Routine {
    #[default]
    Beginning,
    Create,
    CreateOr,
    CreateOrReplace,
    Defined,
    None,
}

impl Routine {
    pub fn add(&mut self, word: &Word) {
        *self = match self {
            Self::Defined => Self::Defined,
            Self::Beginning if word.is(b"create") => Self::Create,
            Self::Create if word.is(b"or") => Self::CreateOr,
            Self::CreateOr if word.is(b"replace") => Self::CreateOrReplace,
            Self::Create | Self::CreateOrReplace if word.is(b"function") || word.is(b"procedure") => Self::Defined,
            _ => Self::None,
        };
    }

    pub fn is_defined(&self) -> bool {
        matches!(self, Self::Defined)
    }
}
