//! Cleans a value of the line breaks and quotes around it, for any setting.
//!
//! Called by [`super::resolve`] for every setting, and by the redactor, which hides both forms.

use std::path::Path;

use super::table::{
    BACKUP_AGE_IDENTITY, BACKUP_AGE_RECIPIENTS, BACKUP_DATABASES, DRILL_CONNECTION_STRING, PG_DUMP_ARGS,
    POSTGRES_CONNECTION_STRING, RESTORE_CONNECTION_STRING, Secrecy, Setting,
};

/// Removes blank lines around the text and the line break after it, which `echo`, editors, Docker and Kubernetes add. Spaces
/// stay, because they may be part of a secret.
pub(super) fn without_blank_lines(text: &str) -> &str {
    let mut text = text;
    while let Some((_, rest)) = text.split_once(is_break).filter(|(line, _)| line.trim().is_empty()) {
        text = rest;
    }
    while let Some((rest, _)) = text.rsplit_once(is_break).filter(|(_, line)| line.trim().is_empty()) {
        text = rest;
    }
    text
}

/// The text between the quotes around the entire text.
pub(super) fn without_quotes(text: &str) -> Option<&str> {
    let text = text.trim();
    let between = |mark| text.strip_prefix(mark)?.strip_suffix(mark);
    between('"').or_else(|| between('\''))
}

/// Why a value is probably a mistake.
pub(super) fn fault(setting: &Setting, value: &str) -> Option<&'static str> {
    if without_quotes(value).is_some_and(|inner| !are_a_shells(setting, inner) && !are_names(setting, value, inner)) {
        return Some("begins and ends with a quote: take the quotes off (only a shell does so itself)");
    }
    (value.contains(is_break) && !may_have_lines(setting, value)).then_some("holds a line break: give it as one line")
}

/// Whether `X_FILE` probably holds the value instead of a path: there is no such file, and no absolute path that starts with a
/// directory of this host. A random key may start with a slash.
pub(super) fn may_be_the_value(setting: &Setting, path: &Path) -> bool {
    let top = path.strip_prefix("/").ok().and_then(|inner| inner.parent()?.components().next());
    let is_path = top.is_some_and(|top| Path::new("/").join(top).is_dir());
    let is_delicate = setting.secrecy == Secrecy::Secret || path.to_string_lossy().contains("://");
    is_delicate && !is_path && !path.exists()
}

fn is_break(letter: char) -> bool {
    matches!(letter, '\n' | '\r')
}

/// Whether the quotes around all arguments enclose one argument, as a shell's do.
fn are_a_shells(setting: &Setting, inner: &str) -> bool {
    let mut words = inner.split_whitespace();
    let is_short = words.next().is_some_and(|first| first.len() == 2 && first.starts_with('-'));
    let are_several = words.any(|word| word.starts_with('-') || is_short);
    setting.variable == PG_DUMP_ARGS.variable && (!are_several || inner.contains(['"', '\'']))
}

/// Whether the quotes are around literal names of databases, not around a list or a pattern.
fn are_names(setting: &Setting, value: &str, inner: &str) -> bool {
    let is_name = !inner.contains([',', '*', '?', '!']) && inner != "all";
    setting.variable == BACKUP_DATABASES.variable && value.contains('"') && (inner.contains('"') || is_name)
}

/// A line break is white space in shell words, in `key=value` connection strings and in lists; an identity file has lines.
fn may_have_lines(setting: &Setting, value: &str) -> bool {
    let is_uri = value.starts_with("postgresql://") || value.starts_with("postgres://");
    let connections = [POSTGRES_CONNECTION_STRING, RESTORE_CONNECTION_STRING, DRILL_CONNECTION_STRING];
    let is_connection = connections.iter().any(|connection| connection.variable == setting.variable);
    let lists = [PG_DUMP_ARGS, BACKUP_DATABASES, BACKUP_AGE_RECIPIENTS, BACKUP_AGE_IDENTITY];
    let is_list = lists.iter().any(|list| list.variable == setting.variable);
    is_list || is_connection && !is_uri
}

#[cfg(test)]
mod tests {
    use super::super::table::{S3_PATH, S3_SECRET_KEY};
    use super::*;

    #[test]
    fn literal_names_of_databases_are_in_quotes() {
        for right in ["\"shop\"", "\"a,b\",\"a,b\"", "\"50*\", \"all\"", "shop,\nbilling", "\"two\nlines\""] {
            assert_eq!(fault(&BACKUP_DATABASES, right), None, "{right}");
        }
        for wrong in ["\"shop,billing\"", "\"all\"", "'all'", "'shop'", "\"shop_*\""] {
            assert!(fault(&BACKUP_DATABASES, wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn removes_blank_lines_and_keeps_spaces() {
        for (given, taken) in [
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret\r", "secret"),
            ("\n \t\r\nsecret\n\n  \n", "secret"),
            (" secret ", " secret "),
            (" secret \n", " secret "),
            ("two\nlines\n", "two\nlines"),
            ("\n\n", ""),
            ("", ""),
        ] {
            assert_eq!(without_blank_lines(given), taken, "{given:?}");
        }
    }

    #[test]
    fn refuses_quotes_around_values() {
        for value in ["\"backups\"", "'backups'", " \"backups\" ", "''"] {
            for setting in [&S3_PATH, &S3_SECRET_KEY, &POSTGRES_CONNECTION_STRING] {
                assert!(fault(setting, value).is_some_and(|why| why.contains("take the quotes off")), "{value}");
            }
        }
        for value in ["it's", "'", "\"open", "'mixed\"", "host='a' dbname='b'"] {
            assert_eq!(fault(&POSTGRES_CONNECTION_STRING, value), None, "{value}");
        }
    }

    #[test]
    fn accepts_shell_quotes_around_one_argument() {
        for arguments in ["'--no-owner'", "'--exclude-table=a b'", "'-t' 'a b'", "-t '\"A b\"'", "--no-owner"] {
            assert_eq!(fault(&PG_DUMP_ARGS, arguments), None, "{arguments}");
        }
        for arguments in ["\"--no-owner --no-privileges\"", "'-n public'", "'-n public -n app'"] {
            assert!(fault(&PG_DUMP_ARGS, arguments).is_some(), "{arguments}");
        }
    }

    #[test]
    fn refuses_line_breaks_inside_values() {
        assert!(fault(&S3_SECRET_KEY, "one\ntwo").is_some_and(|why| why.contains("line break")));
        assert!(fault(&POSTGRES_CONNECTION_STRING, "postgresql://u@h/\nd").is_some());
        assert_eq!(fault(&POSTGRES_CONNECTION_STRING, "host=h\ndbname=d"), None);
        assert_eq!(fault(&PG_DUMP_ARGS, "--no-owner\n-x"), None);
    }
}
