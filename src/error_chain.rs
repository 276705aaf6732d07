//! Formats an error with its causes, for logs and results.
//!
//! A leaf: depends on no other module, and every module may use it.

use std::fmt::{self, Write as _};

/// Prints an error and its causes once, on one line: `a: b: c`.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            // Some libraries repeat their source in their own message.
            if !cause_text.is_empty() && !text.contains(&cause_text) {
                write!(text, ": {cause_text}")?;
            }
            next = cause.source();
        }
        f.write_str(&text.replace(['\n', '\r'], " "))
    }
}
