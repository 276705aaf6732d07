//! How a backup is restored without this program: the commands, for the manifest and for `list NAME`.

use super::manifest::GlobalsFile;
use super::name::GLOBALS_SUFFIX;

/// Download, check, and the globals before the dump. `location` is the backup's `s3://bucket/key`.
#[must_use]
pub fn commands(location: &str, sha256: Option<&str>, globals: Option<&GlobalsFile>) -> Vec<String> {
    let (path, name) = location.rsplit_once('/').unwrap_or(("", location));
    let globals_name = format!("{name}{GLOBALS_SUFFIX}");
    let mut files = vec![(name, sha256)];
    files.extend(globals.map(|globals| (globals_name.as_str(), Some(globals.sha256.as_str()))));
    let mut lines: Vec<String> = files.iter().map(|(file, _)| format!("aws s3 cp {path}/{file} .")).collect();
    lines.extend(files.iter().filter_map(|(file, sum)| Some(format!("echo '{}  {file}' | sha256sum -c", (*sum)?))));
    lines.extend(files.iter().map(|(file, _)| format!("gunzip -t {file}")));
    lines.extend(globals.map(|_| format!("gunzip -c {globals_name} | psql -X -d TARGET")));
    lines.push(format!("gunzip -c {name} | psql -X -1 -v ON_ERROR_STOP=1 -d TARGET"));
    lines
}
