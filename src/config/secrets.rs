//! Which values of the settings and of the environment are secret: what [`crate::telemetry::Redactor`] hides.

use secrecy::ExposeSecret;

use crate::environment::Environment;
use crate::postgres::Conninfo;
use crate::telemetry::PingUrl;

use super::table::{PING_URL, SETTINGS, Secrecy, Setting};
use super::{Flags, Resolver};

/// Secrets that reach this process past its own settings.
const OTHERS: &[&str] = &["PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// The secrets among the settings, whatever may be wrong with them, and those of libpq and the AWS chain.
#[must_use]
pub fn secrets(flags: &Flags, environment: &Environment) -> Vec<String> {
    let resolver = Resolver::new(flags, environment);
    // Of a URL to ping only what lets a stranger ping is a secret: error messages name its host.
    let is_secret = |setting: &Setting| setting.secrecy == Secrecy::Secret && setting.variable != PING_URL.variable;
    let settings = SETTINGS.iter().filter(|setting| is_secret(setting));
    let mut secrets: Vec<String> = settings.flat_map(|setting| resolver.every_form(setting)).collect();
    secrets.extend(OTHERS.iter().filter_map(|name| environment.get(name)?.to_str().map(str::to_owned)));
    let parsed: Vec<Conninfo> = secrets.iter().filter_map(|text| Conninfo::parse(text).ok()).collect();
    for conninfo in &parsed {
        let others = conninfo.other_secrets().iter().map(|(_, secret)| secret);
        secrets.extend(conninfo.password().into_iter().chain(others).map(|secret| secret.expose_secret().to_owned()));
    }
    secrets.extend(resolver.every_form(&PING_URL).iter().flat_map(|text| PingUrl::secrets(text)));
    secrets
}
