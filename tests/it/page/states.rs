//! Every state of the page, in two widths and two colour schemes: `target/page/STATE-WIDTH-SCHEME.png`.

use std::fs;

use pg_s3_backup::health::page::{SECURITY, render};
use serde_json::{Value, json};

use super::facts::{HOSTILE, all, covered};
use crate::support::browser::{Browser, Page, View};
use crate::support::setup::repository_file;
use crate::support::web::{Reply, Web};

/// Each text with a contrast below 4.5 (WCAG AA), and each element that is cut or wider than the window.
const FAULTS: &str = r"(() => {
  const faults = [];
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const known = new Map();
  const painted = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const rgba = colour => known.get(colour) ?? known.set(colour, painted(colour)).get(colour);
  const light = colour => { const [r, g, b] = rgba(colour).map(v => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = element => { for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor; if (rgba(colour)[3] > 0) return colour; } return 'white'; };
  if (document.documentElement.scrollWidth > innerWidth) faults.push('the page is wider than the window');
  for (const element of document.querySelectorAll('body *')) {
    if (element.closest('svg, thead') || !element.getClientRects().length) continue;
    const box = element.getBoundingClientRect();
    if (box.right > innerWidth + 1 || box.left < -1) faults.push(`outside: ${element.outerHTML.slice(0, 80)}`);
    if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0) faults.push(`cut: ${element.outerHTML.slice(0, 80)}`);
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(2)}: ${element.outerHTML.slice(0, 80)}`);
  }
  // Two texts at the same place.
  const texts = [...document.querySelectorAll('h1, h2, p, dt, dd, th, td, li, figcaption span, .axis span')]
    .filter(e => e.getClientRects().length && !e.closest('thead'));
  for (const [index, one] of texts.entries()) for (const other of texts.slice(index + 1, index + 40)) {
    if (one.contains(other) || other.contains(one)) continue;
    const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 1) faults.push(`overlap: ${one.outerHTML.slice(0, 60)} and ${other.outerHTML.slice(0, 60)}`);
  }
  return faults;
})()";

/// Serves each state at its name.
fn served() -> (Web, Vec<&'static str>) {
    let pages: Vec<(&'static str, String)> = all().into_iter().map(|(name, facts)| (name, render(&facts))).collect();
    let names = pages.iter().map(|(name, _)| *name).collect();
    let web = Web::start(move |asked, _| {
        let wanted = asked.target.trim_matches('/');
        let Some((_, page)) = pages.iter().find(|(name, _)| *name == wanted) else { return Reply::status(404) };
        let mut reply = Reply::ok(page.clone());
        reply.headers.push(("content-type", "text/html; charset=utf-8".to_owned()));
        let secure = SECURITY.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text").to_owned()));
        reply.headers.extend(secure);
        reply
    });
    (web, names)
}

/// Asserts that the page wrote nothing to the console, and asked no other host.
#[track_caller]
pub fn assert_quiet(page: &mut Page<'_>, origin: &str, case: &str) {
    let console = page.console();
    assert!(console.is_empty(), "{case}: {}", json!(console));
    let others: Vec<String> = page.requests().into_iter().filter(|url| !url.starts_with(origin)).collect();
    assert!(others.iter().all(|url| url.starts_with("data:")), "{case}: {others:?}");
}

#[test]
fn every_state_is_readable_in_each_width_and_scheme() {
    let directory = repository_file("target/page");
    fs::create_dir_all(&directory).expect("a directory");
    let ((web, names), mut browser) = (served(), Browser::start());
    for name in names {
        for (width, scheme) in [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")] {
            let case = format!("{name}-{width}-{scheme}");
            let mut page = browser.open(&format!("{}/{name}/", web.url()), View { width, scheme });
            assert_quiet(&mut page, &web.url(), &case);
            assert_eq!(page.evaluate(FAULTS), json!([]), "{case}");
            fs::write(directory.join(format!("{case}.png")), page.screenshot()).expect("written");
        }
    }
}

#[test]
fn docs_have_a_picture() {
    const PICTURE: &str = "docs/status-page.png";
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        let ((web, _), mut browser) = (served(), Browser::start());
        let mut page = browser.open(&format!("{}/covered/", web.url()), View { width: 1100, scheme: "light" });
        let picture = page.picture(&json!(1100), &json!(820));
        fs::write(repository_file(PICTURE), picture).expect("written");
    }
    let picture = fs::metadata(repository_file(PICTURE)).expect("make page UPDATE_DOCUMENTS=1");
    assert!(picture.len() < 200_000, "{} bytes", picture.len());
}

#[test]
fn figures_have_the_names_of_the_dashboard() {
    let dashboard: Value =
        serde_json::from_slice(&fs::read(repository_file("monitoring/dashboard.json")).expect("the file"))
            .expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter().filter_map(|panel| panel["title"].as_str());
    let titles: Vec<&str> = panels.collect();
    for (_, facts) in all() {
        let page = render(&facts);
        for figure in page.split("<dt>").skip(1).filter_map(|rest| rest.split("</dt>").next()) {
            assert!(titles.contains(&figure), "{figure} is not one of {titles:?}");
        }
    }
}

#[test]
fn names_of_others_stay_text() {
    let ((web, _), mut browser) = (served(), Browser::start());
    let view = View { width: 1280, scheme: "light" };
    let mut page = browser.open(&format!("{}/hostile-names/", web.url()), view);
    let seen = page.evaluate("[...document.querySelectorAll('table th bdi')].map(name => name.textContent)");
    let mut seen: Vec<&str> = seen.as_array().expect("names").iter().filter_map(Value::as_str).collect();
    seen.sort_unstable();
    let mut wanted = HOSTILE.map(|name| pg_s3_backup::printable::printable(name).into_owned());
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
    assert_eq!(page.evaluate("document.scripts.length + document.querySelectorAll('b, i, [onmouseover]').length"), 0);
    assert_eq!(page.evaluate("document.title"), "Failing – s3://backups/<i>path");
    assert_quiet(&mut page, &web.url(), "hostile names");
}

#[test]
fn ten_thousand_backups_are_a_small_page() {
    let page = render(&covered(10_000));
    assert!(page.len() < 100_000, "{} bytes", page.len());
    assert!(page.contains("50 of 10000 shown"), "{page}");
    assert_eq!(page.matches("data-name=").count(), 50);
}
