//! What the databases of a run share: processes and requests.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::process::write_script;
use crate::support::proxy::{Calls, Fault, FaultProxy, Rule, S3Verb, When};
use crate::support::servers::{postgres, s3};
use crate::support::setup::s3_program;
use crate::support::stored::{begin_upload, name_of_day};

#[test]
fn one_psql_and_one_list_of_stale_uploads_serve_all_databases() {
    let databases = ["share_a", "share_b", "share_c"].map(|hint| postgres().create_database(hint));
    let names = databases.each_ref().map(|database| database.name.as_str()).join(",");
    let (bucket, proxy, tools) = (s3().create_bucket("sharing"), FaultProxy::start(s3().addr()), tempfile::tempdir());
    let tools = tools.expect("a directory");
    for program in ["pg_dump", "pg_dumpall"] {
        symlink(postgres().bin.join(program), tools.path().join(program)).expect("a link");
    }
    let psql = postgres().bin.join("psql");
    let script = format!("#!/bin/sh\necho \"$PPID\" >>\"$0.started\"\nexec '{}' \"$@\"\n", psql.display());
    write_script(&tools.path().join("psql"), &script);
    // The upload's start cannot be set on the server, so the proxy changes its answer.
    let upload = |sub_path: &str| {
        let key = format!("srv/{sub_path}/{}", name_of_day(1));
        let id = begin_upload(&bucket, &key);
        format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload>")
    };
    let page = format!(
        "<ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>false</IsTruncated>{}{}\
         </ListMultipartUploadsResult>",
        upload(&databases[1].name),
        upload("not_included")
    );
    let headers = vec![("Content-Type".to_owned(), "application/xml".to_owned())];
    let reply = Fault::Reply { status: 200, headers, body: page.into_bytes(), when: When::Before };
    proxy.rule(Rule::on(S3Verb::ListMultipartUploads, Calls::All, reply));

    let backup = s3_program(&bucket).env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres"));
    let backup = backup.env("BACKUP_DATABASES", names).env("S3_PATH", "srv").env("S3_URL", proxy.url());
    let outcome = backup.env("PG_DUMP_PATH", tools.path().join("pg_dump")).arg("backup").run();
    outcome.assert_code(0).assert_no_children_left();
    let started = fs::read_to_string(tools.path().join("psql.started")).expect("started");
    assert_eq!(started.lines().count(), 1, "one psql: {started}");
    assert_eq!(proxy.count(S3Verb::ListMultipartUploads), databases.len() + 1, "one for each name, and one for all");
    assert_eq!(s3().open_uploads(&bucket), [format!("srv/not_included/{}", name_of_day(1))], "{}", outcome.stderr);
}
