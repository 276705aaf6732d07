//! What somebody who can write to a bucket may leave there: a backup with restart points anywhere, and an index that says anything.

use flate2::Crc;
use pg_s3_backup::codec::{Codec, Compression, Encoder};
use pg_s3_backup::index::{Index, Point};

use super::setup::{adapt_manifest, manifest, sha256};
use super::stored::put;

/// Compresses a dump with restart points at its beginning and at these offsets.
pub fn with_points(dump: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<Point>) {
    let mut encoder = Encoder::new(Compression { codec: Codec::Gzip, level: 1 }).expect("memory");
    let (mut object, mut points) = (Codec::Gzip.header().to_vec(), Vec::new());
    let ends = cuts.iter().copied().chain([dump.len()]);
    for (begin, end) in [0].into_iter().chain(cuts.iter().copied()).zip(ends) {
        let mut crc = Crc::new();
        crc.update(&dump[begin..end]);
        points.push(Point { plain_at: begin as u64, codec_at: object.len() as u64, crc32: crc.sum() });
        encoder.block(b"", &dump[begin..end], &mut object).expect("compressed");
    }
    let mut crc = Crc::new();
    crc.update(dump);
    object.extend(Codec::Gzip.end(&crc, dump.len() as u64));
    (object, points)
}

/// Puts an object and an index in the place of a backup's own. Its manifest says that they are right.
#[track_caller]
pub fn plant(bucket: &str, key: &str, (object, index): (&[u8], &Index)) {
    let packed = index.packed();
    put(bucket, key, object);
    put(bucket, &format!("{key}.index.json.gz"), &packed);
    let run_id = manifest(bucket, key)["run_id"].clone();
    assert_eq!(run_id, index.run_id.as_str(), "the index is of another run");
    adapt_manifest(bucket, key, object, |manifest| {
        manifest["index"]["bytes"] = packed.len().into();
        manifest["index"]["sha256"] = sha256(&packed).into();
        let rows = index.entries.iter().filter_map(|entry| entry.copy.as_ref());
        manifest["rows"] = rows.fold(0_u64, |sum, copy| sum.wrapping_add(copy.rows)).into();
        manifest["dump_bytes"] = index.plain_bytes.into();
        if let [point] = index.points.as_slice() {
            manifest["dump_crc32"] = format!("{:08x}", point.crc32).into();
        }
    });
}
