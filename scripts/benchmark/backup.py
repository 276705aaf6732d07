"""Stores backups side by side: on one machine, with the server elsewhere, and with half a core."""
from . import settings
from .contenders import ALL, BASE, GZIP, OURS, OURS_AGE, is_ours, new_bucket, new_identity, take
from .data import KINDS, MIX, prepare
from .limits import HalfCore, OneCore
from .machine import describe
from .measure import measure
from .settings import MIB, ROUNDS
from .tables import code, medians, ratio, table, target

HEADS = ["wall time, `pg_dump` alone = 1", "CPU time, `pg_dump` alone = 1", "CPU time without `pg_dump`, `gzip` = 1",
         "memory without `pg_dump`", "stored, `gzip` = 1"]
MOST_WALL = 1.25
HALF_CORE = [OURS, "ours-zstd", "gzip-1", "igzip"]


def compare(names, kind, limit=None):
    """Runs each contender in each round; the medians of wall, CPU, CPU without pg_dump, memory and stored bytes."""
    database, dump = prepare(kind)
    if OURS_AGE in names:
        new_identity()
    runs = {name: [] for name in names}
    for number in range(ROUNDS):
        for name in names:
            new_bucket()
            settings.run("psql -X -q -c CHECKPOINT")
            result = measure(ALL[name].command, database, limit=limit)
            size, _ = take(name, dump if number == 0 else None)
            runs[name].append(result + (size,))
            print("%s, round %d: %-44s %7.2f s" % (kind, number + 1, ALL[name].title, result.wall), flush=True)
    return dump, medians(runs)


def report(found, title):
    """The medians, the README's table, and ours against each rival."""
    dump, rows = found
    describe("%s, %.0f MB of dump" % (title, dump / 1e6), ROUNDS)
    table(["medians", "wall", "CPU", "CPU without `pg_dump`", "memory", "stored"], [
        [code(ALL[name].title), "%.2f s" % wall, "%.2f s" % cpu, "%.2f s" % own, "%.0f MiB" % (memory / MIB), "%.1f MB" % (size / 1e6)]
        for name, (wall, cpu, own, memory, size) in rows.items()])
    nothing = [0] * 5
    base, gzip, ours = (rows.get(name, nothing) for name in (BASE, GZIP, OURS))
    table([""] + HEADS, [
        [code(ALL[name].title), ratio(wall, base[0]), ratio(cpu, base[1]), "in `pg_dump`" if name == "custom" else ratio(own, gzip[2]),
         "%.0f MiB" % (memory / MIB), ratio(size, gzip[4])]
        for name, (wall, cpu, own, memory, size) in rows.items() if name != BASE])
    if OURS in rows:
        table(["`pg-s3-backup backup` takes, where this takes 1", "wall", "CPU", "CPU without `pg_dump`", "memory", "stored"], [
            [code(ALL[name].title)] + [ratio(mine, theirs) for mine, theirs in zip(ours, row)]
            for name, row in rows.items() if name not in (BASE, OURS)])


def kinds_table(found):
    """Wall time and stored size of each kind of data, in one table."""
    kinds = [kind for kind, (_, rows) in found.items() if BASE in rows]
    names = [name for name in ALL if name != BASE and kinds and all(name in found[kind][1] for kind in kinds)]
    if len(kinds) < 2 or not names:
        return
    cells = []
    for name in names:
        cells.append([code(ALL[name].title)])
        for kind in kinds:
            rows = found[kind][1]
            cells[-1].append("%s, %s" % (ratio(rows[name][0], rows[BASE][0]), ratio(rows[name][4], rows[GZIP][4] if GZIP in rows else 0)))
    print("\nBy kind of data: wall time (`pg_dump` alone = 1), stored (`gzip` = 1):")
    table([""] + kinds, cells)


def backup():
    """Everything on one machine, for each kind of data."""
    found = {}
    names = settings.words("CONTENDERS", list(ALL))
    for kind in settings.words("KINDS", KINDS):
        found[kind] = compare(names, kind)
        print("\n## Backup: " + kind)
        report(found[kind], "Kind of data: " + kind)
        judge(found[kind][1], kind)
    kinds_table(found)


def judge(rows, kind):
    ours = [name for name in ("ours", "ours-zstd") if name in rows]
    if kind == MIX and BASE in rows:
        for name in ours:
            target("%s: wall time, pg_dump alone = 1" % ALL[name].title, rows[name][0] / rows[BASE][0], most=MOST_WALL)
    if kind == MIX and OURS in rows and OURS_AGE in rows:
        target("%s: wall time, without encryption = 1" % ALL[OURS_AGE].title, rows[OURS_AGE][0] / rows[OURS][0], most=1.05)
    if GZIP in rows and OURS in rows:
        target("stored, gzip = 1", rows[OURS][4] / rows[GZIP][4], most=1.08 if kind == MIX else 1.2)
        if kind == MIX:
            target("CPU without pg_dump, gzip = 1", rows[OURS][2] / rows[GZIP][2], most=0.15)
    if kind == MIX and OURS in rows:
        for name, least in ((GZIP, 5), ("pigz", 3), ("igzip", 1), ("zstd", 1), ("rclone", 1)):
            if name in rows:
                times(name, rows, least)
    if kind == MIX and "ours-gzip-6" in rows and "pigz" in rows:
        target("level 6: wall time, pigz = 1", rows["ours-gzip-6"][0] / rows["pigz"][0], most=0.75)


def times(name, rows, least):
    """How many times as fast as a rival. pg_dump alone bounds that: of some data it takes most of the time."""
    possible = rows[name][0] / rows[BASE][0] / MOST_WALL if BASE in rows else least
    target("times as fast as " + ALL[name].title, rows[name][0] / rows[OURS][0], least=min(least, possible))


def elsewhere():
    """The server on one core, the pipeline on another."""
    with OneCore() as limit:
        found = compare(settings.words("CONTENDERS", list(ALL)), MIX, limit)
    print("\n## Backup: the server elsewhere, one core each")
    report(found, "PostgreSQL on one core, the pipeline on another, S3 %s" % (
        "with the pipeline" if len(limit.all) == 2 else "on the others"))
    for name, row in found[1].items():
        if BASE in found[1] and is_ours(name) and name not in ("ours-gzip-6", OURS_AGE):
            target("%s: wall time, pg_dump alone = 1" % ALL[name].title, row[0] / found[1][BASE][0], most=1.05)


def half_core():
    """The pipeline with pg_dump on half a core."""
    wanted = settings.words("CONTENDERS", list(ALL))
    with HalfCore() as limit:
        dump, rows = compare([name for name in HALF_CORE if name in wanted], MIX, limit)
    print("\n## Backup: half a core")
    describe("The pipeline with `pg_dump` has half a core, %.0f MB of dump" % (dump / 1e6), ROUNDS)
    table(["", "wall", "CPU", "memory", "stored"], [
        [code(ALL[name].title), "%.2f s" % wall, "%.2f s" % cpu, "%.0f MiB" % (memory / MIB), "%.1f MB" % (size / 1e6)]
        for name, (wall, cpu, _, memory, size) in rows.items()])
    if OURS in rows and "gzip-1" in rows:
        target("times as fast as " + ALL["gzip-1"].title, rows["gzip-1"][0] / rows[OURS][0], least=3)
