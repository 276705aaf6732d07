//! What no other try to connect changes, and what to do about it: known by the words of libpq and of a server that speaks
//! English. Where a server speaks otherwise, it is tried again, which does no harm.
//!
//! Asked by [`super::Session`]: psql gives no code for why there is no connection.

use super::messages::Messages;

const PASSWORD: &str = "correct the password in POSTGRES_CONNECTION_STRING, PGPASSWORD or the password file (in a URI its \
special characters are percent-encoded)";
const NO_PASSWORD: &str = "give the password in POSTGRES_CONNECTION_STRING, in PGPASSWORD, or in a password file that nobody else may read (mode 0600)";
const HOST_RULES: &str = "let this host, user and database in by a line of the server's pg_hba.conf";
const CERTIFICATES: &str = "correct sslmode, sslrootcert, sslcert and sslkey";

/// The words that are all in the line, and what to do.
const REFUSALS: &[(&[&str], &str)] = &[
    (&["password authentication failed"], PASSWORD),
    (&["no password supplied"], NO_PASSWORD),
    (&["authentication failed for user"], "correct the user and how it logs in (pg_hba.conf)"),
    (&["FATAL:  role ", " does not exist"], "correct the user in POSTGRES_CONNECTION_STRING or PGUSER"),
    (&["FATAL:  database ", " does not exist"], "correct the database in POSTGRES_CONNECTION_STRING or PGDATABASE"),
    (&["is not permitted to log in"], "ALTER ROLE … LOGIN"),
    (&["permission denied for database"], "GRANT CONNECT ON DATABASE … TO the role"),
    (&["no pg_hba.conf entry"], HOST_RULES),
    (&["pg_hba.conf rejects connection"], HOST_RULES),
    (&["local user with ID", "does not exist"], "set the user in POSTGRES_CONNECTION_STRING or PGUSER"),
    (&["could not look up local user ID"], "set the user in POSTGRES_CONNECTION_STRING or PGUSER"),
    (&["certificate verify failed"], CERTIFICATES),
    (&["does not match host name"], CERTIFICATES),
    (&["root certificate file"], CERTIFICATES),
    (&["private key file"], CERTIFICATES),
    (&["does not support SSL, but SSL was required"], CERTIFICATES),
    (&["definition of service", "not found"], "correct PGSERVICE, or the service file"),
    (&["unsupported startup parameter"], "connect to the server itself, not to its pooler"),
];

/// What may pass: any of these words, and what to do where it does not.
const OUTAGES: &[(&[&str], &str)] = &[
    (&["Connection refused", "No such file or directory"], "start the server, or correct its host and port"),
    (&["could not translate host name"], "correct the host, or look at the DNS of this machine"),
    (
        &["timeout expired", "timed out", "unreachable", "No route to host"],
        "look at the network and firewalls on the way",
    ),
    (&["starting up", "shutting down", "in recovery"], "wait until the server accepts connections"),
    (&["too many", "remaining connection slots"], "raise max_connections or the role's limit, or end other sessions"),
];

/// The words that are all in a refusal of the database, not of the server.
const OF_DATABASE: &[&[&str]] = &[
    &["FATAL:  database ", " does not exist"],
    &["FATAL:  database ", " is not currently accepting connections"],
    &["permission denied for database"],
];

/// Whether another database of the same server may be open to the same role.
pub(super) fn is_of_database(reason: &str) -> bool {
    OF_DATABASE.iter().any(|words| words.iter().all(|word| reason.contains(word)))
}

/// What to do about a connection that did not come about in several tries.
pub(super) fn advice(reason: &str) -> &'static str {
    let is_said = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    let known = OUTAGES.iter().find(|(words, _)| is_said(words));
    known.map_or("look at the server and its log", |(_, advice)| advice)
}

/// What to do, where each of the complaints is one that stays: of several hosts another may come back.
pub(super) fn hint(said: &Messages) -> Option<&'static str> {
    let of = |line: &str| {
        REFUSALS.iter().find(|(words, _)| words.iter().all(|word| line.contains(word))).map(|(_, hint)| *hint)
    };
    said.refusals().map(of).collect::<Option<Vec<_>>>()?.first().copied()
}

#[cfg(test)]
mod tests {
    use super::super::messages::Loudness;
    use super::*;

    async fn told(text: &str) -> Option<&'static str> {
        hint(&Messages::gather(text.as_bytes(), "psql", Loudness::quiet()).await)
    }

    #[tokio::test]
    async fn what_stays_has_a_hint_and_what_may_pass_has_none() {
        let at = "connection to server at \"h\" (::1), port 5432 failed: ";
        for (said, word) in [
            ("FATAL:  password authentication failed for user \"u\"", Some("percent-encoded")),
            ("fe_sendauth: no password supplied", Some("0600")),
            ("FATAL:  role \"u\" does not exist", Some("PGUSER")),
            ("FATAL:  database \"d\" does not exist", Some("PGDATABASE")),
            ("Connection refused", None),
            ("FATAL:  the database system is starting up", None),
            ("FATAL:  sorry, too many clients already", None),
        ] {
            let hint = told(&format!("psql: error: {at}{said}\n")).await;
            assert_eq!(hint.map(|hint| word.is_some_and(|word| hint.contains(word))), word.map(|_| true), "{said}");
        }
        let wrong = "FATAL:  password authentication failed for user \"u\"";
        assert!(told(&format!("psql: error: {at}{wrong}\n{at}{wrong}\n")).await.is_some());
        assert!(told(&format!("psql: error: {at}Connection refused\n{at}{wrong}\n")).await.is_none());
        let broken = "FATAL:  database \"no\nsuch\n\nbase\" does not exist";
        let advice = "\tIs the server running on that host?";
        for said in [format!("{at}{broken}"), broken.to_owned(), format!("{at}{broken}\n{at}{broken}")] {
            assert!(told(&format!("psql: error: {said}\n")).await.is_some(), "{said}");
        }
        assert!(told(&format!("psql: error: {at}{broken}\n{at}Connection refused\n{advice}\n")).await.is_none());
        assert!(told("").await.is_none());
    }
}
