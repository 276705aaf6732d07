//! The index of an encrypted backup is encrypted, counts the stream before encryption, and is compared by `check --deep`.

use serde_json::{Value, json};

use super::check::result;
use super::{encrypted_backup, only_encrypted, reader};
use crate::support::age::{AgeKey, encrypted_by_age};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{gunzipped, manifest, s3_program, sha256, unzstd};
use crate::support::stored::put;

/// A bucket with an encrypted backup of more than one range, its key, and its name.
fn backed_up(codec: &str) -> (String, AgeKey, String) {
    let (database, bucket, key) = (postgres().create_database("index"), s3().create_bucket("index"), AgeKey::new());
    // A range begins at the first entry after 4 MiB.
    let rows = "SELECT n, md5(n::text) FROM generate_series(1, 120000) AS n";
    database.psql(&format!("CREATE TABLE a AS {rows}; CREATE TABLE b AS {rows}")).expect("tables");
    encrypted_backup(&database, &bucket, &[&key]).args(["--compression", codec]).run().assert_code(0);
    let name = only_encrypted(&bucket);
    (bucket, key, name)
}

#[test]
fn an_index_is_encrypted_and_counts_the_stream_before_encryption() {
    for codec in ["gzip", "zstd"] {
        let (bucket, key, name) = backed_up(codec);
        let file = s3().get(&bucket, &format!("{name}.index.json.gz.age")).expect("the index");
        let recorded = manifest(&bucket, &name)["index"].clone();
        let expected =
            json!({"file_name": format!("{name}.index.json.gz.age"), "bytes": file.len(), "sha256": sha256(&file)});
        assert_eq!(recorded, expected);
        assert!(file.starts_with(b"age-encryption.org/v1\n"));
        let index: Value = serde_json::from_slice(&gunzipped(&key.decrypted(&file))).expect("JSON");
        let packed = key.decrypted(&s3().get(&bucket, &name).expect("the backup"));
        let plain = if codec == "zstd" { unzstd(&packed) } else { gunzipped(&packed) };
        assert_eq!(index["codec_bytes"], packed.len());
        assert_eq!(index["plain_bytes"], plain.len());
        let tables: Vec<&Value> = index["entries"]
            .as_array()
            .expect("entries")
            .iter()
            .filter_map(|entry| entry["copy"].get("table"))
            .collect();
        assert_eq!(tables, ["public.a", "public.b"]);

        let open = reader(&bucket, &key).args(["check", "--bucket-only", "--deep"]);
        let (status, detail) = result(&open, "index").expect("a result");
        let points = index["points"].as_array().expect("points").len();
        assert!(points > 1 && status == "ok" && detail.contains(&format!("each of {points} ranges")), "{detail}");
    }
}

#[test]
fn check_says_why_an_encrypted_index_is_of_no_use() {
    let (bucket, key, name) = backed_up("gzip");
    let deep = |key: &AgeKey| reader(&bucket, key).args(["check", "--bucket-only", "--deep"]);
    let closed = s3_program(&bucket).args(["check", "--bucket-only", "--deep"]);
    assert_eq!(result(&closed, "index"), None);
    let (_, detail) = result(&closed, "decryption").expect("a result");
    assert!(detail.contains("index"), "{detail}");
    let (status, detail) = result(&deep(&AgeKey::new()), "index").expect("a result");
    assert!(status == "warn" && detail.contains("no identity in BACKUP_AGE_IDENTITY opens it"), "{status} {detail}");

    let (sidecar, recorded) = (format!("{name}.index.json.gz.age"), manifest(&bucket, &name));
    let right = key.decrypted(&s3().get(&bucket, &sidecar).expect("the index"));
    let replace = |sidecar: &str, file: &[u8]| {
        put(&bucket, sidecar, file);
        let mut manifest = recorded.clone();
        manifest["index"] = json!({"file_name": sidecar, "bytes": file.len(), "sha256": sha256(file)});
        put(&bucket, &format!("{name}.json"), manifest.to_string().as_bytes());
        result(&deep(&key), "index").expect("a result")
    };
    let mut damaged = encrypted_by_age(&right, &[&key]);
    assert_eq!(replace(&sidecar, &damaged).0, "ok");
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert_eq!(replace(&sidecar, &damaged).0, "warn", "a damaged chunk");
    assert_eq!(replace(&sidecar, &right).0, "warn", "not encrypted");
    let (status, detail) = replace(&format!("{name}.index.json.gz"), &right);
    assert!(status == "warn" && detail.contains("it is not encrypted, but its backup is"), "{status} {detail}");
    // The backup is restored all the same.
    reader(&bucket, &key).args(["restore", "--output", "/dev/null"]).run().assert_code(0);
}
