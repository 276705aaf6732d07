"""What a run was made on and with, and what is measured of the program alone."""
import datetime
import os
import re
import statistics
import subprocess
import tempfile
import time

from . import settings
from .settings import PROGRAM, run
from .tables import target

VERSIONS = {
    "PostgreSQL": "psql -XAtc 'SHOW server_version'", "pg_dump": "pg_dump --version", "gzip": "gzip --version",
    "pigz": "pigz --version 2>&1", "igzip": "igzip --version 2>&1", "zstd": "zstd --version", "aws-cli": "aws --version",
    "rclone": "rclone --version", "SeaweedFS": "'%s/target/tools/seaweedfs/bin/weed' version 2>/dev/null" % settings.ROOT,
}
MOST_HELP_MS = 10


def machine():
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return "%d cores%s, %.0f GiB of memory, Linux %s" % (
        os.cpu_count(), " (%s)" % models[0] if models else "", memory, os.uname().release)


def commit():
    """This directory's commit."""
    call = ["git", "-C", settings.ROOT, "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(call, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return " (%s)" % found.stdout.decode().strip() if found.returncode == 0 else ""


def describe(what, rounds):
    """The line above each table."""
    today = datetime.date.today()
    date = "%d %s" % (today.day, today.strftime("%B %Y"))
    print("\n%s; medians of %d rounds, database and S3 server on the same machine with %s, %s." % (what, rounds, machine(), date))


def versions():
    found = [run("'%s' --version" % PROGRAM, output=True) + commit()]
    for name, command in VERSIONS.items():
        number = re.search(r"\d+\.[\d.]*\d", run(command + " || true", output=True))
        found.append("%s %s" % (name, number.group() if number else "?"))
    print("\n" + ", ".join(found) + ".", flush=True)


def start():
    """The time of --help, and the size of the stripped program."""
    times = []
    for _ in range(30):
        began = time.monotonic()
        subprocess.run([PROGRAM, "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(1000 * (time.monotonic() - began))
    with tempfile.NamedTemporaryFile() as stripped:
        subprocess.run(["strip", "-o", stripped.name, PROGRAM], check=True)
        size = os.path.getsize(stripped.name)
    print("\n## The program\n")
    target("--help, milliseconds (median of 30)", statistics.median(times), most=MOST_HELP_MS)
    print("size of the stripped program: %.1f MB ('make dist' measures the release)" % (size / 1e6), flush=True)
