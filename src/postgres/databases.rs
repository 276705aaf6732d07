//! The databases of a server. A run of several databases asks in the connection string's own database.

use serde::Deserialize;

use super::{PostgresError, Session};

/// Without templates, databases that take no connections, and those whose DROP was interrupted (`datconnlimit` -2, from the minor
/// releases of May 2023 on). Names in hexadecimal, because they may contain anything, also bytes of another encoding.
const QUESTION: &str = "\
SELECT pg_catalog.json_build_object('name', pg_catalog.encode(pg_catalog.namesend(d.datname), 'hex'), \
'may_connect', pg_catalog.has_database_privilege(d.oid, 'CONNECT')) \
FROM pg_catalog.pg_database d WHERE NOT d.datistemplate AND d.datallowconn AND d.datconnlimit <> -2 ORDER BY d.datname";

/// A database of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerDatabase {
    /// Its name; with replacement characters if [`Self::is_utf8`] is false.
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
        let answer = session.query(QUESTION).await?;
        answer.iter().map(|line| serde_json::from_str(line).map(Self::of).map_err(PostgresError::Answer)).collect()
    }

    fn of(Answer { name, may_connect }: Answer) -> Self {
        let name = String::from_utf8(hex::decode(name).unwrap_or_default());
        match name {
            Ok(name) => Self { name, is_utf8: true, may_connect },
            Err(error) => {
                Self { name: String::from_utf8_lossy(error.as_bytes()).into_owned(), is_utf8: false, may_connect }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_of_any_bytes() {
        let of = |name: &str| ServerDatabase::of(Answer { name: name.to_owned(), may_connect: true });
        assert_eq!((of("610a62").name, of("610a62").is_utf8), ("a\nb".to_owned(), true));
        assert_eq!((of("67f6").name, of("67f6").is_utf8), ("g\u{fffd}".to_owned(), false));
    }
}
