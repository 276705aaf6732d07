//! The settings of the bucket. Part of [`super`]'s table.

use super::{BACKUP, BASE, Completion, Group, STORAGE, Secrecy, Setting};
use crate::exit_code::ExitCode;

const S3: Setting = Setting { commands: STORAGE, refusal: ExitCode::InvalidS3, group: Group::Storage, ..BASE };
/// A number, a time or a switch has the exit code of any other setting.
const S3_VALUE: Setting = Setting { refusal: ExitCode::InvalidSetting, ..S3 };
/// The words of a switch for completions; others are accepted, too.
const SWITCH: Completion = Completion::Words(|| vec!["true", "false"]);

/// `S3_BUCKET`
pub const S3_BUCKET: Setting = Setting {
    variable: "S3_BUCKET",
    flag: Some("s3-bucket"),
    value: "BUCKET",
    default: "required",
    help: "bucket that holds the backups",
    ..S3
};
/// `S3_PATH`
pub const S3_PATH: Setting = Setting {
    variable: "S3_PATH",
    flag: Some("s3-path"),
    value: "PREFIX",
    default: "the top level of the bucket",
    help: "key prefix of the backups; one path holds one database, or with `BACKUP_DATABASES` a sub-path for each database of one server; `backup` means `backup/`, never `backup2/`",
    ..S3
};
/// `S3_URL`
pub const S3_URL: Setting = Setting {
    variable: "S3_URL",
    flag: Some("s3-url"),
    value: "URL",
    default: "AWS",
    help: "endpoint of an S3-compatible server, without the bucket; it may have a path",
    completion: Completion::Url,
    ..S3
};
/// `S3_REGION`
pub const S3_REGION: Setting = Setting {
    variable: "S3_REGION",
    flag: Some("s3-region"),
    value: "REGION",
    default: "the AWS chain, else `us-east-1`",
    help: "region of the bucket",
    ..S3
};
/// `S3_ACCESS_KEY`
pub const S3_ACCESS_KEY: Setting = Setting {
    variable: "S3_ACCESS_KEY",
    secrecy: Secrecy::Secret,
    default: "the AWS chain",
    help: "access key of static credentials; without it the AWS credential chain is used (environment, profile, SSO, web identity, container, instance)",
    ..S3
};
/// `S3_SECRET_KEY`
pub const S3_SECRET_KEY: Setting = Setting {
    variable: "S3_SECRET_KEY",
    secrecy: Secrecy::Secret,
    default: "the AWS chain",
    help: "secret key of static credentials",
    ..S3
};
/// `S3_SESSION_TOKEN`
pub const S3_SESSION_TOKEN: Setting = Setting {
    variable: "S3_SESSION_TOKEN",
    secrecy: Secrecy::Secret,
    default: "none",
    help: "session token of temporary static credentials",
    ..S3
};
/// `S3_FORCE_PATH_STYLE`
pub const S3_FORCE_PATH_STYLE: Setting = Setting {
    variable: "S3_FORCE_PATH_STYLE",
    flag: Some("s3-force-path-style"),
    value: "BOOL",
    default: "`true` with `S3_URL`",
    help: "address the bucket in the path, not in the host name",
    completion: SWITCH,
    ..S3_VALUE
};
/// `S3_CA_BUNDLE`
pub const S3_CA_BUNDLE: Setting = Setting {
    variable: "S3_CA_BUNDLE",
    value: "FILE",
    default: "the system's roots",
    help: "PEM file of the CA certificates that signed a self-hosted endpoint's certificate",
    ..S3
};
/// `S3_CHECKSUM`
pub const S3_CHECKSUM: Setting = Setting {
    variable: "S3_CHECKSUM",
    value: "KIND",
    default: "`auto`",
    commands: BACKUP,
    help: "checksum sent with each part: `crc64nvme` (what `auto` means on AWS), `md5` (elsewhere) or `none`",
    ..S3
};
/// `S3_STORAGE_CLASS`
pub const S3_STORAGE_CLASS: Setting = Setting {
    variable: "S3_STORAGE_CLASS",
    value: "CLASS",
    default: "the bucket's",
    commands: BACKUP,
    help: "storage class of the backup, such as `STANDARD_IA`; its sidecars stay STANDARD",
    ..S3
};
/// `S3_SSE`
pub const S3_SSE: Setting = Setting {
    variable: "S3_SSE",
    value: "KIND",
    default: "the bucket's",
    commands: BACKUP,
    help: "encryption by the store: `AES256` or `aws:kms`",
    ..S3
};
/// `S3_SSE_KMS_KEY_ID`
pub const S3_SSE_KMS_KEY_ID: Setting = Setting {
    variable: "S3_SSE_KMS_KEY_ID",
    value: "KEY",
    default: "the account's",
    commands: BACKUP,
    help: "key for `aws:kms`",
    ..S3
};
/// `S3_MAX_PARTS`
pub const S3_MAX_PARTS: Setting = Setting {
    variable: "S3_MAX_PARTS",
    value: "N",
    default: "`10000`, on Scaleway `1000`",
    commands: BACKUP,
    help: "largest number of parts per upload that the store accepts",
    ..S3_VALUE
};
/// `S3_EQUAL_PARTS`
pub const S3_EQUAL_PARTS: Setting = Setting {
    variable: "S3_EQUAL_PARTS",
    value: "BOOL",
    default: "`true` on R2",
    commands: BACKUP,
    help: "whether all parts except the last must have the same size",
    ..S3_VALUE
};
/// `S3_REQUEST_TIMEOUT`
pub const S3_REQUEST_TIMEOUT: Setting = Setting {
    variable: "S3_REQUEST_TIMEOUT",
    value: "TIME",
    default: "`30s`",
    help: "longest time that one S3 request may make no progress; completing an upload gets 60 ms more per part",
    ..S3_VALUE
};
