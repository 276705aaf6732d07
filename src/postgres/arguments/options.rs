//! The accepted options of `pg_dump`: one table for the parser, its errors, and `docs/pg-dump-arguments.md`.

use super::Coverage;

/// An option of `pg_dump`.
#[derive(Debug)]
pub struct DumpOption {
    /// Its long name, without the dashes.
    pub long: &'static str,
    /// Its short name.
    pub short: Option<char>,
    /// The name of its value; `None` if it takes none.
    pub value: Option<&'static str>,
    /// The first major version of `pg_dump` that has it, if later than 13.
    pub since: Option<u32>,
    /// Whether the dump is complete with it.
    pub coverage: Coverage,
    /// What it does.
    pub help: &'static str,
}

impl DumpOption {
    /// Its names: `--no-owner (-O)`.
    #[must_use]
    pub fn spelling(&self) -> String {
        self.short.map_or_else(|| format!("--{}", self.long), |short| format!("--{} (-{short})", self.long))
    }

    const fn short(self, letter: char) -> Self {
        Self { short: Some(letter), ..self }
    }

    const fn since(self, major: u32) -> Self {
        Self { since: Some(major), ..self }
    }
}

const fn flag(long: &'static str, help: &'static str) -> DumpOption {
    DumpOption { long, short: None, value: None, since: None, coverage: Coverage::Complete, help }
}

const fn valued(long: &'static str, value: &'static str, help: &'static str) -> DumpOption {
    DumpOption { value: Some(value), ..flag(long, help) }
}

const fn partial(long: &'static str, value: &'static str, help: &'static str) -> DumpOption {
    DumpOption { coverage: Coverage::Partial, ..valued(long, value, help) }
}

/// Options that keep the plain format, with their older names.
pub const PG_DUMP_OPTIONS: &[DumpOption] = &[
    flag("no-owner", "leaves out owners").short('O'),
    flag("no-privileges", "leaves out GRANT and REVOKE").short('x'),
    flag("no-acl", "the same as `--no-privileges`"),
    flag("no-tablespaces", "leaves out tablespaces"),
    flag("no-comments", "leaves out comments"),
    flag("no-publications", "leaves out publications"),
    flag("no-subscriptions", "leaves out subscriptions"),
    flag("no-security-labels", "leaves out security labels"),
    flag("no-table-access-method", "leaves out table access methods").since(15),
    flag("no-toast-compression", "leaves out TOAST compression methods").since(14),
    flag("quote-all-identifiers", "quotes all names"),
    flag("disable-dollar-quoting", "writes function bodies in plain quotes"),
    valued("extra-float-digits", "NUM", "sets `extra_float_digits` for the dump"),
    flag("inserts", "writes INSERT instead of COPY: much slower to restore"),
    flag("column-inserts", "writes INSERT with column names"),
    flag("attribute-inserts", "the same as `--column-inserts`"),
    valued("rows-per-insert", "NROWS", "rows in each INSERT"),
    flag("on-conflict-do-nothing", "adds ON CONFLICT DO NOTHING to each INSERT"),
    flag(
        "load-via-partition-root",
        "loads partitions through their root, so that a restore routes each row to its partition",
    ),
    flag("serializable-deferrable", "waits for a snapshot without serialization anomalies"),
    flag("strict-names", "fails if a pattern matches nothing"),
    valued("role", "NAME", "reads as this role (SET ROLE)"),
    valued("encoding", "ENC", "the dump's encoding").short('E'),
    flag("verbose", "logs more").short('v'),
    partial("schema", "PATTERN", "only these schemas").short('n'),
    partial("exclude-schema", "PATTERN", "not these schemas").short('N'),
    partial("table", "PATTERN", "only these tables").short('t'),
    partial("exclude-table", "PATTERN", "not these tables").short('T'),
    partial("table-and-children", "PATTERN", "only these tables, with their partitions and children").since(16),
    partial("exclude-table-and-children", "PATTERN", "not these tables, their partitions and children").since(16),
    partial("exclude-table-data", "PATTERN", "these tables without their rows"),
    partial("exclude-table-data-and-children", "PATTERN", "the same, with their partitions and children").since(16),
    partial("extension", "PATTERN", "only these extensions").short('e').since(14),
    partial("exclude-extension", "PATTERN", "not these extensions").since(17),
    partial("filter", "FILENAME", "includes and excludes objects by a file").since(17),
    DumpOption { value: None, ..partial("no-large-objects", "", "leaves out large objects").short('B').since(16) },
    DumpOption { value: None, ..partial("no-blobs", "", "the older name of `--no-large-objects`") },
];
