//! Settings that follow from others, and settings for the tests of other files.

use super::*;

impl S3Settings {
    /// For tests against a server of their own, with a limit of a second.
    pub(crate) fn of_test_server(url: &str) -> Self {
        let secret = || SecretString::from("secret".to_owned());
        Self {
            bucket: "bucket".to_owned(),
            prefix: Prefix::default(),
            endpoint: Some(Endpoint::new(&url.parse().expect("a URL"))),
            region: None,
            credentials: Some(StaticCredentials { access_key: secret(), secret_key: secret(), session_token: None }),
            force_path_style: true,
            ca_bundle: None,
            checksum: ChecksumSetting::None,
            at_rest: AtRest::default(),
            request_timeout: Duration::from_secs(1),
            max_outage: Duration::from_secs(1),
        }
    }
}

#[test]
fn a_prefix_excludes_similar_prefixes() {
    let prefix = Prefix::new("app");
    assert_eq!(prefix.key("x"), "app/x");
    assert_eq!(prefix.file_name("app/x"), Some("x"));
    for other in ["app2/x", "app_test/x", "app/sub/x", "x", "app"] {
        assert_eq!(prefix.file_name(other), None, "{other}");
    }
    assert_eq!(Prefix::default().file_name("x"), Some("x"));
    assert_eq!(Prefix::default().file_name("app/x"), None);
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint::new(&url.parse().expect("URL"))
}

#[test]
fn recognises_the_address_of_a_bucket() {
    for (bucket, url, holds) in [
        ("shop", "https://shop.fra1.digitaloceanspaces.com", true),
        ("shop", "https://SHOP.s3.eu-central-1.amazonaws.com/", true),
        ("my.shop", "https://my.shop.s3.example.com:9000", true),
        ("shop", "https://fsn1.your-objectstorage.com/shop", true),
        ("shop", "https://fsn1.your-objectstorage.com/Shop/", true),
        ("shop", "https://fra1.digitaloceanspaces.com", false),
        ("shop", "https://shopping.fra1.digitaloceanspaces.com", false),
        ("s3", "https://s3.amazonaws.com", false),
        ("nyc3", "https://nyc3.digitaloceanspaces.com", false),
        ("backups", "http://backups.example.com", false),
        ("minio", "http://minio:9000", false),
        ("minio", "http://minio.storage.svc.cluster.local:9000", false),
        ("127", "http://127.0.0.1:9000", false),
        ("storage", "https://project.supabase.co/storage/v1/s3", false),
    ] {
        assert_eq!(endpoint(url).holds_bucket(bucket), holds, "{bucket} in {url}");
    }
}

#[test]
fn part_rules_are_known_by_the_host() {
    let of = |url: &str| {
        let settings = S3Settings { endpoint: Some(endpoint(url)), ..settings() };
        (settings.max_parts(), settings.wants_equal_parts())
    };
    assert_eq!(of("https://account.r2.cloudflarestorage.com"), (10_000, true));
    assert_eq!(of("https://account.eu.R2.cloudflarestorage.com"), (10_000, true));
    assert_eq!(of("https://s3.fr-par.scw.cloud"), (1_000, false));
    assert_eq!(of("https://s3.scw.cloud.example.com"), (10_000, false));
    assert_eq!((settings().max_parts(), settings().wants_equal_parts()), (10_000, false));
}

#[test]
fn a_path_and_the_bucket_are_joined_by_one_slash() {
    for url in ["https://host/storage/v1/s3", "https://host/storage/v1/s3/", "https://host/storage/v1/s3//"] {
        let endpoint = endpoint(url);
        assert_eq!(endpoint.url_before_bucket(), "https://host/storage/v1/s3/");
        assert_eq!(endpoint.url(), "https://host/storage/v1/s3", "one lock for all of them");
    }
}

fn settings() -> S3Settings {
    S3Settings { endpoint: None, ..S3Settings::of_test_server("http://localhost") }
}

#[test]
fn encryption_is_confirmed_by_the_stores_own_word() {
    let confirmed = |encryption: Encryption| {
        [None, Some("AES256"), Some("aws:kms"), Some("")].map(|word| encryption.is_confirmed_by(word))
    };
    assert_eq!(confirmed(Encryption::Aes256), [false, true, true, false]);
    assert_eq!(confirmed(Encryption::Kms), [false, false, true, false]);
}

#[test]
fn plain_http_is_exposed_only_off_this_host() {
    for (url, exposed) in [
        ("http://127.0.0.1:8333", false),
        ("http://localhost", false),
        ("http://[::1]:9000", false),
        ("http://s3.internal", true),
        ("https://s3.internal", false),
    ] {
        let uri: Uri = url.parse().expect("URL");
        assert_eq!(Endpoint::new(&uri).is_exposed(), exposed, "{url}");
    }
}
