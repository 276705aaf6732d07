//! Recognises refused connections that another try cannot fix, and gives a hint. psql reports no error code, so it reads the
//! messages of libpq and of a server in English. A message in another language only costs further tries.

use super::messages::Messages;

const PASSWORD: &str = "correct the password in {variable}, PGPASSWORD or the password file (in a URI its \
special characters are percent-encoded)";
const NO_PASSWORD: &str = "give the password in {variable}, in PGPASSWORD, or in a password file with mode 0600";
const VARIABLE: &str = "{variable}";
const HOST_RULES: &str = "allow this host, user and database in the server's pg_hba.conf";
const CERTIFICATES: &str = "correct sslmode, sslrootcert, sslcert and sslkey";

/// Words of which the message contains all, and what to do; `{variable}` is the setting that holds the connection string.
const REFUSALS: &[(&[&str], &str)] = &[
    (&["password authentication failed"], PASSWORD),
    (&["no password supplied"], NO_PASSWORD),
    (&["authentication failed for user"], "correct the user, or its authentication method in pg_hba.conf"),
    (&["FATAL:  role ", " does not exist"], "correct the user in {variable} or PGUSER"),
    (&["FATAL:  database ", " does not exist"], "correct the database in {variable} or PGDATABASE"),
    (&["is not permitted to log in"], "ALTER ROLE … LOGIN"),
    (&["permission denied for database"], "GRANT CONNECT ON DATABASE … TO the role"),
    (&["no pg_hba.conf entry"], HOST_RULES),
    (&["pg_hba.conf rejects connection"], HOST_RULES),
    (&["local user with ID", "does not exist"], "set the user in {variable} or PGUSER"),
    (&["could not look up local user ID"], "set the user in {variable} or PGUSER"),
    (&["certificate verify failed"], CERTIFICATES),
    (&["does not match host name"], CERTIFICATES),
    (&["root certificate file"], CERTIFICATES),
    (&["private key file"], CERTIFICATES),
    (&["does not support SSL, but SSL was required"], CERTIFICATES),
    (&["definition of service", "not found"], "correct PGSERVICE, or the service file"),
    (&["unsupported startup parameter"], "connect to the server itself, not to a pooler"),
];

/// Temporary failures: words of which the message contains any, and what to do if they persist.
const OUTAGES: &[(&[&str], &str)] = &[
    (&["Connection refused", "No such file or directory"], "start the server, or correct its host and port"),
    (&["could not translate host name"], "correct the host, or look at the DNS of this machine"),
    (&["timeout expired", "timed out", "unreachable", "No route to host"], "look at the network and its firewalls"),
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

/// What to do after several failed tries.
pub(super) fn advice(reason: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    let known = OUTAGES.iter().find(|(words, _)| has(words));
    known.map_or("look at the server and its log", |(_, advice)| advice)
}

/// What to do, if no host or address had a temporary failure.
pub(super) fn hint(messages: &Messages, variable: &str) -> Option<String> {
    let of = |line: &str| {
        REFUSALS.iter().find(|(words, _)| words.iter().all(|word| line.contains(word))).map(|(_, hint)| *hint)
    };
    let hints = messages.refusals().map(of).collect::<Option<Vec<_>>>()?;
    hints.first().map(|hint| hint.replace(VARIABLE, variable))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn hint_for(text: &str) -> Option<String> {
        hint(&Messages::gather(text.as_bytes(), "psql", Arc::default()).await, "RESTORE_CONNECTION_STRING")
    }

    #[tokio::test]
    async fn permanent_refusals_have_a_hint() {
        let at = "connection to server at \"h\" (::1), port 5432 failed: ";
        for (said, word) in [
            ("FATAL:  password authentication failed for user \"u\"", Some("RESTORE_CONNECTION_STRING, PGPASSWORD")),
            ("fe_sendauth: no password supplied", Some("0600")),
            ("FATAL:  role \"u\" does not exist", Some("PGUSER")),
            ("FATAL:  database \"d\" does not exist", Some("PGDATABASE")),
            ("Connection refused", None),
            ("FATAL:  the database system is starting up", None),
            ("FATAL:  sorry, too many clients already", None),
        ] {
            let hint = hint_for(&format!("psql: error: {at}{said}\n")).await;
            assert_eq!(hint.map(|hint| word.is_some_and(|word| hint.contains(word))), word.map(|_| true), "{said}");
        }
        let wrong = "FATAL:  password authentication failed for user \"u\"";
        assert!(hint_for(&format!("psql: error: {at}{wrong}\n{at}{wrong}\n")).await.is_some());
        assert!(hint_for(&format!("psql: error: {at}Connection refused\n{at}{wrong}\n")).await.is_none());
        let broken = "FATAL:  database \"no\nsuch\n\nbase\" does not exist";
        let advice = "\tIs the server running on that host?";
        for said in [format!("{at}{broken}"), broken.to_owned(), format!("{at}{broken}\n{at}{broken}")] {
            assert!(hint_for(&format!("psql: error: {said}\n")).await.is_some(), "{said}");
        }
        assert!(hint_for(&format!("psql: error: {at}{broken}\n{at}Connection refused\n{advice}\n")).await.is_none());
        assert!(hint_for("").await.is_none());
    }
}
