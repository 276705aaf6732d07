//! The log: text or JSON lines on stderr, around the progress bar, without secrets.
//!
//! `lib` installs it. Below WARN only this program's events are logged, because those of the SDK and hyper contain headers. The
//! SDK's warnings about credentials and region are in this program's error.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, PoisonError, RwLock};

use indicatif::MultiProgress;
use tracing::Level;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::printable::{printable, printable_json};

use super::Redactor;
use super::terminal::ForPeople;

/// `LOG_LEVEL`, `LOG_FORMAT` and `NO_COLOR`.
#[derive(Clone, Debug)]
pub struct LogSettings {
    level: Level,
    format: LogFormat,
    is_coloured: bool,
    is_for_people: bool,
}

/// `LOG_FORMAT`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The words of the setting.
    pub const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl LogSettings {
    /// The words of `LOG_LEVEL`.
    pub const LEVELS: &'static [(&'static str, Level)] = &[
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("warning", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];

    /// With the defaults where a value is absent.
    #[must_use]
    pub fn new(level: Option<Level>, format: Option<LogFormat>, no_color: bool) -> Self {
        let (is_terminal, format) = (io::stderr().is_terminal(), format.unwrap_or_default());
        let (is_coloured, is_for_people) = (!no_color && is_terminal, is_terminal && format == LogFormat::Text);
        Self { level: level.unwrap_or(Level::INFO), format, is_coloured, is_for_people }
    }

    /// The settings for the daemon: each line has its time and fields, also at a terminal.
    #[must_use]
    pub fn of_daemon(self) -> Self {
        Self { is_for_people: false, ..self }
    }
}

/// Installs the logger for the process.
pub fn install(settings: &LogSettings, writer: LogWriter) {
    let targets = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("aws_config", LevelFilter::ERROR)
        .with_target(env!("CARGO_CRATE_NAME"), settings.level)
        .with_target(if settings.is_for_people { FOR_MACHINES } else { FOR_PEOPLE }, LevelFilter::OFF);
    let registry = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let installed = match settings.format {
        LogFormat::Text if settings.is_for_people => {
            // Events have a format of their own; this is for the span of a database.
            let fields = debug_fn(write_value).delimited(" ");
            let layer = layer.with_ansi(settings.is_coloured).event_format(ForPeople).fmt_fields(fields);
            tracing::subscriber::set_global_default(registry.with(layer))
        }
        LogFormat::Text => {
            let fields = debug_fn(write_field).delimited(" ");
            let layer = layer.with_ansi(settings.is_coloured).with_target(false).fmt_fields(fields);
            tracing::subscriber::set_global_default(registry.with(layer))
        }
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(true).with_span_list(false);
            tracing::subscriber::set_global_default(registry.with(layer))
        }
    };
    if let Err(error) = installed {
        tracing::warn!(%error, "the logger was installed before");
    }
}

/// Writes the value of a span's field for people, without quotes. The event's format escapes it.
fn write_value(writer: &mut Writer<'_>, _: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = format!("{value:?}");
    writer.write_str(text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(&text))
}

/// Writes a field of a text line. A value may hold foreign text, which must not control the terminal.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = format!("{value:?}");
    let text = printable(&text);
    match (field.name(), writer.has_ansi_escapes()) {
        ("message", _) => writer.write_str(&text),
        (name, true) => write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{text}"),
        (name, false) => write!(writer, "{name}={text}"),
    }
}

/// Writes log lines to stderr, and keeps the progress bar intact.
#[derive(Clone, Default)]
pub struct LogWriter {
    bars: MultiProgress,
    redactor: Arc<RwLock<Redactor>>,
    is_for_people: bool,
}

impl LogWriter {
    /// A writer for a log with these settings, which hides these secrets.
    #[must_use]
    pub fn new(redactor: Redactor, settings: &LogSettings) -> Self {
        let is_for_people = settings.is_for_people;
        Self { bars: MultiProgress::new(), redactor: Arc::new(RwLock::new(redactor)), is_for_people }
    }

    /// Whether a person reads the log at a terminal: then there may be a progress bar.
    #[must_use]
    pub fn is_for_people(&self) -> bool {
        self.is_for_people
    }

    /// The progress bars.
    #[must_use]
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// The text without secrets.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        self.redactor.read().unwrap_or_else(PoisonError::into_inner).clean(text).into_owned()
    }

    /// Also hides these secrets from now on.
    pub fn learn(&self, redactor: Redactor) {
        self.redactor.write().unwrap_or_else(PoisonError::into_inner).learn(redactor);
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { writer: self, text: Vec::new() }
    }
}

/// One log line, written when it is dropped.
pub struct Line<'a> {
    writer: &'a LogWriter,
    text: Vec<u8>,
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        let clean = {
            let redactor = self.writer.redactor.read().unwrap_or_else(PoisonError::into_inner);
            redactor.clean_line(&text)
        };
        // The fields of a text line are escaped already, around its colours.
        let clean = match clean.strip_suffix('\n').filter(|line| line.starts_with('{')) {
            Some(json) => Cow::Owned(format!("{}\n", printable_json(json))),
            None => clean,
        };
        // If stderr is closed, there is no other place to write to.
        self.writer.bars.suspend(|| drop(io::stderr().lock().write_all(clean.as_bytes())));
    }
}
