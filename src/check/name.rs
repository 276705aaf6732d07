//! The names of checks, in the table and in JSON.

use serde::Serialize;

/// The name of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckName {
    /// The settings of this program.
    Settings,
    /// Whether `METRICS_FILE` can be written.
    MetricsFile,
    /// Whether `LISTEN` can be listened on.
    Listen,
    /// Whether the host of `PING_URL` can be reached.
    PingUrl,
    /// A connection to PostgreSQL.
    Postgres,
    /// With `BACKUP_DATABASES`: whether a database is on the server, and its path is its own; the total of its checks.
    Database,
    /// A `pg_dump` that is new enough.
    PgDump,
    /// Whether this role may read everything, and other issues.
    Privileges,
    /// A `pg_dump` without data.
    SchemaDump,
    /// PostgreSQL's clock against this machine's.
    PostgresClock,
    /// Whether the spool can be written and has enough free space.
    Spool,
    /// A listing of the destination.
    S3List,
    /// S3's clock against this machine's.
    S3Clock,
    /// DELETE of the probe object.
    S3Delete,
    /// PUT of the probe object.
    S3Put,
    /// HEAD of the probe object.
    S3Head,
    /// GET of the probe object.
    S3Get,
    /// Start, one part and abort of a multipart upload.
    S3Multipart,
    /// The age of the latest backup.
    Freshness,
    /// Its size against `--min-size` and the backups before it.
    Size,
    /// Its manifest.
    Manifest,
    /// The object's metadata against the manifest.
    Object,
    /// Whom it is encrypted for, against `BACKUP_AGE_RECIPIENTS`.
    Encryption,
    /// The checksum of its bytes against the manifest.
    Checksum,
    /// Whether an identity opens it, and every chunk is authentic.
    Decryption,
    /// Whether it is one complete gzip stream.
    Gzip,
    /// Whether it is complete zstd frames.
    Zstd,
    /// The dump in it: its last line; its length, checksum and rows against the manifest.
    DumpIntegrity,
    /// The index against the object: each range, and each entry.
    Index,
    /// A restore of the latest backup into a scratch database.
    Drill,
}

impl CheckName {
    /// Its name, in the table and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::MetricsFile => "metrics_file",
            Self::Listen => "listen",
            Self::PingUrl => "ping_url",
            Self::Postgres => "postgres",
            Self::Database => "database",
            Self::PgDump => "pg_dump",
            Self::Privileges => "privileges",
            Self::SchemaDump => "schema_dump",
            Self::PostgresClock => "postgres_clock",
            Self::Spool => "spool",
            Self::S3List => "s3_list",
            Self::S3Clock => "s3_clock",
            Self::S3Delete => "s3_delete",
            Self::S3Put => "s3_put",
            Self::S3Head => "s3_head",
            Self::S3Get => "s3_get",
            Self::S3Multipart => "s3_multipart",
            Self::Freshness => "freshness",
            Self::Size => "size",
            Self::Manifest => "manifest",
            Self::Object => "object",
            Self::Encryption => "encryption",
            Self::Checksum => "checksum",
            Self::Decryption => "decryption",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::DumpIntegrity => "dump_integrity",
            Self::Index => "index",
            Self::Drill => "drill",
        }
    }
}
