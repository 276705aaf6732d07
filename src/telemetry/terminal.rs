//! Log lines for a person at a terminal: message, error and fields on one line, the hint on the next.
//!
//! Used by [`super::log`] if stderr is a terminal and the log is text. Events for machines are filtered out.

use std::borrow::Cow;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::log_target::DATABASE_SPAN;
use crate::printable::printable;

/// Fields that a person knows: the command, and the exit code that the shell has.
const KNOWN: [&str; 2] = ["command", "exit_code"];

/// The format.
pub(super) struct ForPeople;

impl<S, N> FormatEvent<S, N> for ForPeople
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let (word, colour) = match *event.metadata().level() {
            Level::ERROR => ("error: ", "\u{1b}[1;31m"),
            Level::WARN => ("warning: ", "\u{1b}[1;33m"),
            Level::INFO => ("", ""),
            Level::DEBUG => ("debug: ", "\u{1b}[2m"),
            Level::TRACE => ("trace: ", "\u{1b}[2m"),
        };
        if writer.has_ansi_escapes() && !word.is_empty() {
            write!(writer, "{colour}{word}\u{1b}[0m")?;
        } else {
            writer.write_str(word)?;
        }
        // Of several databases in one run.
        let span = context.event_scope().and_then(|mut scope| scope.find(|span| span.name() == DATABASE_SPAN));
        if let Some(fields) =
            span.as_ref().map(SpanRef::extensions).as_ref().and_then(|all| all.get::<FormattedFields<N>>())
        {
            write!(writer, "{}: ", printable(&fields.fields))?;
        }
        writer.write_str(&parts.words())?;
        if let Some(error) = &parts.error {
            write!(writer, ": {error}")?;
        }
        if !parts.others.is_empty() {
            write!(writer, " ({})", parts.others)?;
        }
        if let Some(hint) = &parts.hint {
            write!(writer, "\n   -> {hint}")?;
        }
        writeln!(writer)
    }
}

/// The escaped fields of an event.
#[derive(Default)]
struct Parts {
    message: String,
    /// The program that wrote `stderr`.
    program: Option<String>,
    /// A line of another program.
    stderr: Option<String>,
    error: Option<String>,
    hint: Option<String>,
    others: String,
}

impl Parts {
    /// The message; a line of another program as that program would print it.
    fn words(&self) -> Cow<'_, str> {
        match (&self.stderr, &self.program) {
            (Some(line), Some(program)) if !line.starts_with(program) => format!("{program}: {line}").into(),
            (Some(line), _) => line.into(),
            (None, _) => (&self.message).into(),
        }
    }

    fn take(&mut self, field: &Field, text: &str) {
        let text = printable(text);
        match field.name() {
            "message" => self.message = text.into_owned(),
            "error" => self.error = Some(text.into_owned()),
            "hint" => self.hint = Some(text.into_owned()),
            "psql_stderr" | "pg_dump_stderr" => self.stderr = Some(text.into_owned()),
            "program" => self.program = Some(text.into_owned()),
            name if KNOWN.contains(&name) => {}
            name => {
                let comma = if self.others.is_empty() { "" } else { ", " };
                self.others.extend([comma, name, " ", &text]);
            }
        }
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, &format!("{value:?}"));
    }
}
