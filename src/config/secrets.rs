//! Lists the secrets in settings and environment, for [`crate::telemetry::Redactor`].

use secrecy::ExposeSecret;

use crate::codec::age;
use crate::environment::Environment;
use crate::postgres::Conninfo;
use crate::telemetry::PingUrl;

use super::table::{
    BACKUP_AGE_IDENTITY, BACKUP_AGE_RECIPIENTS, DRILL_CONNECTION_STRING, PING_URL, RESTORE_CONNECTION_STRING, SETTINGS,
    Secrecy, Setting,
};
use super::{Flags, Resolver};

/// Secrets that are no settings of this program.
const OTHERS: &[&str] = &["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
/// Names that logs show.
const NAMES: [&str; 2] = ["PGUSER", "PGDATABASE"];

/// The secrets in the settings, valid or not, and those of libpq and the AWS chain.
#[must_use]
pub fn secrets(flags: &Flags, environment: &Environment) -> Vec<String> {
    let resolver = Resolver::new(flags, environment);
    // Only the path of a ping URL is secret: error messages name its host.
    let is_secret = |setting: &Setting| setting.secrecy == Secrecy::Secret && setting.variable != PING_URL.variable;
    let settings = SETTINGS.iter().filter(|setting| is_secret(setting));
    let mut secrets: Vec<String> = settings.flat_map(|setting| resolver.every_form(setting)).collect();
    secrets.extend(OTHERS.iter().filter_map(|name| environment.get(name)?.to_str().map(str::to_owned)));
    // What a flag holds is no secret, but for a password that does not belong there.
    let of_flags = [RESTORE_CONNECTION_STRING, DRILL_CONNECTION_STRING].map(|setting| flags.get(setting.variable));
    let parsed: Vec<Conninfo> =
        secrets.iter().chain(of_flags.into_iter().flatten()).filter_map(|text| Conninfo::parse(text).ok()).collect();
    let others = parsed.iter().flat_map(Conninfo::other_secrets).map(|(_, secret)| secret.expose_secret().to_owned());
    secrets.extend(others);
    secrets.extend(passwords(&parsed, environment));
    // A private key that is given in place of a public one is a secret all the same.
    let keys = [BACKUP_AGE_IDENTITY, BACKUP_AGE_RECIPIENTS].into_iter().flat_map(|keys| resolver.every_form(&keys));
    secrets.extend(keys.flat_map(|text| age::private_keys(&text)));
    secrets.extend(resolver.every_form(&PING_URL).iter().flat_map(|text| PingUrl::secrets(text)));
    secrets
}

/// Every password of a connection, except one that equals the user's or the database's name: a mask in place of the name would
/// reveal it.
fn passwords(parsed: &[Conninfo], environment: &Environment) -> Vec<String> {
    let variable = |name: &&str| environment.get(name).map(|value| value.to_string_lossy().into_owned());
    let names = parsed.iter().flat_map(|conninfo| [conninfo.get("user"), conninfo.get("dbname")]);
    let names: Vec<String> = names.flatten().map(str::to_owned).chain(NAMES.iter().filter_map(variable)).collect();
    let given = parsed.iter().filter_map(Conninfo::password).map(|password| password.expose_secret().to_owned());
    given.chain(variable(&"PGPASSWORD")).filter(|password| !names.contains(password)).collect()
}

#[cfg(test)]
mod tests {
    use crate::telemetry::Redactor;

    use super::*;

    #[test]
    fn shows_a_password_that_equals_a_name() {
        let of = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            Redactor::new(secrets(&Flags::new(), &variables.collect()))
        };
        let string = |text| of(&[("POSTGRES_CONNECTION_STRING", text)]);
        let grant = "GRANT SELECT ON t TO \"backup\"";
        for redactor in [
            string("postgresql://backup:backup@h/shop"),
            string("host=h user=x dbname=backup password=backup"),
            of(&[("PGUSER", "backup"), ("PGPASSWORD", "backup")]),
            of(&[("PGDATABASE", "backup"), ("POSTGRES_CONNECTION_STRING", "postgresql://x:backup@h")]),
        ] {
            assert_eq!(redactor.clean(grant), grant);
        }
        let uri = "postgresql://backup:backup@h/shop";
        assert_eq!(string(uri).clean(uri), "[hidden]", "the complete string is hidden");
        for redactor in [
            string("postgresql://backup2:backup@h/shop"),
            of(&[("PGPASSWORD", "backup")]),
            of(&[("PGUSER", "backup"), ("S3_SECRET_KEY", "backup")]),
        ] {
            assert_eq!(redactor.clean(grant), "GRANT SELECT ON t TO \"[hidden]\"");
        }
    }
}
