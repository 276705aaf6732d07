//! Compares whom the latest backup is encrypted for with whom the next one will be.
//!
//! Called by [`super::newest`] where the settings of a backup are checked.

use crate::archive::manifest::Manifest;
use crate::archive::name::BackupName;
use crate::codec::age::{Identities, Recipients, short_list};

use super::result::Outcome;

/// The keys of encryption.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Whom the next backup is encrypted for; `None` without encryption.
    pub recipients: Option<Recipients>,
    /// What opens encrypted backups.
    pub identities: Option<Identities>,
}

/// Judges the encryption of the latest backup; `None` if neither it nor the next one is encrypted.
pub(super) fn judge(name: BackupName, manifest: Option<&Manifest>, next: Option<&Recipients>) -> Option<Outcome> {
    let next = next.map(Recipients::keys);
    Some(match (name.is_encrypted(), next) {
        (false, None) => return None,
        (true, None) => Outcome::warn(
            format!("{name} is encrypted, but BACKUP_AGE_RECIPIENTS is not set: the next backup will not be"),
            "set BACKUP_AGE_RECIPIENTS, unless the next backup is to be readable by everybody who reads the bucket",
        ),
        (false, Some(next)) => Outcome::warn(
            format!("{name} is not encrypted; the next backup will be, for {}", short_list(&next)),
            "take a backup; retention deletes the earlier ones",
        ),
        (true, Some(next)) => judge_recipients(manifest, &next),
    })
}

fn judge_recipients(manifest: Option<&Manifest>, next: &[String]) -> Outcome {
    let latest = manifest.map(|manifest| manifest.recipients.as_slice()).unwrap_or_default();
    let (to, of) = (short_list(next), short_list(latest));
    if latest.is_empty() {
        return Outcome::ok(format!(
            "the next backup is encrypted for {to}; the latest has no manifest with its recipients"
        ));
    }
    let differs = |keys: &[String], others: &[String]| keys.iter().any(|key| !others.contains(key));
    if differs(latest, next) || differs(next, latest) {
        return Outcome::warn(
            format!("the latest backup is encrypted for {of}, the next one for {to}"),
            "keep the identities of both until retention has deleted the earlier backups",
        );
    }
    Outcome::ok(format!("encrypted for {of}"))
}
