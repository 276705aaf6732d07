//! The databases of a server. A run of several databases asks in the connection string's own database.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{PostgresError, Session};

/// Without templates, databases that take no connections, and those that an interrupted DROP left (`datconnlimit` -2, from the
/// minor releases of May 2023 on).
fn question() -> String {
    let name = name_bytes("d.datname");
    format!(
        "SELECT pg_catalog.json_build_object('name', {name}, \
         'may_connect', pg_catalog.has_database_privilege(d.oid, 'CONNECT')) \
         FROM pg_catalog.pg_database d WHERE NOT d.datistemplate AND d.datallowconn AND d.datconnlimit <> -2 ORDER BY d.datname"
    )
}

/// The expression for the bytes of a name, in hexadecimal. A name may hold anything, also bytes of another encoding than that of
/// the connected database. `decode` takes them as they are; `namesend` and JSON would convert them.
pub(super) fn name_bytes(name: &str) -> String {
    format!(
        "pg_catalog.encode(pg_catalog.decode(pg_catalog.replace({name}::pg_catalog.text, '\\', '\\\\'), 'escape'), 'hex')"
    )
}

/// A database of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerDatabase {
    /// Its name; with other bytes as `\xf6` if [`Self::is_utf8`] is false.
    pub name: String,
    /// Whether the name is UTF-8, so that this program can connect to it.
    pub is_utf8: bool,
    /// Whether the role has the CONNECT privilege.
    pub may_connect: bool,
}

#[derive(Deserialize)]
struct Answer {
    name: String,
    may_connect: bool,
}

impl ServerDatabase {
    /// Asks for every database that takes connections and is no template, by name.
    ///
    /// # Errors
    /// If the session is lost, or the answer cannot be read.
    pub async fn ask(session: &mut Session) -> Result<Vec<Self>, PostgresError> {
        let answer = session.query(&question()).await?;
        answer.iter().map(|line| serde_json::from_str(line).map(Self::of).map_err(PostgresError::Answer)).collect()
    }

    fn of(Answer { name, may_connect }: Answer) -> Self {
        let bytes = hex::decode(name).unwrap_or_default();
        let is_utf8 = std::str::from_utf8(&bytes).is_ok();
        let mut name = String::new();
        for chunk in bytes.utf8_chunks() {
            name.push_str(chunk.valid());
            chunk.invalid().iter().for_each(|byte| _ = write!(name, "\\x{byte:02x}"));
        }
        Self { name, is_utf8, may_connect }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_of_any_bytes() {
        let of = |name: &str| ServerDatabase::of(Answer { name: name.to_owned(), may_connect: true });
        assert_eq!((of("610a62").name, of("610a62").is_utf8), ("a\nb".to_owned(), true));
        assert_eq!((of("67f6").name, of("67f6").is_utf8), ("g\\xf6".to_owned(), false));
    }
}
