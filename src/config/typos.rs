//! Finds variables that look like a setting but are none: typos, and names of other tools. An unknown variable is no error,
//! because an environment has variables of other programs. But a `BACKUP_RETENTION_DAY=14` that deletes nothing, or a
//! `PASSPHRASE` that encrypts nothing, must cause a warning.
//!
//! Called by [`super::warnings()`]. It reads only names, never values.

use super::table::{BACKUP_AGE_RECIPIENTS, SETTINGS, Setting};
use super::warning::Warning;
use crate::environment::Environment;

/// Prefixes of settings that other programs rarely use: every unknown variable with one causes a warning.
const OWN_PREFIXES: &[&str] = &["S3_", "BACKUP_"];
/// Kubernetes sets such variables for services named `s3` or `backup`.
const OF_SERVICES: &[&str] = &["_SERVICE_", "_PORT"];
/// Names of at least this length may differ in two characters.
const LONG_NAME: usize = 10;

/// Other tools' names of a setting.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "S3_URL",
        &[
            "S3_ENDPOINT",
            "S3_ENDPOINT_URL",
            "S3_HOST",
            "S3_SERVER",
            "AWS_ENDPOINT",
            "AWS_S3_ENDPOINT",
            "MINIO_ENDPOINT",
        ],
    ),
    ("S3_PATH", &["S3_PREFIX", "S3_FOLDER", "S3_KEY_PREFIX", "S3_BUCKET_PATH", "S3_BUCKET_PREFIX", "AWS_S3_PATH"]),
    ("S3_BUCKET", &["S3_BUCKET_NAME", "AWS_S3_BUCKET", "AWS_S3_BUCKET_NAME"]),
    ("S3_ACCESS_KEY", &["S3_ACCESS_KEY_ID", "S3_KEY_ID", "S3_KEY", "S3_USER"]),
    ("S3_SECRET_KEY", &["S3_SECRET_ACCESS_KEY", "S3_SECRET", "S3_PASSWORD"]),
    ("S3_SESSION_TOKEN", &["S3_TOKEN"]),
    ("S3_REGION", &["S3_DEFAULT_REGION"]),
    ("S3_FORCE_PATH_STYLE", &["S3_PATH_STYLE", "S3_USE_PATH_STYLE"]),
    ("S3_CA_BUNDLE", &["S3_CA", "S3_CA_CERT", "S3_CACERT"]),
    ("S3_SSE", &["S3_ENCRYPTION", "S3_SERVER_SIDE_ENCRYPTION"]),
    (
        "BACKUP_INTERVAL",
        &[
            "SCHEDULE",
            "BACKUP_SCHEDULE",
            "BACKUP_CRON",
            "BACKUP_CRON_EXPRESSION",
            "BACKUP_CRON_SCHEDULE",
            "BACKUP_FREQUENCY",
            "CRON",
            "CRON_EXPRESSION",
            "CRON_SCHEDULE",
        ],
    ),
    ("BACKUP_TIMEZONE", &["BACKUP_TZ"]),
    (
        "BACKUP_RETENTION_DAYS",
        &["BACKUP_RETENTION", "BACKUP_RETENTION_PERIOD", "BACKUP_KEEP_DAYS", "RETENTION_DAYS", "KEEP_DAYS"],
    ),
    ("BACKUP_KEEP_LAST", &["BACKUP_KEEP", "BACKUP_KEEP_COUNT", "BACKUP_RETENTION_COUNT", "BACKUP_MAX_BACKUPS"]),
    ("BACKUP_COMPRESSION", &["BACKUP_CODEC", "BACKUP_COMPRESSION_METHOD", "BACKUP_COMPRESSION_TYPE", "COMPRESSION"]),
    ("BACKUP_COMPRESSION_LEVEL", &["BACKUP_LEVEL", "BACKUP_GZIP_LEVEL", "COMPRESSION_LEVEL"]),
    (
        "PG_DUMP_ARGS",
        &[
            "PG_DUMP_OPTIONS",
            "PG_DUMP_OPTS",
            "PG_DUMP_EXTRA_ARGS",
            "PG_DUMP_EXTRA_OPTS",
            "PGDUMP_ARGS",
            "PGDUMP_OPTIONS",
            "PGDUMP_OPTS",
            "PGDUMP_EXTRA_OPTS",
            "POSTGRES_EXTRA_OPTS",
            "BACKUP_OPTIONS",
        ],
    ),
    ("PING_URL", &["HEALTHCHECK_URL", "HEALTHCHECKS_URL", "BACKUP_PING_URL", "BACKUP_HEALTHCHECK_URL"]),
];

/// Other tools' variables for encryption. A user who sets one expects encrypted backups.
const OF_ENCRYPTION: &[&str] = &[
    "PASSPHRASE",
    "BACKUP_PASSPHRASE",
    "BACKUP_PASSWORD",
    "BACKUP_ENCRYPTION",
    "BACKUP_ENCRYPTION_KEY",
    "BACKUP_ENCRYPTION_PASSPHRASE",
    "BACKUP_ENCRYPTION_PASSWORD",
    "BACKUP_ENCRYPT_KEY",
    "BACKUP_AGE_RECIPIENT",
    "BACKUP_AGE_PUBLIC_KEY",
    "BACKUP_GPG_RECIPIENT",
    "BACKUP_GPG_KEY",
    "GPG_PASSPHRASE",
    "GPG_RECIPIENT",
    "AGE_PASSPHRASE",
    "AGE_PUBLIC_KEYS",
    "AGE_RECIPIENTS",
    "ENCRYPTION_PASSPHRASE",
];

/// One warning per variable that is set and was probably meant as a setting. `is_set` says whether a setting has a value.
pub(super) fn typos(environment: &Environment, is_set: impl Fn(&Setting) -> bool) -> Vec<Warning> {
    let mut found: Vec<Warning> = environment.names().filter_map(|name| of_name(name, &is_set)).collect();
    found.sort_unstable_by(|one, other| one.what.cmp(&other.what));
    found
}

fn of_name(name: &str, is_set: impl Fn(&Setting) -> bool) -> Option<Warning> {
    let upper = name.to_ascii_uppercase();
    let (bare, file) = upper.strip_suffix("_FILE").map_or((upper.as_str(), ""), |bare| (bare, "_FILE"));
    let is_own = OWN_PREFIXES.iter().any(|prefix| bare.starts_with(prefix));
    if upper == name && (is_setting(bare) || is_setting(&upper))
        || is_own && OF_SERVICES.iter().any(|part| bare.contains(part))
    {
        return None;
    }
    let what = format!("{name} is set, but is not a setting and has no effect");
    if OF_ENCRYPTION.contains(&bare) {
        let hint = if is_set(&BACKUP_AGE_RECIPIENTS) {
            "backups are encrypted for BACKUP_AGE_RECIPIENTS alone: take it away"
        } else {
            "backups are not encrypted: BACKUP_AGE_RECIPIENTS encrypts them, and takes age public keys"
        };
        return Some(Warning { what, hint: hint.to_owned() });
    }
    let theirs = foreign(bare).filter(|meant| is_own || !is_set(meant));
    // One setting's name ends with `_FILE`.
    let nearly = || nearest(&upper).map(|meant| (meant, "")).or_else(|| Some((nearest(bare)?, file)));
    match theirs.map(|meant| (meant, file)).or_else(nearly) {
        Some((meant, file)) => Some(Warning { what, hint: format!("is {}{file} meant?", meant.variable) }),
        None if is_own && upper == name => {
            Some(Warning { what, hint: "unset it, or find the setting in `pg-s3-backup help COMMAND`".to_owned() })
        }
        None => None,
    }
}

fn is_setting(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.variable == name)
}

/// The setting with this name in another tool.
fn foreign(name: &str) -> Option<&'static Setting> {
    let (ours, _) = FOREIGN.iter().find(|(_, theirs)| theirs.contains(&name))?;
    SETTINGS.iter().copied().find(|setting| setting.variable == *ours)
}

/// The setting with the most similar name.
fn nearest(name: &str) -> Option<&'static Setting> {
    let tolerance = if name.len() < LONG_NAME { 1 } else { 2 };
    let distance = |setting: &Setting| strsim::osa_distance(name, setting.variable);
    let nearest = SETTINGS.iter().copied().min_by_key(|setting| distance(setting))?;
    (distance(nearest) <= tolerance).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn typos_of(names: &[&str]) -> Vec<String> {
        let environment = names.iter().map(|name| (OsString::from(name), OsString::from("value"))).collect();
        typos(&environment, |setting| names.contains(&setting.variable)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn suggests_the_setting_for_a_typo() {
        for (wrong, meant) in [
            ("BACKUP_RETENTION_DAY", "BACKUP_RETENTION_DAYS"),
            ("BACKUP_KEEP_WEEKY", "BACKUP_KEEP_WEEKLY"),
            ("BACKUP_KEEP_MONTHS", "BACKUP_KEEP_MONTHLY"),
            ("S3_BUCKTE", "S3_BUCKET"),
            ("s3_bucket", "S3_BUCKET"),
            ("S3_ACCESSKEY_FILE", "S3_ACCESS_KEY_FILE"),
            ("POSTGRES_CONNECTIONSTRING", "POSTGRES_CONNECTION_STRING"),
            ("PG_DUMP_ARG", "PG_DUMP_ARGS"),
            ("LOG_LEVL", "LOG_LEVEL"),
            ("LOGLEVEL", "LOG_LEVEL"),
            ("METRIC_FILE", "METRICS_FILE"),
            ("LISTN", "LISTEN"),
        ] {
            let found = typos_of(&[wrong]);
            assert_eq!(found.len(), 1, "{wrong}: {found:?}");
            assert!(found[0].starts_with(wrong) && found[0].ends_with(&format!("is {meant} meant?")), "{found:?}");
            assert!(!found[0].contains("value"), "{found:?}");
        }
    }

    #[test]
    fn suggests_the_setting_for_another_tools_name() {
        for (theirs, ours) in [
            ("S3_ENDPOINT", "S3_URL"),
            ("S3_ENDPOINT_URL", "S3_URL"),
            ("S3_PREFIX", "S3_PATH"),
            ("S3_ACCESS_KEY_ID", "S3_ACCESS_KEY"),
            ("S3_SECRET_ACCESS_KEY", "S3_SECRET_KEY"),
            ("S3_SECRET_ACCESS_KEY_FILE", "S3_SECRET_KEY_FILE"),
            ("BACKUP_KEEP_DAYS", "BACKUP_RETENTION_DAYS"),
            ("BACKUP_RETENTION", "BACKUP_RETENTION_DAYS"),
            ("SCHEDULE", "BACKUP_INTERVAL"),
            ("BACKUP_SCHEDULE", "BACKUP_INTERVAL"),
            ("BACKUP_CRON", "BACKUP_INTERVAL"),
            ("PG_DUMP_OPTIONS", "PG_DUMP_ARGS"),
        ] {
            let found = typos_of(&[theirs]);
            assert_eq!(found.len(), 1, "{theirs}: {found:?}");
            assert!(found[0].ends_with(&format!("is {ours} meant?")), "{found:?}");
        }
        // If ours is set, `SCHEDULE` is another program's; a name with our prefix is not.
        assert_eq!(typos_of(&["SCHEDULE", "BACKUP_INTERVAL"]), [""; 0]);
        assert_eq!(typos_of(&["BACKUP_SCHEDULE", "BACKUP_INTERVAL"]).len(), 1);
        for (ours, theirs) in FOREIGN {
            assert!(is_setting(ours), "{ours}");
            assert!(theirs.iter().chain(OF_ENCRYPTION).all(|name| !is_setting(name)), "{theirs:?}");
        }
    }

    #[test]
    fn warns_that_backups_are_not_encrypted() {
        for name in ["PASSPHRASE", "PASSPHRASE_FILE", "BACKUP_ENCRYPTION_KEY"] {
            let found = typos_of(&[name]);
            assert!(found.len() == 1 && found[0].contains("not encrypted"), "{name}: {found:?}");
        }
    }

    #[test]
    fn warns_of_unknown_names_with_our_prefix() {
        for name in ["S3_ANYTHING_ELSE", "BACKUP_NOTHING_OF_OURS", "BACKUP_NOTHING_OF_OURS_FILE"] {
            let found = typos_of(&[name]);
            assert!(found.len() == 1 && found[0].starts_with(name) && !found[0].contains("meant?"), "{found:?}");
        }
    }

    #[test]
    fn ignores_settings_and_other_programs_variables() {
        let settings = SETTINGS.iter().map(|setting| setting.variable.to_owned());
        let files = SETTINGS.iter().map(|setting| format!("{}_FILE", setting.variable));
        let known: Vec<String> = settings.chain(files).collect();
        assert_eq!(typos_of(&known.iter().map(String::as_str).collect::<Vec<_>>()), Vec::<String>::new());
        // Kubernetes sets these for services that are called `backup` and `s3`.
        let services =
            ["BACKUP_SERVICE_HOST", "BACKUP_SERVICE_PORT_HTTP", "BACKUP_PORT", "BACKUP_PORT_5432_TCP", "S3_PORT"];
        assert_eq!(typos_of(&services), Vec::<String>::new());
        let others =
            ["LISTEN_FDS", "LISTEN_PID", "PATH", "HOME", "TZ", "LS_COLORS", "LOG_DIR", "PGUSER", "POSTGRES_USER"];
        assert_eq!(typos_of(&others), Vec::<String>::new());
    }
}
