"""Restores a backup side by side: into a database, and into a file."""
import json
import os

from .contenders import ALL, OURS, new_bucket, take
from .data import MIX, prepare
from .machine import describe
from .measure import measure
from .settings import BUCKET, MIB, PROGRAM, ROUNDS, fail, run
from .tables import medians, ratio, table, target

# {key} is the stored backup. ANALYZE is what psql and pg_restore do not do, so it is left out where they are compared. What
# --create-db does is a part of it, so the others create their database in the measured time, too.
CREATE = "psql -X -q -d postgres -c 'CREATE DATABASE restored TEMPLATE template0' && "
PSQL = "`gunzip \\| psql` of a local file"
PG_RESTORE = "`pg_restore -j2` of a local `-Fc` file"
PARALLEL = "`restore --create-db --jobs 2 --no-analyze`"
DATABASE = {
    "`aws s3 cp - \\| gunzip \\| psql`": "aws s3 cp s3://{key} - --only-show-errors | gunzip | psql -X -q -v ON_ERROR_STOP=1 -d restored > psql.log",
    PSQL: "gunzip < bench.gz | psql -X -q -v ON_ERROR_STOP=1 -d restored > psql.log",
    PG_RESTORE: "pg_restore -j2 -d restored bench.dump",
    PARALLEL: "'{program}' restore {name} --create-db restored --jobs 2 --no-analyze --json > restored.json",
    "`restore --create-db --jobs 2`, with `ANALYZE`": "'{program}' restore {name} --create-db restored --jobs 2 --json > restored.json",
    "`restore --no-analyze`": "'{program}' restore {name} --no-analyze --json > restored.json",
}
FILE = {
    "`aws s3 cp - \\| gunzip > file`": "aws s3 cp s3://{key} - --only-show-errors | gunzip > restored.sql",
    "`gunzip` of a local file, for reference": "gunzip < bench.gz > restored.sql",
    "`restore --output`": "'{program}' restore {name} --output restored.sql --json > restored.json",
}


def here(name):
    return os.path.join(os.environ["BENCH_DIR"], name)


def store(database):
    """Stores a backup in S3 and in a file, and a dump in pg_dump's own format; the backup's key."""
    new_bucket()
    measure(ALL[OURS].command, database)
    measure("pg_dump -Fc > bench.dump", database)
    with open(here("result.json")) as file:
        key = json.load(file)["key"]
    measure("aws s3 cp s3://%s/%s bench.gz --only-show-errors" % (BUCKET, key), database)
    return key


def empty_target():
    """Removes what the last pipeline restored."""
    run("rm -f '%s' && PGOPTIONS='-c client_min_messages=warning' dropdb --if-exists restored" % here("restored.sql"))
    run("psql -X -q -c CHECKPOINT")


def check(command, database, dump):
    """Fails if a pipeline restored less than everything."""
    if "restored.sql" in command:
        found, expected = os.path.getsize(here("restored.sql")), dump
    else:
        count = "psql -X -A -t -d %s -c 'SELECT count(*) FROM shop.events' "
        found, expected = (run(count % name, output=True) for name in ("restored", database))
    if found != expected:
        fail("%s of %s restored: %s" % (found, expected, command))


def restore():
    database, dump = prepare(MIX)
    key = store(database)
    runs = {name: [] for name in list(DATABASE) + list(FILE)}
    for number in range(ROUNDS):
        for name, command in {**DATABASE, **FILE}.items():
            command = command.format(program=PROGRAM, key="%s/%s" % (BUCKET, key), name=key)
            if name in DATABASE and "--create-db" not in command:
                command = CREATE + command
            empty_target()
            result = measure(command, database)
            check(command, database, dump)
            runs[name].append(result)
            print("restore, round %d: %-56s %7.2f s" % (number + 1, name, result.wall), flush=True)
    empty_target()
    take(OURS)
    print("\n## Restore")
    describe("Kind of data: mix, %.0f MB of dump" % (dump / 1e6), ROUNDS)
    rows = medians(runs)
    for head, names in ("into a database", DATABASE), ("into a file", FILE):
        base = rows[next(iter(names))]
        table([head, "wall time", "CPU time", "memory"], [
            [name, ratio(rows[name][0], base[0]), ratio(rows[name][1], base[1]), "%.0f MiB" % (rows[name][3] / MIB)] for name in names])
    target("restore by two sessions, gunzip | psql = 1", rows[PARALLEL][0] / rows[PSQL][0], most=0.75)
    target("restore by two sessions, pg_restore -j2 = 1", rows[PARALLEL][0] / rows[PG_RESTORE][0], most=1)
