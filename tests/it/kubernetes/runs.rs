//! The pods of `k8s/` run, as a node would run them: each with its own variables and files, against a real PostgreSQL and
//! the real S3 server. Only names of buckets, endpoints and secrets are the test's.

use std::fs;
use std::path::Path;

use super::manifests::{Manifests, from_yaml, items, text};
use super::node::Node;
use crate::aws_chain::{FIRST, signer};
use crate::daemon::{stop, wait_for};
use crate::support::client::{eventually, get};
use crate::support::program::Program;
use crate::support::proxy::FaultProxy;
use crate::support::servers::{own_postgres, own_s3, postgres, s3};
use crate::support::setup::{only_backup, plain, repository_file};
use crate::support::web::{Reply, Web};

/// The keys of a Secret that is shipped as an example.
fn keys_of_example(file: &str) -> Vec<String> {
    let content = fs::read_to_string(repository_file("k8s").join(file)).expect("the example");
    let secret = &from_yaml(&content)[0];
    secret["stringData"].as_object().expect("its keys").keys().cloned().collect()
}

/// The Secret of S3's keys and of one database, as the example has it.
fn with_secret(node: Node, connection_string: &str) -> Node {
    assert_eq!(keys_of_example("base/secret.example.yaml"), ["access-key", "connection-string", "secret-key"]);
    let keys =
        [("connection-string", connection_string), ("access-key", &s3().access_key), ("secret-key", &s3().secret_key)];
    node.with("secret", "pg-s3-backup", &keys)
}

fn node(overlay: &str) -> Node {
    Node::new(Manifests::of(overlay))
}

#[test]
fn the_cronjob_backs_up() {
    let (database, bucket) = (postgres().create_database("cronjob"), s3().create_bucket("cronjob"));
    let node = with_secret(node("base"), &database.uri()).set("S3_BUCKET", &bucket).set("S3_URL", &s3().url);
    let outcome = node.program().run();
    outcome.assert_code(0).assert_no_children_left();
    let logged: Vec<serde_json::Value> =
        outcome.stderr.lines().map(|line| serde_json::from_str(line).expect("a log of JSON")).collect();
    assert!(!logged.is_empty(), "nothing was logged");
    assert!(only_backup(&bucket).starts_with("shop/postgres-backup-"), "below S3_PATH");
}

#[test]
fn with_a_role_the_cronjob_needs_no_keys() {
    let (database, bucket) = (postgres().create_database("irsa"), s3().create_bucket("irsa"));
    let manifests = Manifests::of("overlays/aws-irsa");
    let role =
        text(&manifests.the("ServiceAccount")["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]).to_owned();
    let proxy = FaultProxy::start(s3().addr());
    proxy.accept(&FIRST.session());
    let sts = Web::start(|_, _| Reply::ok(FIRST.xml("AssumeRoleWithWebIdentity")));
    let node = Node::new(manifests).with("secret", "pg-s3-backup", &[("connection-string", &database.uri())]);
    let node = node.set("S3_BUCKET", &bucket).set("S3_URL", &proxy.url());
    let program = node.program();
    // What EKS itself adds to a pod of such a ServiceAccount.
    let token = program.home().join("token");
    fs::write(&token, "a.web.identity").expect("written");
    let program = program.env("AWS_ROLE_ARN", &role).env("AWS_WEB_IDENTITY_TOKEN_FILE", token);
    program.env("AWS_ENDPOINT_URL_STS", sts.url()).run().assert_code(0);
    only_backup(&bucket);
    assert!(sts.asked()[0].body.contains("role%2Fpg-s3-backup"), "{:?}", sts.asked());
    assert!(proxy.log().iter().all(|seen| signer(seen) == FIRST.access), "other keys were used");
}

#[test]
fn a_self_hosted_store_is_trusted_by_its_private_ca() {
    let store = own_s3(&["--tls"]);
    let (database, bucket) = (postgres().create_database("own_store"), store.create_bucket("own"));
    let authority = fs::read_to_string(store.ca_file.as_ref().expect("its authority")).expect("a certificate");
    let run = |authority: &str| {
        let node = with_secret(node("overlays/self-hosted"), &database.uri());
        let node = node.with("configMap", "pg-s3-backup-ca", &[("ca.pem", authority)]);
        let keys = [
            ("connection-string", &*database.uri()),
            ("access-key", &store.access_key),
            ("secret-key", &store.secret_key),
        ];
        let node = node.with("secret", "pg-s3-backup", &keys);
        node.set("S3_BUCKET", &bucket).set("S3_URL", &store.url).program().run()
    };
    run(&authority).assert_code(0);
    let keys = store.keys(&bucket, "");
    assert!(keys.iter().any(|key| key.ends_with(".sql.gz.json")), "no backup with a manifest: {keys:?}");
    run("").assert_code(3);
}

#[test]
fn the_fleet_backs_up_a_database_of_the_list_by_index() {
    let manifests = Manifests::of("overlays/fleet");
    let job = manifests.job();
    let list = keys_of_example("overlays/fleet/databases.example.yaml");
    let count = items_of(&list, ".connection-string");
    assert_eq!(job["completions"], count, "as many pods as databases in the example");
    assert_eq!((items_of(&list, ".path"), items_of(&list, ".databases")), (count, count));
    let spread = &job["template"]["spec"]["topologySpreadConstraints"][0];
    assert_eq!(spread["labelSelector"]["matchLabels"], manifests.template()["metadata"]["labels"]);

    let bucket = s3().create_bucket("fleet");
    let databases: Vec<_> = (0..count).map(|_| postgres().create_database("fleet")).collect();
    let mut list = Vec::new();
    for (index, database) in databases.iter().enumerate() {
        database.psql(&format!("CREATE TABLE number_{index} ()")).expect("a table");
        list.push((format!("{index}.path"), format!("place-{index}")));
        // The last one is a server, with this database alone.
        let is_server = index + 1 == count;
        let connection = if is_server { postgres().uri("postgres") } else { database.uri() };
        list.push((format!("{index}.connection-string"), connection));
        list.push((format!("{index}.databases"), if is_server { database.name.clone() } else { String::new() }));
    }
    let list: Vec<(&str, &str)> = list.iter().map(|(key, value)| (&**key, &**value)).collect();
    for index in 0..count {
        let node = Node::new(manifests.clone()).index(index).with("secret", "pg-s3-backup-databases", &list);
        let keys = [("access-key", &*s3().access_key), ("secret-key", &*s3().secret_key)];
        let node = node.with("secret", "pg-s3-backup", &keys).set("S3_BUCKET", &bucket).set("S3_URL", &s3().url);
        node.program().run().assert_code(0);
        let keys = s3().keys(&bucket, &format!("place-{index}/"));
        let key = keys.iter().find(|key| key.ends_with(".sql.gz") && !key.contains("globals")).expect("a backup");
        let dump = String::from_utf8(plain(&bucket, key)).expect("text");
        assert!(dump.contains(&format!("CREATE TABLE public.number_{index} (")), "{key} is another database");
    }
    let mut places: Vec<String> =
        s3().keys(&bucket, "").iter().map(|key| key[..key.find('/').expect("a path")].to_owned()).collect();
    places.dedup();
    assert_eq!(places, ["place-0", "place-1", "place-2"]);
    let server = format!("place-2/{}/", databases[2].name);
    assert!(s3().keys(&bucket, "place-2/").iter().all(|key| key.starts_with(&server)), "a path for each database");
}

/// How many of these keys end so; they are counted from 0.
fn items_of(keys: &[String], end: &str) -> usize {
    let count = keys.iter().filter(|key| key.ends_with(end)).count();
    for index in 0..count {
        assert!(keys.contains(&format!("{index}{end}")), "no {index}{end}");
    }
    count
}

/// The daemon of an overlay, at a port that is free.
fn daemon(overlay: &str, bucket: &str, connection_string: &str) -> (Node, Program) {
    let node = with_secret(node(overlay), connection_string);
    let node = node.set("S3_BUCKET", bucket).set("S3_URL", &s3().url).set("LOG_FORMAT", "text");
    let program = node.program().env("LISTEN", "127.0.0.1:0");
    (node, program)
}

#[test]
fn the_daemon_answers_its_probes_catches_up_and_stops() {
    let (database, bucket) = (postgres().create_database("daemon"), s3().create_bucket("daemon"));
    let (node, program) = daemon("overlays/daemon", &bucket, &database.uri());
    let running = program.spawn();
    wait_for(&running, "listening address=", 1);
    let log = running.stderr_so_far();
    let (_, address) = log.split_once("listening address=").expect("its address");
    let address = address.lines().next().expect("a line");
    for probe in ["startupProbe", "livenessProbe"] {
        let path = text(&node.container()[probe]["httpGet"]["path"]).to_owned();
        eventually(|| get(address, &path).status == 200, || running.stderr_so_far());
    }
    wait_for(&running, "backup completed", 1);
    stop(running, "TERM", 143);
    only_backup(&bucket);
}

#[test]
fn the_daemon_of_a_server_backs_up_each_database() {
    let (server, bucket) = (own_postgres(&[]), s3().create_bucket("server"));
    server.psql("postgres", "CREATE DATABASE shop").expect("a second database");
    let (_node, program) = daemon("overlays/server", &bucket, &server.uri("postgres"));
    let running = program.spawn();
    wait_for(&running, "2 of 2 databases backed up", 1);
    stop(running, "TERM", 143);
    for database in ["postgres", "shop"] {
        let keys = s3().keys(&bucket, &format!("prod/{database}/"));
        assert_eq!(keys.len(), 4, "a backup and its sidecars: {keys:?}");
    }
}

#[test]
fn the_daemon_spools_to_its_volume() {
    let (database, bucket) = (postgres().create_database("spool"), s3().create_bucket("spool"));
    let (node, program) = daemon("overlays/daemon-prometheus", &bucket, &database.uri());
    let mounts = node.mounts();
    let spool = mounts.iter().find(|mount| mount.writable).expect("one place to write to");
    let volumes =
        items(&node.pod()["volumes"]).iter().filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str());
    let claim = Manifests::of("overlays/daemon-prometheus").the("PersistentVolumeClaim")["metadata"]["name"].clone();
    assert_eq!(volumes.collect::<Vec<_>>(), [text(&claim)]);
    let running = program.spawn();
    wait_for(&running, "backup completed", 1);
    stop(running, "TERM", 143);
    only_backup(&bucket);
    assert!(fs::read_dir(&spool.source).expect("the spool").next().is_some(), "nothing was spooled");
}

/// The kustomization that `k8s/README.md` shows, `changed`, next to a copy of `k8s/` and with secrets.
pub fn as_the_readme_says(directory: &Path, connection_string: &str, changed: impl Fn(&str) -> String) -> Manifests {
    let readme = fs::read_to_string(repository_file("k8s/README.md")).expect("the README");
    let (_, example) = readme.split_once("<!-- example: tested as it stands here -->\n```yaml\n").expect("the example");
    let (example, _) = example.split_once("```").expect("its end");
    let copied =
        Program::at(Path::new("/bin/cp")).arg("-R").arg(repository_file("k8s")).arg(directory.join("k8s")).run();
    copied.assert_code(0);
    let own = directory.join("backup");
    fs::create_dir(&own).expect("a directory");
    fs::write(own.join("kustomization.yaml"), changed(example)).expect("written");
    for (file, content) in
        [("connection-string", connection_string), ("access-key", &s3().access_key), ("secret-key", &s3().secret_key)]
    {
        fs::write(own.join(file), format!("{content}\n")).expect("written");
    }
    Manifests::at(&own)
}

#[test]
fn the_readmes_kustomization_backs_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let (database, bucket) = (postgres().create_database("own"), s3().create_bucket("own"));
    let manifests = as_the_readme_says(directory.path(), &database.uri(), str::to_owned);
    assert!(manifests.objects.iter().all(|object| object["metadata"]["namespace"] == "backup"));
    assert!(text(&manifests.container()["image"]).starts_with("ghcr.io/me/pg-s3-backup:"));
    let node = Node::new(manifests).set("S3_BUCKET", &bucket).set("S3_URL", &s3().url);
    assert_eq!(node.environment()["BACKUP_RETENTION_DAYS"], "30");
    node.program().run().assert_code(0);
    only_backup(&bucket);
}

#[test]
fn the_daemon_takes_every_component() {
    let directory = tempfile::tempdir().expect("a directory");
    let all = "components:\n".to_owned()
        + &["drill", "daemon", "spool", "aws-irsa", "self-hosted", "prometheus"]
            .map(|name| format!("  - ../k8s/components/{name}\n"))
            .concat();
    let shipped = fs::read_dir(repository_file("k8s/components")).expect("the components").count();
    assert_eq!(all.lines().count() - 1, shipped, "a component is not tested");
    let manifests = as_the_readme_says(directory.path(), "dbname=shop", |example| {
        example.replace("BACKUP_RETENTION_DAYS=30", "BACKUP_INTERVAL=@hourly") + &all
    });
    assert!(manifests.find("CronJob").is_none());
    let node = Node::new(manifests).with("configMap", "pg-s3-backup-ca", &[("ca.pem", "")]);
    let targets: Vec<String> = node.mounts().into_iter().map(|mount| mount.target).collect();
    assert_eq!(targets, ["/run/secrets/backup", "/spool", "/run/certificates"]);
    let environment = node.environment();
    assert_eq!(environment["BACKUP_INTERVAL"], "@hourly", "one's own schedule");
    assert!(!environment.contains_key("S3_ACCESS_KEY_FILE") && !environment.contains_key("S3_SECRET_KEY_FILE"));
    for variable in ["BACKUP_SPOOL_DIR", "S3_CA_BUNDLE", "POSTGRES_CONNECTION_STRING_FILE"] {
        assert!(environment.contains_key(variable), "no {variable}: {environment:?}");
    }
}
