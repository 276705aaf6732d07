//! Calls the library without the program: has the tools and settings of a command, and a runtime.

use std::time::Duration;

use pg_s3_backup::environment::Environment;
use pg_s3_backup::postgres::{ClientEnvironment, Conninfo, DumpArguments, Installed, PostgresSettings, Tools};
use pg_s3_backup::storage::{AtRest, ChecksumSetting, Destination, Endpoint, Prefix, S3Settings, StaticCredentials};

use super::servers::s3;

/// Runs a future to its end.
///
/// # Panics
/// If there is no runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// Returns the newest installed tools, and the settings for a URI.
///
/// # Panics
/// If nothing is installed, or the URI is invalid.
pub async fn connection(uri: &str) -> (Tools, PostgresSettings) {
    let environment = ClientEnvironment::from_process(&Environment::of_process());
    let tools = Installed::find(None, &environment).await.expect("installed").newest().expect("a psql");
    let settings = PostgresSettings {
        variable: "POSTGRES_CONNECTION_STRING",
        conninfo: Conninfo::parse(uri).expect("a URI"),
        environment,
        pg_dump_path: None,
        arguments: DumpArguments::default(),
        lock_wait: Duration::from_mins(1),
        stall_timeout: Duration::from_mins(1),
        hides_names: false,
        allows_pooler: false,
    };
    (tools, settings)
}

/// Returns a bucket of the shared S3 server.
///
/// # Panics
/// If its client cannot be built.
pub async fn destination(bucket: &str) -> Destination {
    let settings = S3Settings {
        bucket: bucket.to_owned(),
        prefix: Prefix::default(),
        endpoint: Some(Endpoint::new(&s3().url.parse().expect("a URL"))),
        region: Some(s3().region.clone()),
        credentials: Some(StaticCredentials {
            access_key: s3().access_key.clone().into(),
            secret_key: s3().secret_key.clone().into(),
            session_token: None,
        }),
        force_path_style: true,
        ca_bundle: None,
        checksum: ChecksumSetting::Auto,
        at_rest: AtRest::default(),
        request_timeout: Duration::from_secs(20),
        max_outage: Duration::from_secs(20),
    };
    Box::pin(Destination::open(&settings)).await.expect("a client")
}
