//! The page of a running daemon.

use std::collections::BTreeSet;

use pg_s3_backup::printable::printable;
use serde_json::{Value, json};

use super::facts::HOSTILE;
use super::http::assert_printable;
use super::states::assert_quiet;
use crate::daemon::{YEARLY, stop};
use crate::databases::server::server_with;
use crate::monitoring::address;
use crate::support::browser::{Browser, Page, View};
use crate::support::client::{eventually, get};
use crate::support::fake_pg_dump::{End, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::{Outcome, Running};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::s3;
use crate::support::setup::s3_program;
use crate::support::stored::put_backups;
use crate::support::web::{Reply, Web};

const VIEW: View = View { width: 1280, scheme: "light" };
/// Name, location, start, size, ratio, duration, database, status and drill of each row; `null` where the page has a dash.
const ROWS: &str = r"[...document.querySelectorAll('tr[data-name]')].map(row => {
  const cells = [...row.querySelectorAll('td')];
  const value = cell => Number(cell.querySelector('data')?.value ?? NaN);
  const text = cell => cell.textContent === '–' ? null : cell.textContent;
  return [row.dataset.name, row.querySelector('th').title, cells[0].querySelector('time').dateTime,
    value(cells[1]), value(cells[2]), value(cells[3]), text(cells[4]), text(cells[5]), text(cells[6])];
})";

pub fn status(address: &str) -> Value {
    serde_json::from_str(&get(address, "/status").body).expect("JSON")
}

/// Waits until `/status` is as wanted.
#[track_caller]
pub fn status_when(running: &Running, address: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(|| is_wanted(&status(address)), || format!("{:#}\n{}", status(address), running.stderr_so_far()));
    status(address)
}

/// Asserts that the page has the rows of `list --json`.
#[track_caller]
fn assert_lists(page: &mut Page<'_>, listed: &Outcome) {
    // A number with a fraction of zero is an integer in one of them.
    let number = |value: &Value| value.as_f64().map_or(Value::Null, |number| json!(number));
    let listed: Vec<Value> = serde_json::from_slice(&listed.assert_code(0).stdout).expect("JSON");
    let wanted = listed.iter().map(|backup| {
        let [name, location, start] = ["file_name", "s3_location", "started_at"].map(|field| &backup[field]);
        let [size, ratio, duration] =
            ["file_size", "compression_ratio", "duration"].map(|field| number(&backup[field]));
        let database = backup["database"].as_str().map(|text| printable(text).into_owned());
        let status = backup["status"].as_str().expect("a status").replace('_', " ");
        json!([name, location, start, size, ratio, duration, database, status, backup["drill_result"]]).to_string()
    });
    let seen = page.evaluate(ROWS);
    let seen = seen.as_array().expect("rows").iter().map(|row| {
        let mut row = row.as_array().expect("cells").clone();
        row[3..6].iter_mut().for_each(|cell| *cell = number(cell));
        row[7] = row[7].as_str().expect("a status").to_lowercase().into();
        Value::Array(row).to_string()
    });
    assert_eq!(seen.collect::<BTreeSet<_>>(), wanted.collect::<BTreeSet<_>>());
}

#[test]
fn holds_what_list_says_below_a_path_prefix_and_lists_nothing() {
    let stage = Stage::new(FakeDump::new());
    put_backups(&stage.bucket, "app", &[1, 2, 3, 4, 5, 6, 7]);
    let daemon = stage.daemon(YEARLY).args(["--listen", "127.0.0.1:0", "--run-on-start"]);
    let running = daemon.env("BACKUP_KEEP_LAST", "5").spawn();
    let address = address(&running);
    let health =
        status_when(&running, &address, |status| status["last_run"]["exit_code"] == 0 && status["stored_backups"] == 5);
    assert_eq!((&health["state"], &health["healthy"]), (&json!("covered"), &json!(true)), "{health}");
    assert_eq!(health["backups"].as_array().map(Vec::len), Some(5), "{health}");
    let next = &health["retention"]["next"];
    assert_eq!(
        (&next["deletions"], next["backups"][0]["reasons"][0].as_str()),
        (&json!(1), Some("not of the last 5")),
        "{health}"
    );
    assert!(health["inventory"]["age_s"].is_u64() && health["inventory"]["error"].is_null(), "{health}");

    // As a reverse proxy with the page below a path: it takes the path off.
    let upstream = address.clone();
    let proxy = Web::start(move |asked, _| {
        let Some(path) = asked.target.strip_prefix("/backups/") else { return Reply::status(404) };
        let answer = get(&upstream, &format!("/{path}"));
        let header = |name: &'static str| {
            let line = answer.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.map(|value| (name, value.to_owned()))
        };
        let headers = ["content-type", "content-security-policy"].into_iter().filter_map(header).collect();
        Reply { status: answer.status, headers, body: answer.body }
    });
    let listed = stage.command("list").arg("--json").run();
    stage.proxy.reset_counts();
    let before = stage.proxy.log().len();
    let mut browser = Browser::start();
    let home = format!("{}/backups/", proxy.url());
    let mut page = browser.open(&home, VIEW);
    assert_lists(&mut page, &listed);
    assert_quiet(&mut page, &proxy.url(), "below a prefix");
    let links = page.evaluate("[...document.querySelectorAll('a')].map(link => link.href)");
    assert_eq!(links, json!([format!("{home}status"), format!("{home}metrics")]));
    assert!(page.evaluate("document.querySelector('h1').textContent") == "Covered");
    for path in ["/", "/status", "/"] {
        assert_eq!(get(&address, path).status, 200);
    }
    assert_eq!(stage.proxy.log().len(), before, "a request for the page is none to S3");
    let head = get(&address, "/").head;
    assert!(head.contains("content-security-policy: default-src 'none'; style-src 'sha256-"), "{head}");
    stop(running, "TERM", 143);
}

#[test]
fn names_of_databases_are_text_and_the_same_as_in_list() {
    let (server, bucket) = (server_with(&HOSTILE), s3().create_bucket("hostile"));
    let settings = |command: &str| {
        let program = s3_program(&bucket).arg(command).env("S3_PATH", "srv").env("BACKUP_DATABASES", "all,!postgres");
        program.env("POSTGRES_CONNECTION_STRING", server.uri("postgres"))
    };
    let daemon =
        settings("daemon").env("BACKUP_INTERVAL", YEARLY).env("LISTEN", "127.0.0.1:0").env("LOG_LEVEL", "info");
    let running = daemon.arg("--run-on-start").spawn();
    let address = address(&running);
    let health = status_when(&running, &address, |status| {
        status["last_run"]["exit_code"] == 0 && status["inventory"]["stored_backups"] == HOSTILE.len()
    });
    assert_printable(&get(&address, "/status").body);
    let names = health["databases"].as_array().expect("databases").iter().map(|database| database["name"].as_str());
    assert_eq!(names.flatten().collect::<BTreeSet<_>>(), HOSTILE.into_iter().collect());
    let listed = settings("list").arg("--json").run();
    let mut browser = Browser::start();
    let origin = format!("http://{address}");
    let mut page = browser.open(&format!("{origin}/"), VIEW);
    assert_lists(&mut page, &listed);
    assert_eq!(page.evaluate("document.scripts.length"), 0);
    assert_quiet(&mut page, &origin, "hostile databases");
    drop(page);
    stop(running, "TERM", 143);
}

#[test]
fn shows_what_was_known_while_s3_is_away() {
    let stage = Stage::new(FakeDump::new());
    let daemon = stage.daemon("*/3 * * * * *").args(["--listen", "127.0.0.1:0", "--catch-up=false"]);
    let running = daemon.env("BACKUP_MAX_UPLOAD_OUTAGE", "1ms").env("BACKUP_RETRY_DELAYS", "off").spawn();
    let address = address(&running);
    status_when(&running, &address, |status| status["stored_backups"].as_u64() > Some(0));
    for verb in [S3Verb::ListObjects, S3Verb::CreateMultipartUpload] {
        stage.proxy.rule(Rule::on(verb, Calls::All, Fault::slow_down()));
    }
    let health = status_when(&running, &address, |status| {
        status["inventory"]["error"].is_string() && status["state"] == "failing" && status["healthy"] == false
    });
    assert!(
        health["stored_backups"].as_u64() > Some(0) && health["inventory"]["failing_since"].is_string(),
        "{health}"
    );
    let page = get(&address, "/").body;
    for text in ["<h1>Failing</h1>", "The bucket cannot be listed", "storage failed (exit code 12)", "class=\"failed\""]
    {
        assert!(page.contains(text), "{text}: {page}");
    }
    let newest = health["backups"][0]["file_name"].as_str().expect("a backup");
    assert!(page.contains(newest), "{page}");
    stage.proxy.clear_rules();
    status_when(&running, &address, |status| status["inventory"]["error"].is_null() && status["state"] == "covered");
    running.signal("TERM");
    running.wait().assert_code(143);
}

#[test]
fn running_dump_is_on_the_page() {
    let stage = Stage::new(FakeDump::new().body(THREE_PARTS).end(End::HangAfterOutput));
    let daemon = stage.daemon(YEARLY).args(["--listen", "127.0.0.1:0", "--run-on-start", "--catch-up=false"]);
    let running = daemon.spawn();
    let address = address(&running);
    let health = status_when(&running, &address, |status| {
        status["running"][0]["dumped_bytes"].as_u64() > Some(0) && status["inventory"]["listed_at"].is_string()
    });
    assert!(health["running_since"].is_string() && health["state"] == "no_backup", "{health}");
    let page = get(&address, "/").body;
    for text in ["A backup runs", "<progress", "No backup yet", "content=\"10\""] {
        assert!(page.contains(text), "{text}: {page}");
    }
    running.signal("TERM");
    running.wait().assert_code(143);
}
