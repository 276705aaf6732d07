"""Runs a pipeline and measures it.

Wall time is from its start to the end of its last process. CPU time is that of all its processes, without the servers;
pg_dump's part of it is read every 20 ms while it runs, so it lacks at most the last of them. Memory is the sum of the
processes' own peaks (VmHWM, read as often) without pg_dump, psql and the shell, which all pipelines use.
"""
import collections
import os
import subprocess
import threading
import time

from . import settings

NOT_COUNTED = {"pg_dump", "psql", "bash"}
INTERVAL = 0.02
TICKS = os.sysconf("SC_CLK_TCK")
# cpu is with pg_dump, own_cpu without.
Run = collections.namedtuple("Run", "wall cpu own_cpu memory")


class Watch(threading.Thread):
    """Looks at every process of a session."""

    def __init__(self, session):
        super().__init__(daemon=True)
        self.session, self.ended = session, threading.Event()
        self.names, self.peaks, self.cpu, self.others = {}, {}, {}, set()

    def run(self):
        looks = 0
        while not self.ended.wait(INTERVAL):
            looks += 1
            if looks % 50 == 0:
                self.others.clear()  # a number may be used again
            for pid in os.listdir("/proc"):
                if pid.isdigit() and pid not in self.others:
                    try:
                        self.look(pid)
                    except (OSError, ValueError, IndexError):
                        pass  # it has just ended

    def look(self, pid):
        with open("/proc/%s/stat" % pid) as file:
            fields = file.read().rpartition(")")[2].split()
        if int(fields[3]) != self.session:
            self.others.add(pid)
            return
        with open("/proc/%s/status" % pid) as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        self.names[pid] = lines["Name"].strip()
        self.cpu[pid] = (int(fields[11]) + int(fields[12])) / TICKS
        if "VmHWM" in lines:
            self.peaks[pid] = int(lines["VmHWM"].split()[0]) * 1024

    def sum(self, values, is_wanted):
        return sum(value for pid, value in values.items() if is_wanted(self.names[pid]))


def measure(command, database, url=None, limit=None):
    """Runs a pipeline in the shell, with an environment, within a limit (limits.py)."""
    call = ["bash", "-o", "pipefail", "-c", command]
    if limit:
        call = limit.prefix + call
    began = time.monotonic()
    child = subprocess.Popen(call, env=settings.environment(database, url), stdin=subprocess.DEVNULL,
                             cwd=os.environ["BENCH_DIR"], start_new_session=True, preexec_fn=limit.enter if limit else None)
    watch = Watch(child.pid)
    watch.start()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    watch.ended.set()
    watch.join()
    if status:
        settings.fail("this failed: " + command)
    cpu = usage.ru_utime + usage.ru_stime
    pg_dump = watch.sum(watch.cpu, lambda name: name == "pg_dump")
    memory = watch.sum(watch.peaks, lambda name: name not in NOT_COUNTED)
    return Run(wall, cpu, max(0, cpu - pg_dump), memory)
