"""Stores backups over a slow link: how much of it they use, and how small they become."""
import os

from . import settings
from .contenders import ALL, GZIP, OURS, is_ours, new_bucket, take
from .data import MIX, prepare
from .link import Link
from .machine import describe
from .measure import measure
from .settings import LATENCIES, LINK_MBYTES, ROUNDS
from .tables import code, medians, table, target

CONTENDERS = [OURS, "ours-zstd", GZIP, "zstd"]
LEAST_USE = 90


def slow_link():
    database, dump = prepare(MIX)
    wanted = settings.words("CONTENDERS", list(ALL))
    names = [name for name in CONTENDERS if name in wanted]
    print("\n## Backup: a slow link")
    for latency in LATENCIES:
        runs, levels = {name: [] for name in names}, {}
        with Link(os.environ["S3_URL"], LINK_MBYTES * 1e6, latency) as link:
            for number in range(ROUNDS):
                for name in names:
                    row, levels[name] = one(name, database, link)
                    runs[name].append(row)
                    print("%d ms, round %d: %-44s %7.2f s" % (latency, number + 1, ALL[name].title, row[0]), flush=True)
        report(latency, dump, medians(runs), levels)


def one(name, database, link):
    """Wall seconds, link use while parts are sent and of the run in %, stored bytes; and the levels used."""
    new_bucket()
    link.take()
    wall = measure(ALL[name].command, database, url=link.url).wall
    carried = link.take()
    size, result = take(name)
    rate = LINK_MBYTES * 1e6
    used = 100 * carried["bytes"] / rate
    return (wall, used / max(carried["seconds"], 0.001), used / wall, size), result.get("compression_levels", [])


def report(latency, dump, rows, levels):
    describe("A link of %g MB/s with a round trip of %d ms, %.0f MB of dump" % (LINK_MBYTES, latency, dump / 1e6), ROUNDS)
    table(["", "wall", "link used while it sends", "link used, complete run", "stored", "levels"], [
        [code(ALL[name].title), "%.1f s" % wall, "%.0f %%" % sending, "%.0f %%" % complete, "%.1f MB" % (size / 1e6),
         ", ".join(map(str, levels[name])) or "-"]
        for name, (wall, sending, complete, size) in rows.items()])
    for name, row in rows.items():
        if is_ours(name):
            target("%s at %d ms: %% of the link used while it sends" % (ALL[name].title, latency), row[1], least=LEAST_USE)
            target("%s at %d ms: levels used" % (ALL[name].title, latency), len(levels[name]), least=2)
