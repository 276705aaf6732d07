//! Variables that look like a setting whose name was mistyped. An unknown variable is no error (an environment is full of
//! other programs' own), but `BACKUP_RETENTION_DAY=14` that deletes nothing for a year must not pass in silence.
//!
//! Called by [`crate::run`], once. It looks at names alone, never at values.

use super::resolve::Environment;
use super::table::SETTINGS;

/// What the names of settings begin with that are unlikely to be another program's.
const OWN_PREFIXES: &[&str] = &["S3_", "BACKUP_", "POSTGRES_CONN", "PG_DUMP_"];
/// From this length on a name may differ in two places.
const LONG_NAME: usize = 10;

/// One warning for each variable that is set, is no setting, and is nearly one.
#[must_use]
pub fn typos(environment: &Environment) -> Vec<String> {
    let mut found: Vec<String> = environment.names().filter_map(of_name).collect();
    found.sort_unstable();
    found
}

fn of_name(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_suffix("_FILE").unwrap_or(&upper);
    let names = || SETTINGS.iter().map(|setting| setting.variable).filter(|known| is_own(known));
    if upper == name && names().any(|known| known == bare) {
        return None;
    }
    let tolerance = if bare.len() < LONG_NAME { 1 } else { 2 };
    let (distance, meant) = names().map(|known| (strsim::osa_distance(bare, known), known)).min()?;
    let file = if bare.len() < upper.len() { "_FILE" } else { "" };
    (distance <= tolerance)
        .then(|| format!("{name} is set, but is no setting and has no effect: is {meant}{file} meant?"))
}

fn is_own(name: &str) -> bool {
    OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn typos_of(names: &[&str]) -> Vec<String> {
        typos(&names.iter().map(|name| (OsString::from(name), OsString::from("value"))).collect())
    }

    #[test]
    fn a_name_that_is_nearly_a_setting_is_told_with_the_one_that_is_meant() {
        for (wrong, meant) in [
            ("BACKUP_RETENTION_DAY", "BACKUP_RETENTION_DAYS"),
            ("BACKUP_KEEP_WEEKY", "BACKUP_KEEP_WEEKLY"),
            ("S3_BUCKTE", "S3_BUCKET"),
            ("s3_bucket", "S3_BUCKET"),
            ("S3_ACCESSKEY_FILE", "S3_ACCESS_KEY_FILE"),
            ("POSTGRES_CONNECTIONSTRING", "POSTGRES_CONNECTION_STRING"),
            ("PG_DUMP_ARG", "PG_DUMP_ARGS"),
        ] {
            let told = typos_of(&[wrong]);
            assert_eq!(told.len(), 1, "{wrong}: {told:?}");
            assert!(told[0].starts_with(wrong) && told[0].ends_with(&format!("is {meant} meant?")), "{told:?}");
            assert!(!told[0].contains("value"), "{told:?}");
        }
    }

    #[test]
    fn settings_and_what_other_programs_have_are_left_alone() {
        let settings = SETTINGS.iter().map(|setting| setting.variable.to_owned());
        let files = SETTINGS.iter().map(|setting| format!("{}_FILE", setting.variable));
        let known: Vec<String> = settings.chain(files).collect();
        assert_eq!(typos_of(&known.iter().map(String::as_str).collect::<Vec<_>>()), Vec::<String>::new());
        // Kubernetes puts the first three beside a service that is called `backup`.
        let others =
            ["BACKUP_SERVICE_HOST", "BACKUP_PORT", "BACKUP_PORT_5432_TCP", "S3_PORT", "S3_HOST", "LOGLEVEL", "PATH"];
        assert_eq!(typos_of(&others), Vec::<String>::new());
    }
}
