"""The pipelines that store a backup, and what they have stored."""
import collections
import json
import os

from .settings import BUCKET, PROGRAM, SCRIPTS, fail, run, s3

# read: what writes the dump of the stored object.
Contender = collections.namedtuple("Contender", "title command read")


def ours_encrypted():
    """Encrypts for the key of new_identity."""
    plain = ours()
    return Contender(plain.title + " --age-recipients age1…", plain.command.replace("--json", '--json --age-recipients "$(<recipient)"'),
                     'age -d -i "$BENCH_DIR/identity" | ' + plain.read)


def ours(flags=""):
    return Contender(("pg-s3-backup backup " + flags).strip(), "'%s' backup --json %s > result.json" % (PROGRAM, flags),
                     "zstd -dc" if "zstd" in flags else "gunzip")


def rival(pipe, read, dump="pg_dump", upload="aws s3 cp -"):
    target = " :s3:bench/object" if upload.startswith("rclone") else " s3://bench/object --only-show-errors"
    command = " | ".join(word for word in (dump, pipe.replace("zstd", "zstd -q"), upload + target) if word)
    return Contender(" | ".join(word for word in (dump, pipe, upload) if word), command, read)


BASE = "pg_dump"
GZIP = "gzip"
OURS = "ours"
OURS_AGE = "ours-age"
ALL = {
    BASE: Contender("pg_dump > /dev/null", "pg_dump > /dev/null", None),
    OURS: ours(),
    "ours-zstd": ours("--compression zstd"),
    "ours-gzip-6": ours("--compression-level 6"),
    OURS_AGE: ours_encrypted(),
    GZIP: rival("gzip", "gunzip"),
    "gzip-1": rival("gzip -1", "gunzip"),
    "pigz": rival("pigz", "gunzip"),
    "igzip": rival("igzip -3", "gunzip"),
    "zstd": rival("zstd -3 -T0", "zstd -dc"),
    "rclone": rival("zstd -3 -T0", "zstd -dc", upload="rclone rcat"),
    "custom": rival("", "pg_restore -f -", dump="pg_dump -Fc"),
}


def is_ours(name):
    return name.startswith("ours")


def new_identity():
    """Makes the pair of keys of this run, once."""
    if not os.path.exists(os.path.join(os.environ["BENCH_DIR"], "recipient")):
        run('cd "$BENCH_DIR"; age-keygen -o identity 2> /dev/null; age-keygen -y identity > recipient')


def new_bucket():
    """An empty bucket that has taken a first object: its volumes are there."""
    s3("PUT", "/" + BUCKET)
    s3("PUT", "/%s/first" % BUCKET)
    s3("DELETE", "/%s/first" % BUCKET)


def take(name, dump=None):
    """The size of what a contender has just stored and, of ours, the result; removes the bucket.

    With the bytes of the dump it reads the object first: a pipeline that stores less must not win.
    """
    if name == BASE:
        s3("DELETE", "/" + BUCKET)
        return 0, {}
    result, key = {}, "object"
    if is_ours(name):
        with open(os.path.join(os.environ["BENCH_DIR"], "result.json")) as file:
            result = json.load(file)
        key = result["key"]
    headers = dict(line.lower().split(": ", 1) for line in s3("HEAD", "/%s/%s" % (BUCKET, key)).splitlines())
    if dump:
        check(name, key, dump)
    end = ".age" if key.endswith(".age") else ""
    for suffix in ("", ".json", ".globals.sql.gz" + end, ".index.json.gz" + end) if result else ("",):
        s3("DELETE", "/%s/%s%s" % (BUCKET, key, suffix))
    s3("DELETE", "/" + BUCKET)
    return int(headers["content-length"]), result


def check(name, key, dump):
    read = "'%s/s3' GET /%s/%s | %s | wc -c" % (SCRIPTS, BUCKET, key, ALL[name].read)
    stored = int(run(read, output=True))
    # What pg_restore makes of its own format has lines that are a little different.
    if stored != dump and (name != "custom" or abs(stored - dump) > dump / 100):
        fail("%s stored %d of %d bytes" % (ALL[name].title, stored, dump))
