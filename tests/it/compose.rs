//! `compose.drill.yaml`: what Docker Compose makes of it restores a backup, and code in a dump has no way out. (The daemon of
//! `compose.yaml` is tested in the image.)

use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::servers::{own_postgres, postgres, s3};
use crate::support::setup::{backup_program, installed, repository_file};

/// The complete project, every default filled in, with secrets in this directory.
fn resolved(environment: &[(&str, &str)]) -> Value {
    installed("docker-compose");
    let compose = Program::at(&repository_file("target/tools/docker-compose/bin/docker-compose"));
    let compose = environment.iter().fold(compose, |compose, (name, value)| compose.env(name, value));
    let compose = compose.arg("--file").arg(repository_file("compose.drill.yaml"));
    let outcome = compose.args(["config", "--format", "json"]).run();
    assert_eq!(outcome.assert_code(0).stderr, "", "Docker Compose complains");
    serde_json::from_str(&outcome.stdout_text()).expect("JSON")
}

#[test]
fn drill_of_compose_restores_the_latest_backup() {
    let (database, bucket, server) =
        (postgres().create_database("compose"), s3().create_bucket("compose"), own_postgres(&[]));
    database.psql("CREATE TABLE t AS SELECT 7 AS n").expect("a table");
    backup_program(&database, &bucket).env("S3_PATH", "shop").run().assert_code(0);
    let project = resolved(&[("S3_URL", &s3().url), ("S3_BUCKET", &bucket)]);
    let drill = &project["services"]["drill"];
    let program = Program::new();
    for (name, key) in [("access-key", &s3().access_key), ("secret-key", &s3().secret_key)] {
        std::fs::write(program.home().join(name), key).expect("a secret");
    }
    let secrets = program.home().display().to_string();
    let here = |value: &str| value.replace("/run/secrets", &secrets).replace("@server/", "@127.0.0.1/");
    let variables = drill["environment"].as_object().expect("variables");
    let program = variables
        .iter()
        .fold(program, |program, (name, value)| program.env(name, here(value.as_str().expect("a string"))));
    let command = drill["command"].as_array().expect("words").iter().map(|word| word.as_str().expect("a word"));
    let program = program.args(command).env("PGPORT", server.port.to_string()).env("PGPASSWORD", &server.password);
    let answer = program.run().assert_code(0).stdout_text();
    assert!(answer.contains("ok    drill ") && answer.contains("1 table"), "{answer}");
}

#[test]
fn server_of_the_drill_is_confined_and_waited_for() {
    let project = resolved(&[]);
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
