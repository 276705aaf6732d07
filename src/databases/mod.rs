//! The databases of a server: which are meant, and where the backups of each are.
//!
//! With `BACKUP_DATABASES`, each database has a destination of its own, a sub-path of `S3_PATH`. `patterns` decides which databases
//! are meant, `sub_path` writes a database's name as a sub-path and reads it back, and `stored` finds the sub-paths of the bucket
//! that belong to databases that are meant. Which databases a server has is asked by `postgres::databases`.

mod patterns;
mod stored;
pub mod sub_path;

pub use patterns::DatabasePatterns;
pub use stored::{LeftAlone, StoredDatabase, StoredDatabases};
