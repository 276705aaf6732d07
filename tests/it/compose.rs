//! `compose.drill.yaml`: what Docker Compose makes of it restores a backup, and code in a dump has no way out. `compose.yaml` with
//! several databases. (Its daemon is tested in the image.)

use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::servers::{own_postgres, postgres, s3};
use crate::support::setup::{backup_program, clear, installed, repository_file};

/// The complete project of a file, every default filled in.
fn resolved(file: &str, environment: &[(&str, &str)]) -> Value {
    installed("docker-compose");
    let compose = Program::at(&repository_file("target/tools/docker-compose/bin/docker-compose"));
    let compose = environment.iter().fold(compose, |compose, (name, value)| compose.env(name, value));
    let compose = compose.arg("--file").arg(repository_file(file));
    let outcome = compose.args(["config", "--format", "json"]).run();
    assert_eq!(outcome.assert_code(0).stderr, "", "Docker Compose complains");
    serde_json::from_str(&outcome.stdout_text()).expect("JSON")
}

/// The program with the variables of a service, and with secrets in its home.
fn with_environment(service: &Value, secrets: &[(&str, &str)]) -> Program {
    let program = Program::new();
    let keys = [("access-key", &*s3().access_key), ("secret-key", &*s3().secret_key)];
    for (name, secret) in keys.iter().chain(secrets) {
        std::fs::write(program.home().join(name), secret).expect("a secret");
    }
    let directory = program.home().display().to_string();
    let here = |value: &str| value.replace("/run/secrets", &directory).replace("@server/", "@127.0.0.1/");
    let variables = service["environment"].as_object().expect("variables");
    variables.iter().fold(program, |program, (name, value)| program.env(name, here(value.as_str().expect("a string"))))
}

#[test]
fn compose_backs_up_one_database_or_each_of_a_server() {
    let (server, bucket) = (own_postgres(&[]), s3().create_bucket("compose"));
    server.psql("postgres", "CREATE DATABASE shop").expect("a database");
    let secrets = [("connection-string", &*server.uri("shop"))];
    for (databases, paths) in [("", &["shop/"][..]), ("all", &["shop/postgres/", "shop/shop/"])] {
        let given = [("S3_URL", &*s3().url), ("S3_BUCKET", &bucket), ("BACKUP_DATABASES", databases)];
        let project = resolved("compose.yaml", &given);
        with_environment(&project["services"]["postgres-backup"], &secrets).arg("backup").run().assert_code(0);
        let keys = s3().keys(&bucket, "");
        let mut found: Vec<&str> =
            keys.iter().map(|key| key.split_once("postgres-backup-").expect("a path").0).collect();
        found.dedup();
        assert_eq!(found, paths);
        clear(&bucket);
    }
}

#[test]
fn drill_of_compose_restores_the_latest_backup() {
    let (database, bucket, server) =
        (postgres().create_database("compose"), s3().create_bucket("compose"), own_postgres(&[]));
    database.psql("CREATE TABLE t AS SELECT 7 AS n").expect("a table");
    backup_program(&database, &bucket).env("S3_PATH", "shop").run().assert_code(0);
    let project = resolved("compose.drill.yaml", &[("S3_URL", &s3().url), ("S3_BUCKET", &bucket)]);
    let drill = &project["services"]["drill"];
    let program = with_environment(drill, &[]);
    let command = drill["command"].as_array().expect("words").iter().map(|word| word.as_str().expect("a word"));
    let program = program.args(command).env("PGPORT", server.port.to_string()).env("PGPASSWORD", &server.password);
    let answer = program.run().assert_code(0).stdout_text();
    assert!(answer.contains("ok    drill ") && answer.contains("1 table"), "{answer}");
}

#[test]
fn server_of_the_drill_is_confined_and_waited_for() {
    let project = resolved("compose.drill.yaml", &[]);
    let (drill, server) = (&project["services"]["drill"], &project["services"]["server"]);
    assert_eq!(drill["depends_on"]["server"]["condition"], "service_healthy");
    let reached: Vec<&String> = server["networks"].as_object().expect("networks").keys().collect();
    assert_eq!(reached, ["server"]);
    assert_eq!(project["networks"]["server"]["internal"], true);
    assert!(server.get("secrets").is_none() && server.get("ports").is_none(), "{server}");
    for service in [drill, server] {
        assert_eq!((&service["read_only"], &service["cap_drop"]), (&json!(true), &json!(["ALL"])), "{service}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]));
        assert_eq!(service["restart"], "no");
    }
    let database = std::fs::read_to_string(repository_file("compose.yaml")).expect("the file");
    let image = server["image"].as_str().expect("an image");
    assert!(database.contains(&format!("    image: {image}\n")), "the server is as the one that is backed up: {image}");
}
