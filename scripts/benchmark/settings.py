"""The variables of a run, the environment of its programs, and requests to its servers."""
import os
import subprocess
import sys

SCRIPTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
ROOT = os.path.dirname(SCRIPTS)
PROGRAM = os.path.abspath(os.environ.get("PROGRAM") or os.path.join(ROOT, "target/ci/pg-s3-backup"))
SCALE = float(os.environ.get("SCALE") or 1)
ROUNDS = int(os.environ.get("ROUNDS") or 3)
LINK_MBYTES = float(os.environ.get("LINK_MBYTES") or 10)
LATENCIES = [int(word) for word in (os.environ.get("LATENCIES") or "20 200").split()]
BUCKET = "bench"
MIB = 1 << 20


def words(variable, known):
    """The words of a variable, in the order of all; all without the variable."""
    wanted = os.environ.get(variable, "").replace(",", " ").split()
    for word in wanted:
        if word not in known:
            fail("%s: %s is none of %s" % (variable, word, " ".join(known)))
    return [word for word in known if not wanted or word in wanted]


def fail(message):
    sys.exit("scripts/bench: " + message)


def environment(database, url=None):
    """The settings of every contender; each reads its own. Another URL is that of a link to the S3 server."""
    own = ("AWS_", "RCLONE_", "S3_READONLY", "S3_WRITEONLY", "BACKUP_", "SCALE", "ROUNDS")
    env = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    server = "postgresql://%s:%s@%s:%s/" % tuple(env[name] for name in ("PGUSER", "PGPASSWORD", "PGHOST", "PGPORT"))
    url = url or env["S3_URL"]
    return dict(
        env, PATH=":".join([env["PGBIN"], os.environ["BENCH_DIR"], env["PATH"]]), LOG_LEVEL="error", PGDATABASE=database,
        S3_URL=url, S3_BUCKET=BUCKET, POSTGRES_CONNECTION_STRING=server + database,
        RESTORE_CONNECTION_STRING=server + "restored", PYTHONPATH=os.path.join(ROOT, "target/tools/aws"),
        AWS_ACCESS_KEY_ID=env["S3_ACCESS_KEY"], AWS_SECRET_ACCESS_KEY=env["S3_SECRET_KEY"],
        AWS_DEFAULT_REGION="us-east-1", AWS_ENDPOINT_URL=url, AWS_CONFIG_FILE="/dev/null",
        RCLONE_CONFIG="/dev/null", RCLONE_S3_PROVIDER="Other", RCLONE_S3_ENDPOINT=url,
        RCLONE_S3_ACCESS_KEY_ID=env["S3_ACCESS_KEY"], RCLONE_S3_SECRET_ACCESS_KEY=env["S3_SECRET_KEY"],
        RCLONE_LOG_LEVEL="ERROR")


def run(command, database="postgres", output=False):
    """A command of the shell, which is not measured; its output."""
    call = ["bash", "-eo", "pipefail", "-c", command]
    done = subprocess.run(call, env=environment(database), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if output else None)
    if done.returncode:
        fail("this failed: " + command)
    return done.stdout.decode().strip() if output else None


def s3(method, target):
    """One request to the S3 server; what it answers."""
    call = [os.path.join(SCRIPTS, "s3"), method, target]
    return subprocess.run(call, stdin=subprocess.DEVNULL, check=True, stdout=subprocess.PIPE).stdout.decode()
