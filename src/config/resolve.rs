//! Resolves each setting: flag, then environment (`X` or `X_FILE`), then default. Collects every problem.
//!
//! Called only by [`super`]. It reads only the files that `X_FILE` names, and never puts a value into a problem.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::Path;

use crate::environment::Environment;
use crate::exit_code::ExitCode;
use crate::printable::{is_unprintable, printable};

use super::effective::Effective;
use super::given;
use super::table::Setting;

/// The largest file that `X_FILE` may name, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// The flags given on the command line, by the setting's variable.
pub type Flags = BTreeMap<&'static str, String>;

/// One problem with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its exit code.
    pub code: ExitCode,
    /// The problem and what to do; names the variable, never a secret.
    pub text: String,
}

/// All problems with the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// True without problems.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest exit code among the problems.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        self.0.iter().map(|problem| problem.code).min().unwrap_or(ExitCode::InvalidSetting)
    }

    /// Each problem's text.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|problem| problem.text.as_str())
    }

    /// Adds a problem; it stays one line, whatever the value in it holds.
    pub fn push(&mut self, code: ExitCode, text: String) {
        let text = if text.contains(is_unprintable) { printable(&text).into_owned() } else { text };
        self.0.push(Problem { code, text });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.texts().collect();
        f.write_str(&texts.join("; "))
    }
}

/// A setting has no value, and the problem is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported;

/// Resolves settings one by one, and records values and problems.
pub struct Resolver<'a> {
    flags: &'a Flags,
    environment: &'a Environment,
    problems: Problems,
    effective: Effective,
}

impl<'a> Resolver<'a> {
    /// Starts with nothing resolved.
    #[must_use]
    pub fn new(flags: &'a Flags, environment: &'a Environment) -> Self {
        Self { flags, environment, problems: Problems::default(), effective: Effective::default() }
    }

    /// The environment that values come from.
    #[must_use]
    pub fn environment(&self) -> &'a Environment {
        self.environment
    }

    /// Reports a problem with the value of a setting.
    pub fn refuse(&mut self, setting: &Setting, why: &str) {
        let flag = self.flags.get(setting.variable).filter(|value| !value.is_empty()).map(|_| match setting.flag {
            Some(flag) => format!(" (--{flag})"),
            // `PG_DUMP_ARGS`, given after `--`.
            None => " (-- ARGS)".to_owned(),
        });
        let flag = flag.unwrap_or_default();
        self.problems.push(setting.refusal, format!("{}{flag}: {why}", setting.variable));
    }

    /// Reports a problem of several settings.
    pub fn problem(&mut self, code: ExitCode, text: String) {
        self.problems.push(code, text);
    }

    /// The value's text; `None` if it is unset or a problem was reported.
    pub fn text(&mut self, setting: &Setting) -> Option<String> {
        self.given(setting).ok().flatten()
    }

    /// The value's text; `None` if it is unset.
    ///
    /// # Errors
    /// If it is set but cannot be read; the problem is reported.
    pub fn given(&mut self, setting: &Setting) -> Result<Option<String>, Reported> {
        let value = self.find(setting).map_err(|why| {
            // An unreadable file is always an invalid setting: its content cannot be judged.
            self.problems.push(ExitCode::InvalidSetting, why);
            Reported
        })?;
        if let Some(why) = value.as_deref().and_then(|value| given::fault(setting, value)) {
            self.refuse(setting, why);
            return Err(Reported);
        }
        self.effective.note(setting, value.as_deref());
        Ok(value)
    }

    /// As [`Self::text`], and reports a missing setting.
    pub fn required(&mut self, setting: &Setting) -> Option<String> {
        let value = self.given(setting).ok()?;
        if value.is_none() {
            let or_flag = setting.flag.map(|flag| format!(" or --{flag}")).unwrap_or_default();
            let Setting { variable, help, .. } = setting;
            let text = format!("{variable} is not set: {help}: set {variable}{or_flag}");
            self.problems.push(ExitCode::MissingSetting, text);
        }
        value
    }

    /// Parses a value; `None` if it is unset or invalid. An invalid value is reported.
    pub fn parse<T>(&mut self, setting: &Setting, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(setting)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.refuse(setting, &why);
                None
            }
        }
    }

    /// Records the value that is used, if it differs from what was given.
    pub fn used(&mut self, setting: &Setting, value: impl fmt::Display) {
        self.effective.used(setting, &value.to_string());
    }

    /// Records a value that came from another program's variable.
    pub fn given_elsewhere(&mut self, setting: &Setting, value: &str) {
        self.effective.note(setting, Some(value));
    }

    /// The values that are used, or every problem.
    ///
    /// # Errors
    /// The problems, if there are any.
    pub fn finish(self) -> Result<Effective, Problems> {
        if self.problems.is_empty() { Ok(self.effective) } else { Err(self.problems) }
    }

    /// Every form in which a setting's value may appear, valid or not, for the redactor.
    #[must_use]
    pub fn every_form(&self, setting: &Setting) -> Vec<String> {
        let plain = self.environment.get(setting.variable).map(|value| value.to_string_lossy().into_owned());
        let path = self.environment.get(&file_variable(setting)).map(Path::new);
        let file = path.and_then(|path| read(path).ok());
        let file = file.map(|content| String::from_utf8_lossy(&content).into_owned());
        let misplaced =
            path.filter(|path| given::may_be_the_value(setting, path)).map(|path| path.display().to_string());
        let mut forms = Vec::new();
        for given in plain.into_iter().chain(file).chain(misplaced) {
            let taken = given::without_blank_lines(&given).to_owned();
            forms.extend(given::without_quotes(&taken).map(str::to_owned));
            forms.extend([taken, given]);
        }
        forms
    }

    fn find(&self, setting: &Setting) -> Result<Option<String>, String> {
        let value = self.find_as_given(setting)?;
        // An empty value counts as unset, also in a file.
        Ok(value.map(|value| given::without_blank_lines(&value).to_owned()).filter(|value| !value.is_empty()))
    }

    fn find_as_given(&self, setting: &Setting) -> Result<Option<String>, String> {
        let file_variable = file_variable(setting);
        let plain = self.environment.get(setting.variable);
        let file = self.environment.get(&file_variable);
        if plain.is_some() && file.is_some() {
            return Err(format!("{} and {file_variable} are both set: unset one", setting.variable));
        }
        if let Some(flag) = self.flags.get(setting.variable).filter(|value| !value.is_empty()) {
            return Ok(Some(flag.clone()));
        }
        if let Some(value) = plain {
            let text = value.to_str().ok_or_else(|| format!("{} is not valid UTF-8", setting.variable))?;
            return Ok(Some(text.to_owned()));
        }
        let Some(path) = file.map(Path::new) else { return Ok(None) };
        let content = read(path).map_err(|error| match error.kind() {
            _ if given::may_be_the_value(setting, path) => {
                format!("{file_variable} names no file: a path belongs here")
            }
            std::io::ErrorKind::FileTooLarge => {
                format!("{file_variable}: {} has more than 1 MiB, and is no setting", path.display())
            }
            _ => format!("{file_variable}: cannot read {}: {error}", path.display()),
        })?;
        let content = String::from_utf8(content)
            .map_err(|_| format!("{file_variable}: {} is not text in UTF-8", path.display()))?;
        if content.contains('\0') {
            return Err(format!("{file_variable}: the file holds a NUL byte"));
        }
        Ok(Some(content))
    }
}

/// Reads at most the size limit: a device has no end.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    std::fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST_FILE {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

fn file_variable(setting: &Setting) -> String {
    format!("{}_FILE", setting.variable)
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;
    use std::ffi::OsString;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    #[test]
    fn flag_takes_precedence_and_empty_variable_is_unset() {
        let flags = Flags::from([("S3_BUCKET", "from-flag".to_owned())]);
        let variables = environment(&[("S3_BUCKET", "from-environment"), ("S3_PATH", "")]);
        let mut resolver = Resolver::new(&flags, &variables);
        assert_eq!(resolver.text(&table::S3_BUCKET).as_deref(), Some("from-flag"));
        assert_eq!(resolver.text(&table::S3_PATH), None);
        assert!(resolver.finish().is_ok());
    }

    #[test]
    fn refuses_a_variable_together_with_its_file() {
        let flags = Flags::from([("S3_BUCKET", "from-flag".to_owned())]);
        let variables = environment(&[("S3_BUCKET", "a"), ("S3_BUCKET_FILE", "/b")]);
        let mut resolver = Resolver::new(&flags, &variables);
        assert_eq!(resolver.text(&table::S3_BUCKET), None);
        let problems = resolver.finish().expect_err("both are set");
        assert_eq!(problems.exit_code(), ExitCode::InvalidSetting);
        assert!(problems.to_string().contains("S3_BUCKET_FILE"), "{problems}");
    }

    #[test]
    fn reports_every_problem_with_the_lowest_exit_code() {
        let flags = Flags::new();
        let variables = environment(&[("S3_URL_FILE", "/does/not/exist")]);
        let mut resolver = Resolver::new(&flags, &variables);
        resolver.text(&table::S3_URL);
        resolver.required(&table::S3_BUCKET);
        let problems = resolver.finish().expect_err("two problems");
        assert_eq!(problems.exit_code(), ExitCode::MissingSetting);
        assert!(problems.texts().count() == 2 && problems.to_string().contains("S3_URL_FILE"), "{problems}");
        assert!(problems.to_string().ends_with(": set S3_BUCKET or --s3-bucket"), "{problems}");
    }

    #[test]
    fn removes_trailing_line_breaks_of_variables_and_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        for given in ["secret\n", "secret\r\n", "secret\n\n"] {
            std::fs::write(&path, given).expect("written");
            let flags = Flags::new();
            let path = path.display().to_string();
            for variable in [("S3_SECRET_KEY", given), ("S3_SECRET_KEY_FILE", &path)] {
                let variables = environment(&[variable, ("S3_PATH", "\n")]);
                let mut resolver = Resolver::new(&flags, &variables);
                assert_eq!(resolver.text(&table::S3_SECRET_KEY).as_deref(), Some("secret"), "{given:?}");
                assert_eq!(resolver.text(&table::S3_PATH), None, "nothing but a line break is nothing");
                let forms = resolver.every_form(&table::S3_SECRET_KEY);
                assert_eq!(forms, ["secret", given]);
                assert!(resolver.finish().is_ok());
            }
        }
    }

    #[test]
    fn redactor_hides_refused_values() {
        let (flags, variables) = (Flags::new(), environment(&[("S3_SECRET_KEY", "'secret'\n")]));
        let mut resolver = Resolver::new(&flags, &variables);
        assert_eq!(resolver.text(&table::S3_SECRET_KEY), None);
        assert_eq!(resolver.every_form(&table::S3_SECRET_KEY), ["secret", "'secret'", "'secret'\n"]);
        let problems = resolver.finish().expect_err("quotes");
        assert_eq!(problems.exit_code(), ExitCode::InvalidS3);
        assert!(problems.to_string().starts_with("S3_SECRET_KEY: begins and ends with a quote"), "{problems}");
    }

    #[test]
    fn hides_a_secret_given_instead_of_its_path() {
        for (setting, value) in [
            (&table::POSTGRES_CONNECTION_STRING, "postgresql://u:sentinel@h/d"),
            (&table::POSTGRES_CONNECTION_STRING, "host=h password=sentinel"),
            (&table::S3_SECRET_KEY, "sentinel"),
            (&table::S3_SECRET_KEY, "/sentinel"),
            (&table::S3_SECRET_KEY, "/sen/tinel+/sentinel"),
            (&table::PING_URL, "https://h/sentinel"),
            (&table::S3_URL, "https://u:sentinel@h"),
        ] {
            let variable = file_variable(setting);
            let (flags, variables) = (Flags::new(), environment(&[(&variable, value)]));
            let mut resolver = Resolver::new(&flags, &variables);
            assert_eq!(resolver.text(setting), None);
            assert_eq!(resolver.every_form(setting).last().map(String::as_str), Some(value));
            let problems = resolver.finish().expect_err("no file").to_string();
            assert_eq!(problems, format!("{variable} names no file: a path belongs here"));
        }
        let dir = tempfile::tempdir().expect("a directory");
        for path in [dir.path().join("missing"), dir.path().to_owned(), "/etc/no/such/secret".into()] {
            let path = path.display().to_string();
            let (flags, variables) = (Flags::new(), environment(&[("S3_SECRET_KEY_FILE", &path)]));
            let mut resolver = Resolver::new(&flags, &variables);
            assert_eq!(resolver.text(&table::S3_SECRET_KEY), None);
            assert_eq!(resolver.every_form(&table::S3_SECRET_KEY), [""; 0]);
            let problems = resolver.finish().expect_err("unreadable").to_string();
            assert!(problems.starts_with(&format!("S3_SECRET_KEY_FILE: cannot read {path}: ")), "{problems}");
        }
    }

    #[test]
    fn escapes_control_characters_in_problems() {
        let mut problems = Problems::default();
        problems.push(ExitCode::InvalidSetting, "`a\nERROR b\u{1b}[0m` is wrong".to_owned());
        assert_eq!(problems.to_string(), "`a\\nERROR b\\u{1b}[0m` is wrong");
    }
}
