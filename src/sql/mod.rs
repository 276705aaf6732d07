//! The lexer of a plain dump: splits its text into spans, as `psql` reads it.
//!
//! `pipeline::scanner` uses it. The rules are those of PostgreSQL's `psqlscan.l`, because psql runs plain dumps: strings, dollar
//! quotes, quoted names, comments, parentheses, `BEGIN ATOMIC`, COPY data. The lexer only classifies statements, and keeps only
//! as much of them as that needs.

mod comment;
mod copy_data;
mod lexer;
mod names;
mod quote;
mod statement;
mod tokens;
mod two_ways;
mod word;

pub use lexer::Lexer;
pub use names::{copied_table, identifier, is_plain_copy, parts};
pub use quote::{literal, quoted_name};
pub use tokens::{Token, Tokens};
pub use two_ways::TwoWays;

/// The kind of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// White space between other spans.
    Space,
    /// A statement up to its `;`, with the comments inside it.
    Statement,
    /// A statement `COPY … FROM stdin;` with the end of its line: rows follow.
    CopyBegin,
    /// Rows of COPY data, each with its line's end.
    CopyRows,
    /// The line `\.`, which ends COPY data.
    CopyEnd,
    /// A psql command, such as `\restrict KEY`, with the end of its line.
    PsqlCommand,
    /// A comment outside statements; `-- …` with the end of its line.
    Comment,
    /// The comment that names an entry: `-- Name: …; Type: …`.
    EntryHead,
}

/// A piece of a span. The pieces of a dump, in order, are its bytes.
///
/// If only the end of a span shows its kind, earlier pieces have [`SpanKind::Statement`] or [`SpanKind::Comment`], and the last
/// piece has the kind of the span. A psql command may be inside a statement, between two of its pieces.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Kind of the span.
    pub kind: SpanKind,
    /// The bytes of this piece.
    pub bytes: &'a [u8],
    /// The beginning of the span in the piece that ends it; `None` in others, in white space and in rows.
    ///
    /// 64 KiB of a comment or a psql command are kept, 256 KiB of a COPY statement, 512 bytes of a SET, 64 of
    /// any other.
    pub text: Option<&'a [u8]>,
    /// Why psql and the server may read the statement differently. Set from the piece on in which that begins.
    pub reads_two_ways: Option<TwoWays>,
}

#[cfg(test)]
mod tests;
