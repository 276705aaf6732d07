//! The keys of encryption: the public ones, which a backup needs, and the private ones, which only its readers need.

use super::{Resolver, table};
use crate::codec::age::{Identities, Recipients};
use crate::postgres::DumpArguments;

/// Whom backups are encrypted for. The log then names no object of the database, also not in the arguments of `pg_dump`.
pub(super) fn recipients(resolver: &mut Resolver<'_>, arguments: Option<&DumpArguments>) -> Option<Recipients> {
    let recipients = resolver.parse(&table::BACKUP_AGE_RECIPIENTS, Recipients::parse)?;
    resolver.used(&table::BACKUP_AGE_RECIPIENTS, recipients.keys().join(" "));
    if let Some(arguments) = arguments.filter(|arguments| !arguments.words().is_empty()) {
        resolver.used(&table::PG_DUMP_ARGS, arguments.names().join(" "));
    }
    Some(recipients)
}

/// What opens encrypted backups.
pub(super) fn identities(resolver: &mut Resolver<'_>) -> Option<Identities> {
    resolver.parse(&table::BACKUP_AGE_IDENTITY, Identities::parse)
}
