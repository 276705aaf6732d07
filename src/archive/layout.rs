//! How the compressed stream of a backup lies in its object: as it is, or encrypted in chunks.
//!
//! [`super::ranges`] asks where the bytes of a section are, and feeds them to an [`Opener`].

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::codec::age::{DecryptError, Identities, MOST_HEADER, SectionDecryptor, Sections};
use crate::storage::{SectionedObject, StorageError};

use super::range_contents::{RangeUnpacker, Run, Span};

/// What of an encrypted object is read first. Headers for more than a hundred recipients are longer.
const FIRST: u64 = 16 << 10;

/// How the compressed stream is stored.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// As it is, with this length.
    Plain(u64),
    /// Encrypted.
    Age(Sections),
}

impl Layout {
    /// Reads the header of an encrypted object, which holds a stream of this length. An inner error says why it cannot be opened.
    ///
    /// # Errors
    /// If the object was replaced or deleted meanwhile, S3 refuses it, or nothing comes within the outage budget.
    pub async fn encrypted(
        object: &SectionedObject,
        identities: &Identities,
        bytes: u64,
    ) -> Result<Result<Self, DecryptError>, StorageError> {
        let mut first = Vec::new();
        for end in [FIRST, MOST_HEADER as u64] {
            let mut download = object.download(first.len() as u64..end, 1);
            while let Some(piece) = download.next().await? {
                first.extend_from_slice(&piece);
            }
            if let Some(opened) = Sections::open(&first, identities, bytes).transpose() {
                return Ok(opened.map(Self::Age));
            }
        }
        let why = format!("its header has not ended after {} bytes", first.len());
        Ok(Err(DecryptError::Damaged(why)))
    }

    /// Size of the object in bytes.
    pub fn object_bytes(&self) -> u64 {
        match self {
            Self::Plain(bytes) => *bytes,
            Self::Age(sections) => sections.object_bytes(),
        }
    }

    /// The section of the object that holds a section of the stream.
    pub fn stored(&self, section: &Span) -> Span {
        match self {
            Self::Plain(_) => section.clone(),
            Self::Age(sections) => sections.stored(section),
        }
    }

    /// Opens the stored bytes of these runs.
    pub fn opener(&self, runs: &VecDeque<Run>) -> Opener {
        match self {
            Self::Plain(_) => Opener::Plain,
            Self::Age(sections) => {
                let runs = runs.iter().map(Run::section).collect();
                Opener::Age(Box::new(AgeOpener { sections: sections.clone(), runs, current: None }))
            }
        }
    }
}

/// Turns the stored bytes of some runs into those of the compressed stream.
pub(super) enum Opener {
    Plain,
    Age(Box<AgeOpener>),
}

pub(super) struct AgeOpener {
    sections: Sections,
    /// The runs of which no bytes came.
    runs: VecDeque<Span>,
    current: Option<SectionDecryptor>,
}

/// Why no more bytes are passed on.
enum Ended {
    /// The unpacker needs no more; its result says why.
    Unpacker,
    Damage(DecryptError),
}

impl From<DecryptError> for Ended {
    fn from(error: DecryptError) -> Self {
        Self::Damage(error)
    }
}

impl Opener {
    /// Passes on the next bytes. Breaks if the unpacker needs no more, or after damage, which it names.
    pub fn take<W: std::io::Write>(&mut self, piece: &[u8], unpacker: &mut RangeUnpacker<W>) -> ControlFlow<()> {
        let Self::Age(age) = self else { return unpacker.take(piece) };
        match age.take(piece, unpacker) {
            Ok(()) => ControlFlow::Continue(()),
            Err(Ended::Unpacker) => ControlFlow::Break(()),
            Err(Ended::Damage(error)) => {
                unpacker.damage(format!("age: {error}"));
                ControlFlow::Break(())
            }
        }
    }
}

impl AgeOpener {
    fn take<W: std::io::Write>(&mut self, piece: &[u8], unpacker: &mut RangeUnpacker<W>) -> Result<(), Ended> {
        let mut rest = piece;
        while !rest.is_empty() {
            let mut current = match self.current.take() {
                Some(current) => current,
                None => self.sections.decryptor(self.runs.pop_front().ok_or(Ended::Unpacker)?)?,
            };
            let missing = usize::try_from(current.missing()).unwrap_or(usize::MAX);
            let (own, others) = rest.split_at(rest.len().min(missing));
            rest = others;
            current.decrypt(own, |bytes| match unpacker.take(bytes) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Ended::Unpacker),
            })?;
            self.current = Some(current).filter(|current| current.missing() > 0);
        }
        Ok(())
    }
}
