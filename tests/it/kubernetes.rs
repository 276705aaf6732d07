//! What `k8s/` ships: that it holds what it promises (the restricted level, no deadline that kills a slow backup, settings
//! that exist), and in [`runs`] that it backs up. `make check` has it validated against Kubernetes's own schemas.

mod drill;
pub mod manifests;
pub mod node;
mod runs;

use std::collections::BTreeSet;

use pg_s3_backup::config::table::{SETTINGS, Secrecy};
use pg_s3_backup::exit_code::EXIT_CODES;
use pg_s3_backup::scheduler::Schedule;
use serde_json::{Value, json};

use crate::support::setup::repository_file;
use manifests::{Manifests, from_yaml, items, text};

/// The default port of the daemon's server, in image and manifests.
const PORT: u16 = 9187;

/// Whether a variable is a setting, or a setting's file.
fn is_setting(variable: &str) -> bool {
    let name = variable.strip_suffix("_FILE").filter(|name| *name != "METRICS").unwrap_or(variable);
    SETTINGS.iter().any(|setting| setting.variable == name)
}

/// Every key anywhere in a value.
fn keys(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| {
                let mut below = keys(value);
                below.insert(key.clone());
                below
            })
            .collect(),
        Value::Array(list) => list.iter().flat_map(keys).collect(),
        _ => BTreeSet::new(),
    }
}

#[test]
fn every_pod_holds_the_restricted_level() {
    for manifests in Manifests::all() {
        let (pod, container, name) = (&manifests.template()["spec"], manifests.container(), &manifests.name);
        let user = json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(pod["securityContext"], user, "{name}");
        let confined = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}});
        assert_eq!(container["securityContext"], confined, "{name}");
        let in_pod = keys(pod);
        for refused in ["hostNetwork", "hostPID", "hostIPC", "hostPort", "hostPath", "initContainers", "command"] {
            assert!(!in_pod.contains(refused), "{name} has {refused}");
        }
        // What the image runs as is what its files of secrets are for.
        let dockerfile = std::fs::read_to_string(repository_file("Dockerfile")).expect("the Dockerfile");
        assert!(dockerfile.contains("\nUSER 65532:65532\n"));
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(manifests.the("ServiceAccount")["automountServiceAccountToken"], false, "{name}");
        assert_eq!(manifests.the("ServiceAccount")["metadata"]["name"], pod["serviceAccountName"], "{name}");
    }
}

#[test]
fn nothing_ends_a_backup_that_is_merely_slow() {
    for manifests in Manifests::all() {
        let (name, pod) = (&manifests.name, &manifests.template()["spec"]);
        let used: BTreeSet<String> = manifests.objects.iter().flat_map(keys).collect();
        for refused in ["activeDeadlineSeconds", "readinessProbe", "maxFailedIndexes", "ttlSecondsAfterFinished"] {
            assert!(!used.contains(refused), "{name} has {refused}");
        }
        // SIGTERM takes at most 10 s, and more on a slow machine.
        assert!(pod["terminationGracePeriodSeconds"].as_u64() >= Some(30), "{name}");
        assert!(manifests.container()["resources"]["limits"].get("cpu").is_none(), "{name} throttles");
        let Some(daemon) = manifests.find("Deployment") else { continue };
        assert_eq!(daemon["spec"]["strategy"], json!({"type": "Recreate"}), "{name}");
        assert_eq!(daemon["spec"]["replicas"], 1, "{name}");
        assert_eq!(daemon["spec"]["selector"]["matchLabels"], manifests.template()["metadata"]["labels"], "{name}");
        for probe in ["startupProbe", "livenessProbe"] {
            let asked = &manifests.container()[probe]["httpGet"];
            assert_eq!(*asked, json!({"path": "/livez", "port": "metrics"}), "{name}: {probe}");
        }
        // It is 503 where S3 is down: a restart would end a running backup and fix nothing.
        assert!(manifests.objects.iter().all(|object| !object.to_string().contains("\"/status\"")), "{name}");
    }
}

#[test]
fn a_job_runs_alone_in_time_and_is_tried_again_only_where_that_may_help() {
    // Settings, and a backup that runs already: another try fixes neither.
    let final_codes = [1, 2, 3, 4, 16, 64];
    assert!(final_codes.iter().all(|code| EXIT_CODES.iter().any(|row| u64::from(row.number) == *code)));
    for manifests in Manifests::all().iter().filter(|manifests| manifests.find("CronJob").is_some()) {
        let (name, cron, job) = (&manifests.name, &manifests.the("CronJob")["spec"], manifests.job());
        let zone = text(&cron["timeZone"]).parse().expect("a time zone");
        Schedule::parse(text(&cron["schedule"]), zone).expect("a schedule");
        assert_eq!(text(&cron["schedule"]).split(' ').count(), 5, "{name}: Kubernetes knows no seconds");
        assert_eq!(cron["concurrencyPolicy"], "Forbid", "{name}");
        // Late, but not on top of the next one.
        assert!((3600..43200).contains(&cron["startingDeadlineSeconds"].as_u64().expect("a deadline")), "{name}");
        assert_eq!((&cron["successfulJobsHistoryLimit"], &cron["failedJobsHistoryLimit"]), (&json!(3), &json!(3)));
        assert_eq!(job["template"]["spec"]["restartPolicy"], "Never", "{name}");
        let is_fleet = job["completionMode"] == "Indexed";
        let (limit, action) =
            if is_fleet { ("backoffLimitPerIndex", "FailIndex") } else { ("backoffLimit", "FailJob") };
        let limits: Vec<String> = keys(job).into_iter().filter(|key| key.starts_with("backoffLimit")).collect();
        assert_eq!((limits, &job[limit]), (vec![limit.to_owned()], &json!(1)), "{name}");
        let rules = &job["podFailurePolicy"]["rules"];
        assert_eq!((&rules[0]["action"], &rules[1]["action"]), (&json!("Ignore"), &json!(action)), "{name}");
        let codes = json!({"containerName": manifests.container()["name"], "operator": "In", "values": final_codes});
        assert_eq!(rules[1]["onExitCodes"], codes, "{name}");
    }
}

#[test]
fn memory_is_enough_for_this_program_and_for_rows_of_64_mib() {
    // SPEC's bound with the defaults: base, eight threads, five parts; pg_dump takes four times a row.
    let own = (15 << 20) + 8 * (23 << 20) / 10 + 5 * (12 << 20);
    for manifests in Manifests::all() {
        let all = manifests.objects.iter().map(|object| &object["data"]).flat_map(keys).collect::<BTreeSet<_>>();
        for changes in ["BACKUP_THREADS", "BACKUP_PART_SIZE", "BACKUP_UPLOAD_CONCURRENCY"] {
            assert!(!all.contains(changes), "{}: {changes} changes the sum", manifests.name);
        }
        let mebibytes = |kind: &str| {
            let quantity = text(&manifests.container()["resources"][kind]["memory"]);
            let number: u64 = quantity.strip_suffix("Mi").expect("MiB").parse().expect("a number");
            number << 20
        };
        let catalogue = 64 << 20;
        assert!(mebibytes("limits") >= own + 4 * (64 << 20) + catalogue, "{}", manifests.name);
        assert!(mebibytes("requests") >= own + catalogue, "{}", manifests.name);
    }
}

#[test]
fn every_variable_is_a_setting_and_secrets_come_in_files() {
    let secrets: Vec<&str> =
        SETTINGS.iter().filter(|setting| setting.secrecy == Secrecy::Secret).map(|setting| setting.variable).collect();
    for manifests in Manifests::all() {
        let given = items(&manifests.container()["env"]).iter().map(|entry| text(&entry["name"]).to_owned());
        let settings = keys(&manifests.the("ConfigMap")["data"]);
        for variable in given.chain(settings).filter(|variable| variable != "JOB_COMPLETION_INDEX") {
            assert!(is_setting(&variable), "{}: {variable} is no setting", manifests.name);
            assert!(!secrets.contains(&&*variable), "{}: {variable} in the open", manifests.name);
        }
    }
    // And so is what documents and comments speak of.
    for file in files_of_k8s() {
        let content = std::fs::read_to_string(&file).expect("text");
        let words =
            content.split(|letter: char| !(letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'));
        let prefixes = ["S3_", "BACKUP_", "DRILL_", "POSTGRES_", "PG_"];
        for word in words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))) {
            assert!(
                is_setting(word) || drill::OF_THE_SERVERS_IMAGE.contains(&word),
                "{}: {word} is no setting",
                file.display()
            );
        }
    }
}

fn files_of_k8s() -> Vec<std::path::PathBuf> {
    let mut directories = vec![repository_file("k8s")];
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { directories.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() > 15, "{files:?}");
    files
}

#[test]
fn one_image_of_this_version_everywhere() {
    let expected = concat!("registry.example.com/pg-s3-backup:", env!("CARGO_PKG_VERSION"));
    for manifests in Manifests::all() {
        assert_eq!(manifests.container()["image"], expected, "{}", manifests.name);
    }
    let readme = std::fs::read_to_string(repository_file("docs/installation.md")).expect("the page");
    assert!(readme.contains(&format!("image: {expected}\n")), "the example of docs/installation.md has another image");
}

#[test]
fn the_network_lets_through_what_a_backup_needs_and_no_more() {
    for manifests in Manifests::all() {
        let (name, policy) = (&manifests.name, &manifests.the("NetworkPolicy")["spec"]);
        assert_eq!(policy["podSelector"]["matchLabels"], manifests.template()["metadata"]["labels"], "{name}");
        assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]), "{name}");
        let ports = |way: &str| -> Vec<u64> {
            let rules = items(&policy[way]).iter().flat_map(|rule| items(&rule["ports"]));
            rules.map(|port| port["port"].as_u64().expect("a port")).collect()
        };
        let mut out = vec![53, 53, 5432, 443];
        let endpoint = manifests.the("ConfigMap")["data"]["S3_URL"].as_str().and_then(|url| url.rsplit_once(':'));
        out.extend(endpoint.map(|(_, port)| port.parse::<u64>().expect("a port")));
        assert_eq!(ports("egress"), out, "{name}");
        let served = items(&manifests.container()["env"]).iter().find(|entry| entry["name"] == "LISTEN");
        let Some(address) = served else {
            assert_eq!(ports("ingress"), Vec::<u64>::new(), "{name}");
            continue;
        };
        assert_eq!(ports("ingress"), [u64::from(PORT)], "{name}");
        assert_eq!(manifests.container()["ports"], json!([{"name": "metrics", "containerPort": PORT}]), "{name}");
        assert_eq!(address["value"], format!(":{PORT}"), "{name}");
    }
}

#[test]
fn the_prometheus_operator_finds_the_daemon() {
    let manifests = Manifests::of("overlays/daemon-prometheus");
    let monitor = &manifests.the("PodMonitor")["spec"];
    assert_eq!(monitor["selector"]["matchLabels"], manifests.template()["metadata"]["labels"]);
    let [endpoint] = items(&monitor["podMetricsEndpoints"]) else { panic!("one endpoint wanted: {monitor}") };
    assert_eq!(
        (&endpoint["port"], &endpoint["path"]),
        (&manifests.container()["ports"][0]["name"], &json!("/metrics"))
    );
    // Not only the same text (see `documents`): the same rules.
    let alerts = std::fs::read_to_string(repository_file("monitoring/alerts.yml")).expect("the alerts");
    assert_eq!(manifests.the("PrometheusRule")["spec"], from_yaml(&alerts)[0]);
}

/// The same with every list in one order: variables, mounts and volumes have none.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect(),
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(sorted).collect();
            list.sort_by_key(Value::to_string);
            list.into()
        }
        _ => value.clone(),
    }
}

#[test]
fn components_may_stand_in_any_order() {
    let built = |components: &[&str]| {
        let below = repository_file("target/tmp");
        std::fs::create_dir_all(&below).expect("a directory");
        let directory = tempfile::tempdir_in(below).expect("a directory");
        let components = components.iter().map(|component| format!("../../../k8s/components/{component}"));
        let components: Vec<String> = components.collect();
        let text = json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
            "resources": ["../../../k8s/base"], "components": components});
        // JSON is YAML.
        std::fs::write(directory.path().join("kustomization.yaml"), text.to_string()).expect("written");
        Manifests::at(directory.path())
    };
    // The drill only comes before those that change it, too.
    let first = built(&["drill", "daemon", "self-hosted", "spool", "aws-irsa", "prometheus"]);
    let in_pod = first.the("Deployment").to_string();
    for wanted in ["S3_CA_BUNDLE", "pg-s3-backup-ca", "/run/certificates", "BACKUP_SPOOL_DIR", "pg-s3-backup-spool"] {
        assert!(in_pod.contains(wanted), "no {wanted}: {in_pod}");
    }
    assert!(!in_pod.contains("S3_SECRET_KEY_FILE"), "a role needs no keys: {in_pod}");
    let of_drill = first.drill().expect("a drill").the("CronJob").to_string();
    assert!(of_drill.contains("S3_CA_BUNDLE") && !of_drill.contains("S3_SECRET_KEY_FILE"), "{of_drill}");
    let of = |manifests: &Manifests| sorted(&json!([manifests.objects, manifests.drill().expect("a drill").objects]));
    for order in [
        ["drill", "self-hosted", "spool", "aws-irsa", "prometheus", "daemon"],
        ["spool", "drill", "aws-irsa", "self-hosted", "daemon", "prometheus"],
        ["prometheus", "spool", "daemon", "drill", "aws-irsa", "self-hosted"],
    ] {
        assert_eq!(of(&built(&order)), of(&first), "{order:?}");
    }
}

/// Whether every part of `small` is in `big`; of a list each entry in some entry.
fn is_part(small: &Value, big: &Value) -> bool {
    match (small, big) {
        (Value::Object(small), Value::Object(big)) => {
            small.iter().all(|(key, value)| big.get(key).is_some_and(|big| is_part(value, big)))
        }
        (Value::Array(small), Value::Array(big)) => small.iter().all(|part| big.iter().any(|big| is_part(part, big))),
        _ => small == big,
    }
}

#[test]
fn the_readmes_cronjob_is_a_part_of_the_base() {
    let readme = std::fs::read_to_string(repository_file("docs/installation.md")).expect("the page");
    let (_, section) = readme.split_once("## Kubernetes").expect("it speaks of Kubernetes");
    let (_, example) = section.split_once("```yaml\n").expect("an example");
    let (example, _) = example.split_once("```").expect("its end");
    let example = &from_yaml(example)[0];
    let mut spec = Manifests::of("base").the("CronJob")["spec"].clone();
    // The example names the settings where the base has a ConfigMap.
    let settings = Manifests::of("base").the("ConfigMap")["data"].clone();
    let container = &mut spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
    let settings =
        settings.as_object().expect("settings").iter().map(|(name, value)| json!({"name": name, "value": value}));
    container["env"].as_array_mut().expect("its variables").extend(settings);
    assert!(is_part(example, &spec), "not in k8s/base:\n{example:#}");
}
