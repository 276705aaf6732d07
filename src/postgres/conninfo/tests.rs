//! Connection strings are parsed like libpq does, without secrets.

use proptest::prelude::*;

use secrecy::ExposeSecret as _;

use super::*;

fn password(text: &str) -> Option<String> {
    let conninfo = Conninfo::parse(text).expect("parses");
    conninfo.password().map(|secret| secret.expose_secret().to_owned())
}

#[test]
fn parses_uri() {
    let text = "postgresql://us%65r:p%40ss%2F%27@h1:5433,[::1],h3/db%20name?sslmode=require&ssl=true";
    let conninfo = Conninfo::parse(text).expect("parses");
    assert_eq!(conninfo.to_string(), "user='user' host='h1,::1,h3' port='5433,,' dbname='db name' sslmode='require'");
    assert_eq!(password(text).as_deref(), Some("p@ss/'"));
}

#[test]
fn parses_words() {
    let text = r"host = localhost password='it\'s \\ secret' dbname=a\ b  user=x";
    assert_eq!(password(text).as_deref(), Some(r"it's \ secret"));
    assert_eq!(Conninfo::parse(text).expect("parses").to_string(), "host='localhost' dbname='a b' user='x'");
}

#[test]
fn reads_password_from_query() {
    assert_eq!(password("postgres:///db?host=/run/pg&password=a%26b").as_deref(), Some("a&b"));
}

#[test]
fn errors_do_not_repeat_the_text() {
    let cases = [
        ("justaname", ConninfoError::NeitherForm),
        ("password=two words", ConninfoError::NoEquals(2)),
        ("password='open", ConninfoError::OpenQuote),
        ("password=a sentinel=b", ConninfoError::UnknownKeyword(2)),
        ("postgres://u:p%zz@h/d", ConninfoError::Percent),
        ("host=h port=sentinel", ConninfoError::Port),
        ("host=h connect_timeout=10s", ConninfoError::Number("connect_timeout")),
        ("host=h sslmode=no-verify", ConninfoError::SslMode),
        ("postgres://[::1/d", ConninfoError::Brackets),
        ("postgres://h/d?novalue", ConninfoError::QueryParameter),
        ("host=a\0b", ConninfoError::Nul),
        ("postgres://u:%ff@h/d", ConninfoError::NotUtf8),
    ];
    for (text, expected) in cases {
        assert_eq!(Conninfo::parse(text).err(), Some(expected), "{text:?}");
    }
}

#[test]
fn refuses_uri_with_unescaped_password() {
    for text in [
        "postgresql://harbor:k9/Quay-77@127.0.0.1:55471/harbor_db",
        "postgresql://harbor:4711/Quay-77@127.0.0.1:55471/harbor_db",
        "postgresql://har/bor:Quay@h/d",
        "postgres://u:p@ss@h/d",
        "postgres://u:p@ss/word@h:5432/d",
        "postgres://u:p@ss:w@h:5432/d",
        "postgres://u:p@[x@h/d",
        "postgres://u:1,2/Quay@h/d",
        "postgres://u:1?Quay/7@h/d",
        "postgres://u:1/q?Quay=7@h/d",
        "postgres://u:12/Quay@localhost",
    ] {
        assert_eq!(Conninfo::parse(text).err(), Some(ConninfoError::Unescaped), "{text}");
    }
    for text in ["postgres://u:Quay", "postgres://u:k9/Quay", "postgres://u:Quay?seven=7", "postgres://h:99999/d"] {
        assert_eq!(Conninfo::parse(text).err(), Some(ConninfoError::Port), "{text}");
    }
}

#[test]
fn accepts_uri_that_libpq_parses_as_intended() {
    for (text, secret, database) in [
        ("postgres://u:a:b?c#d[e]f,g h@host/db", Some("a:b?c#d[e]f,g h"), "db"),
        ("postgres://host/app@prod", None, "app@prod"),
        ("postgres://host:5432/d?user=me@corp&password=p@ss", Some("p@ss"), "d"),
        ("postgres://u:p%2Fq%40r@host/app%40prod", Some("p/q@r"), "app@prod"),
        ("postgres://u:pw@h1:5432,h2: 5433 /db?connect_timeout=%2010", Some("pw"), "db"),
    ] {
        assert_eq!(password(text).as_deref(), secret, "{text}");
        assert_eq!(Conninfo::parse(text).expect("parses").get("dbname"), Some(database), "{text}");
    }
}

#[test]
fn names_foreign_parameters_but_no_possible_secrets() {
    for (text, parameter) in [
        ("?schema=tickets", "schema"),
        ("?pgbouncer=true&connection_limit=1", "pgbouncer"),
        ("?sslmode=require&uselibpqcompat=true", "uselibpqcompat"),
        ("?application_name=x&search_path=tickets", "search_path"),
        ("?ssl=false", "ssl"),
        ("?statement-cache-capacity=9", "statement-cache-capacity"),
    ] {
        let error = Conninfo::parse(&format!("postgresql://u:pw@h:5432/d{text}")).err();
        assert_eq!(error, Some(ConninfoError::ForeignParameter(parameter.to_owned())), "{text}");
    }
    for text in ["postgres://h/d?password=a&b=c", "postgres://h/d?%00x=1", "postgres://h/d?two%20words=1"] {
        let error = Conninfo::parse(text).expect_err("refused");
        assert!(matches!(error, ConninfoError::UnknownParameter(_) | ConninfoError::Percent), "{text}: {error}");
    }
    for (text, place) in [("u:12?S3CRN=1", 1), ("u:12?sslmode=require&S3CRN=1", 2), ("u:1/2?S3CRN=1", 1)] {
        let error = Conninfo::parse(&format!("postgresql://{text}")).err();
        assert_eq!(error, Some(ConninfoError::UnknownParameter(place)), "a password without its host: {text}");
    }
    for scheme in
        ["postgresql+asyncpg", "postgres+psycopg2", "jdbc:postgresql", "prisma+postgres", "POSTGRESQL", "mysql"]
    {
        for tail in ["u:pw@h/d", "u:pw@h/d?a=b"] {
            let error = Conninfo::parse(&format!("{scheme}://{tail}")).err();
            assert_eq!(error, Some(ConninfoError::ForeignScheme(scheme.to_owned())));
        }
    }
    assert_eq!(Conninfo::parse("Quay77://x").err(), Some(ConninfoError::NeitherForm));
}

#[test]
fn brackets_count_only_at_start_of_host() {
    for (text, hosts, database) in [("postgres://a[b/c]", "a[b", "c]"), ("postgres://[::1,2],h/d", "::1,2,h", "d")] {
        let conninfo = Conninfo::parse(text).expect("parses");
        assert_eq!((conninfo.get("host"), conninfo.get("dbname")), (Some(hosts), Some(database)), "{text}");
    }
}

#[test]
fn keeps_empty_password_which_overrides_pgpassword() {
    let conninfo = Conninfo::parse("host=h password=''").expect("parses");
    assert_eq!((conninfo.to_string().as_str(), conninfo.password().is_none()), ("host='h' password=''", true));
    let conninfo = Conninfo::parse("password='' password=secret host=h").expect("parses");
    assert_eq!((conninfo.to_string().as_str(), conninfo.password().is_some()), ("host='h'", true));
}

#[test]
fn removes_other_secrets_and_the_last_counts() {
    let conninfo = Conninfo::parse("sslpassword=first host=h sslpassword=second").expect("parses");
    let [(keyword, secret)] = conninfo.other_secrets() else { panic!("one secret") };
    assert_eq!(
        (*keyword, secret.expose_secret(), conninfo.to_string().as_str()),
        ("sslpassword", "second", "host='h'")
    );
    assert!(Conninfo::parse("sslpassword=first sslpassword=''").expect("parses").other_secrets().is_empty());
}

proptest! {
    #[test]
    fn parses_what_it_renders(host in "[^\0]{0,20}", secret in "[^\0]{1,30}") {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let text = format!("host='{}' password='{}'", quote(&host), quote(&secret));
        let conninfo = Conninfo::parse(&text).expect("parses");
        prop_assert_eq!(conninfo.get("host"), Some(host.as_str()));
        prop_assert_eq!(conninfo.password().map(|s| s.expose_secret().to_owned()), Some(secret));
        let again = Conninfo::parse(&conninfo.to_string()).expect("parses again");
        prop_assert_eq!(again.get("host"), Some(host.as_str()));
    }

    #[test]
    fn never_panics(text in "(postgres://)?.{0,80}") {
        let _ = Conninfo::parse(&text);
    }
}
