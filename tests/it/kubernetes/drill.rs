//! The drill of `k8s/`: a CronJob with a throw-away PostgreSQL in its pod. It restores a backup, and code in a dump
//! reaches nothing.

use std::fs;

use pg_s3_backup::scheduler::Schedule;
use serde_json::{Value, json};

use super::manifests::{Manifests, from_yaml, items, text};
use super::node::Node;
use super::runs::as_the_readme_says;
use super::{is_setting, keys};
use crate::support::age::AgeKey;
use crate::support::servers::{own_postgres, postgres, s3};
use crate::support::setup::{backup_program, only_backup, only_encrypted, repository_file};

/// The variables of PostgreSQL's image.
pub const OF_THE_SERVERS_IMAGE: [&str; 2] = ["POSTGRES_PASSWORD", "POSTGRES_INITDB_ARGS"];

fn drill() -> Manifests {
    Manifests::of("overlays/drill").drill().expect("a drill")
}

fn server(drill: &Manifests) -> Value {
    let [server] = items(&drill.template()["spec"]["initContainers"]) else { panic!("one server wanted") };
    server.clone()
}

#[test]
fn pod_of_the_drill_holds_the_restricted_level() {
    let drill = drill();
    let (pod, base) = (&drill.template()["spec"], Manifests::of("base"));
    assert_eq!(pod["securityContext"], base.template()["spec"]["securityContext"]);
    let confined = &base.container()["securityContext"];
    assert_eq!(drill.container()["securityContext"], *confined);
    let mut of_server = server(&drill)["securityContext"].clone();
    let user = of_server.as_object_mut().expect("its own").remove("runAsUser");
    of_server.as_object_mut().expect("its own").remove("runAsGroup");
    assert!(user.is_some_and(|user| user != 0) && of_server == *confined, "{of_server}");
    let in_pod = keys(pod);
    for refused in ["hostNetwork", "hostPID", "hostIPC", "hostPort", "hostPath", "shareProcessNamespace"] {
        assert!(!in_pod.contains(refused), "{refused}");
    }
    for object in [pod, drill.the("ServiceAccount")] {
        assert_eq!(object["automountServiceAccountToken"], false);
    }
    assert_eq!(drill.the("ServiceAccount")["metadata"]["name"], pod["serviceAccountName"]);
    assert_eq!(drill.container()["image"], base.container()["image"]);
}

#[test]
fn code_in_a_dump_reaches_neither_secrets_nor_the_database() {
    let drill = drill();
    let server = server(&drill);
    let mounted: Vec<&str> = items(&server["volumeMounts"]).iter().map(|mount| text(&mount["name"])).collect();
    assert_eq!(mounted, ["data", "run", "tmp"]);
    for volume in items(&drill.template()["spec"]["volumes"]).iter().filter(|volume| volume["name"] != "secrets") {
        assert!(volume["emptyDir"]["sizeLimit"].is_string(), "{volume}");
    }
    assert!(server.get("envFrom").is_none());
    for variable in items(&server["env"]).iter().map(|entry| text(&entry["name"])) {
        assert!(OF_THE_SERVERS_IMAGE.contains(&variable) || variable == "PGDATA", "{variable}");
    }
    let metadata = &drill.template()["metadata"];
    assert_eq!(metadata["annotations"]["eks.amazonaws.com/skip-containers"], server["name"]);
    let policy = &drill.the("NetworkPolicy")["spec"];
    assert_eq!(policy["podSelector"]["matchLabels"], metadata["labels"]);
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    let ports: Vec<&Value> = items(&policy["egress"]).iter().flat_map(|rule| items(&rule["ports"])).collect();
    let ports: Vec<&Value> = ports.into_iter().map(|port| &port["port"]).collect();
    assert!(policy.get("ingress").is_none() && ports == [53, 53, 443], "{policy}");
    // Another policy would allow what it selects, too.
    let of_backup = Manifests::of("overlays/drill");
    assert_ne!(of_backup.the("NetworkPolicy")["spec"]["podSelector"], policy["podSelector"]);
}

#[test]
fn drill_waits_for_its_server_runs_alone_and_has_a_deadline() {
    let drill = drill();
    let (cron, job, server) = (&drill.the("CronJob")["spec"], drill.job(), server(&drill));
    let zone = text(&cron["timeZone"]).parse().expect("a time zone");
    Schedule::parse(text(&cron["schedule"]), zone).expect("a schedule");
    assert_eq!(cron["concurrencyPolicy"], "Forbid");
    assert!(job["activeDeadlineSeconds"].as_u64() >= Some(3600), "{job}");
    assert_eq!((&job["backoffLimit"], &job["template"]["spec"]["restartPolicy"]), (&json!(1), &json!("Never")));
    let codes = &job["podFailurePolicy"]["rules"][1]["onExitCodes"];
    assert_eq!(codes["containerName"], drill.container()["name"]);
    // A sidecar ends when the drill has ended, and does not keep the pod.
    assert_eq!(server["restartPolicy"], "Always");
    let probe = items(&server["startupProbe"]["exec"]["command"]);
    assert_eq!((text(&probe[0]), text(&probe[1])), ("pg_isready", "--host=127.0.0.1"), "not by the socket");
}

#[test]
fn every_setting_of_the_servers_exists() {
    let compose = from_yaml(&fs::read_to_string(repository_file("compose.drill.yaml")).expect("the file"));
    let of_compose = items(&compose[0]["services"]["server"]["command"]).to_vec();
    for arguments in [items(&server(&drill())["args"]), &of_compose] {
        assert_eq!(arguments[0], "postgres");
        for argument in &arguments[1..] {
            let (name, _) =
                text(argument).strip_prefix("-c").and_then(|rest| rest.split_once('=')).expect("-cNAME=VALUE");
            let known = format!("SELECT count(*) FROM pg_settings WHERE name = '{name}'");
            assert_eq!(postgres().psql("postgres", &known).as_deref(), Ok("1"), "{name}");
        }
    }
}

#[test]
fn variables_of_the_drill_are_settings_without_secrets() {
    let drill = drill();
    for entry in items(&drill.container()["env"]) {
        let name = text(&entry["name"]);
        assert!(is_setting(name) || name == "PGPASSWORD", "{name} is no setting");
        assert!(!text(&json!(entry.to_string())).contains("password="), "{entry}");
    }
    let example = fs::read_to_string(repository_file("k8s/components/drill/secret.example.yaml")).expect("the example");
    let example = &from_yaml(&example)[0];
    assert_eq!(keys(&example["stringData"]).into_iter().collect::<Vec<_>>(), ["access-key", "secret-key"]);
    assert_eq!(example["metadata"]["name"], drill.template()["spec"]["volumes"][0]["secret"]["secretName"]);
}

/// The pod's program, with a server of the test's own at another port.
fn assert_restores(node: &Node, bucket: &str) {
    let server = own_postgres(&[]);
    let program = node.program().env("PGPORT", server.port.to_string()).env("PGPASSWORD", &server.password);
    assert_eq!(node.environment()["PGPASSWORD"].len(), 36, "the id of the pod");
    let outcome = program.run();
    let answer = outcome.assert_code(0).stdout_text();
    assert!(answer.contains("ok    drill ") && answer.contains("1 table"), "{answer}");
    let key = s3().keys(bucket, "shop/").into_iter().find(|key| key.ends_with(".drill.json"));
    assert!(key.is_some(), "no record: {}", outcome.stderr);
}

fn backed_up() -> String {
    let (database, bucket) = (postgres().create_database("pod"), s3().create_bucket("pod"));
    database.psql("CREATE TABLE t AS SELECT 7 AS n").expect("a table");
    backup_program(&database, &bucket).env("S3_PATH", "shop").run().assert_code(0);
    only_backup(&bucket);
    bucket
}

#[test]
fn the_drills_pod_restores_the_latest_backup() {
    let bucket = backed_up();
    let keys = [("access-key", &*s3().access_key), ("secret-key", &*s3().secret_key)];
    let node = Node::new(drill()).with("secret", "pg-s3-backup-drill", &keys);
    assert_restores(&node.set("S3_BUCKET", &bucket).set("S3_URL", &s3().url), &bucket);
}

#[test]
fn the_overlay_with_encryption_backs_up_for_its_drill() {
    let (database, bucket, key) = (postgres().create_database("pod"), s3().create_bucket("pod"), AgeKey::new());
    database.psql("CREATE TABLE t AS SELECT 7 AS n").expect("a table");
    let manifests = Manifests::of("overlays/encrypted");
    let drill = manifests.drill().expect("a drill");
    let keys = [("access-key", &*s3().access_key), ("secret-key", &*s3().secret_key)];
    let node = |manifests: Manifests, name: &str, more: (&'static str, &str)| {
        let node = Node::new(manifests).with("secret", name, &[keys[0], keys[1], more]);
        let node = node.set("S3_BUCKET", &bucket).set("S3_URL", &s3().url);
        node.set("BACKUP_AGE_RECIPIENTS", &key.recipient)
    };
    let uri = database.uri();
    let backup = node(manifests, "pg-s3-backup", ("connection-string", &uri));
    assert!(!backup.environment().keys().any(|name| name.contains("IDENTITY")), "a backup needs none");
    backup.program().run().assert_code(0);
    only_encrypted(&bucket);
    assert_restores(&node(drill, "pg-s3-backup-drill", ("age-identity", &key.identity)), &bucket);
}

#[test]
fn the_readmes_drill_restores_the_latest_backup() {
    let bucket = backed_up();
    let readme = fs::read_to_string(repository_file("k8s/README.md")).expect("the README");
    let (_, added) = readme.split_once("<!-- example: tested with the one above -->\n```yaml\n").expect("the example");
    let (added, _) = added.split_once("```").expect("its end");
    let directory = tempfile::tempdir().expect("a directory");
    let of_drill = directory.path().join("backup/drill");
    let manifests = as_the_readme_says(directory.path(), "dbname=shop", |example| {
        fs::create_dir(&of_drill).expect("a directory");
        fs::write(of_drill.join("access-key"), &s3().access_key).expect("written");
        fs::write(of_drill.join("secret-key"), &s3().secret_key).expect("written");
        let (settings, secrets) = example.split_once("secretGenerator:\n").expect("the secrets");
        let (parts, more) = added.split_once("secretGenerator:\n").expect("its secrets");
        format!("{settings}{parts}secretGenerator:\n{secrets}{more}")
    });
    let drill = manifests.drill().expect("a drill");
    let claim = &drill.template()["spec"]["volumes"][1]["ephemeral"]["volumeClaimTemplate"]["spec"];
    assert!(claim["resources"]["requests"]["storage"].is_string(), "{claim}");
    assert_eq!(server(&drill)["image"], "postgres:17");
    assert_restores(&Node::new(drill).set("S3_BUCKET", &bucket).set("S3_URL", &s3().url), &bucket);
}
