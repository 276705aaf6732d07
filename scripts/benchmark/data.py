"""The databases: one for each kind of data. SCALE 1 makes 750 MB of the mix, 250 MB of each other kind."""
import os

from . import settings
from .settings import run

# The mix is the demo's shop with its indexes and foreign keys.
MIX = "mix"
KINDS = ["text", "json", "numbers", "incompressible", MIX]
# demo-data.sql makes 60 MB at its scale of 1.
MIX_SCALE = 12.4


def prepare(kind, scale=None):
    """Makes the database of a kind, unless it is there; the bytes of its dump. One of another scale is another database."""
    name = "bench_" + kind + ("" if scale is None else "_scaled")
    if run("psql -XAtc \"SELECT count(*) FROM pg_database WHERE datname = '%s'\"" % name, output=True) == "0":
        file, scale = os.path.join(settings.SCRIPTS, "benchmark/data", kind + ".sql"), scale or settings.SCALE
        if kind == MIX:
            file, scale = os.path.join(settings.SCRIPTS, "demo-data.sql"), max(1, round(MIX_SCALE * scale))
        print("Making the data: %s ..." % kind, flush=True)
        run("createdb -T template0 " + name)
        run("psql -X -q -v ON_ERROR_STOP=1 -v scale=%s -f '%s' -o /dev/null" % (scale, file), name)
        run("psql -X -q -c 'VACUUM ANALYZE' -c CHECKPOINT", name)
    return name, int(run("pg_dump | wc -c", name, output=True))
