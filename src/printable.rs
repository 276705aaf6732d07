//! Escapes foreign text (names, messages, manifests) for terminals and log lines.
//!
//! Used by `telemetry` for logs, by `commands` and `check` for results, by `backup` for restore instructions. A leaf.

use std::borrow::Cow;
use std::fmt;
use std::io;

use serde_json::ser::Formatter;

/// Characters of the category Cf (format) and the two separators of lines and paragraphs (Unicode 16): none is seen, and some
/// change the order in which the others are shown.
const FORMAT: [(u32, u32); 22] = [
    (0x00AD, 0x00AD),
    (0x0600, 0x0605),
    (0x061C, 0x061C),
    (0x06DD, 0x06DD),
    (0x070F, 0x070F),
    (0x0890, 0x0891),
    (0x08E2, 0x08E2),
    (0x180E, 0x180E),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0001, 0xE0001),
    (0xE0020, 0xE007F),
    // Not Cf, but as invisible: the fillers of Hangul.
    (0x115F, 0x1160),
    (0x3164, 0x3164),
];

/// Whether a character controls the terminal or the order of text instead of being visible.
#[must_use]
pub fn is_unprintable(letter: char) -> bool {
    let code = u32::from(letter);
    letter.is_control() || !letter.is_ascii() && FORMAT.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

/// The text with each unprintable character escaped as in source code, such as `\n` and `\u{1b}`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| letter.escape_default().to_string())
}

/// Escapes each line of a text.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// A number with its noun: `1 backup`, `2 backups`.
#[must_use]
pub fn counted<Count: Copy + fmt::Display + PartialEq + From<u8>>(count: Count, noun: &str) -> String {
    if count == Count::from(1) { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The most names in a message.
const MOST_NAMES: usize = 10;

/// Names for a message, separated by commas; not more than it can hold.
#[must_use]
pub fn enumerated<Name: AsRef<str>>(names: &[Name]) -> String {
    let shown: Vec<_> = names.iter().take(MOST_NAMES).map(|name| printable(name.as_ref())).collect();
    let more = names.len().saturating_sub(MOST_NAMES);
    shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

/// JSON with each unprintable character escaped. Only strings can contain one.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    escaped(json, |letter| {
        let mut units = [0; 2];
        letter.encode_utf16(&mut units).iter().fold(String::new(), |text, unit| text + &format!("\\u{unit:04x}"))
    })
}

/// Writes JSON with the escapes of [`printable_json`].
pub struct PrintableJson;

impl Formatter for PrintableJson {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        writer.write_all(printable_json(fragment).as_bytes())
    }
}

fn escaped(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let letters = text.chars().map(|letter| if is_unprintable(letter) { escape(letter) } else { letter.to_string() });
    Cow::Owned(letters.collect())
}

#[cfg(test)]
mod tests {
    use serde::Serialize as _;

    use super::*;

    #[test]
    fn counts_in_singular_and_plural() {
        assert_eq!([0, 1, 2_u64].map(|count| counted(count, "backup")), ["0 backups", "1 backup", "2 backups"]);
    }

    #[test]
    fn enumerates_no_more_names_than_a_message_can_hold() {
        assert_eq!(enumerated(&["a", "b\nc"]), "a, b\\nc");
        assert_eq!(enumerated(&["x"; 12]), format!("{} and 2 more", ["x"; 10].join(", ")));
    }

    #[test]
    fn escapes_control_and_format_characters() {
        for (text, shown) in [
            ("shop", "shop"),
            ("ünï 漢字 it's \"x\" \\", "ünï 漢字 it's \"x\" \\"),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\u{1b}]0;title\u{7}\u{9b}", r"\u{1b}]0;title\u{7}\u{9b}"),
            ("gpj.\u{202e}exe\u{2066}\u{200b}\u{feff}\u{2028}", r"gpj.\u{202e}exe\u{2066}\u{200b}\u{feff}\u{2028}"),
            ("\u{e0041}", r"\u{e0041}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn escaped_json_keeps_its_value() {
        let value = serde_json::json!({"name": "a\u{202e}b\u{9b}\u{e0041}\n\u{1b}漢"});
        let text = value.to_string();
        let shown = printable_json(&text);
        assert!(!shown.contains(is_unprintable) && shown.contains("\\u202e") && shown.contains('漢'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
        let mut written = Vec::new();
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut written, PrintableJson)).expect("to memory");
        assert_eq!(String::from_utf8_lossy(&written), shown);
    }
}
