"""What a pipeline may use of the processors: one core of its own, or half a core."""
import os
import subprocess

from . import settings


class OneCore:
    """PostgreSQL on the first core, as on a machine of its own, the pipeline on the last, the S3 server on the others.

    With two cores the S3 server shares the pipeline's: beside PostgreSQL it would slow down the server that is elsewhere.
    """

    prefix = []

    def __init__(self):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            settings.fail("'elsewhere' needs two cores")
        self.all, self.core = set(cores), {cores[-1]}
        self.servers = {"postgres": {cores[0]}, "s3": set(cores[1:-1]) or self.core}

    def __enter__(self):
        for name, cores in self.servers.items():
            pin(name, cores)
        os.sched_setaffinity(0, set.union(*self.servers.values()))
        return self

    def enter(self):
        os.sched_setaffinity(0, self.core)

    def __exit__(self, *_):
        os.sched_setaffinity(0, self.all)
        for name in self.servers:
            pin(name, self.all)


def pin(server, cores):
    """Moves all threads of a server. PostgreSQL's later backends inherit it."""
    files = {"postgres": ["postgres"], "s3": ["s3", "volume"]}[server]
    found = []
    for directory in os.environ["SERVER_DIRS"].split(":"):
        for name in files:
            path = os.path.join(directory, name + ".pid")
            if os.path.exists(path):
                with open(path) as file:
                    found.append(file.read().split()[0])
    children = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as file:
                children.setdefault(file.read().rpartition(")")[2].split()[1], []).append(pid)
        except OSError:
            pass  # it has just ended
    if not found:
        settings.fail("there is no process of the %s server" % server)
    for pid in found + [child for parent in found for child in children.get(parent, [])]:
        for thread in os.listdir("/proc/%s/task" % pid):
            os.sched_setaffinity(int(thread), cores)


class HalfCore:
    """Half a core, by cgroup 2, else cgroup 1, else systemd. All of them need root or a delegated group."""

    def __init__(self):
        self.prefix, self.group = [], None

    def __enter__(self):
        for root, file, value in (("/sys/fs/cgroup", "cpu.max", "50000 100000"), ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "50000")):
            group = os.path.join(root, "pg-s3-backup-bench")
            try:
                os.makedirs(group, exist_ok=True)
                with open(os.path.join(group, file), "r+") as quota:
                    quota.write(value)
                self.group = group
                return self
            except OSError:
                if os.path.isdir(group):
                    os.rmdir(group)
        self.prefix = ["systemd-run", "--scope", "--quiet", "--collect", "-p", "CPUQuota=50%", "--"]
        try:
            if subprocess.run(self.prefix + ["true"], stderr=subprocess.DEVNULL).returncode == 0:
                return self
        except OSError:
            pass
        settings.fail("'half-core' needs a cgroup: run it as root where /sys/fs/cgroup is writable, or under systemd")

    def enter(self):
        if self.group:
            with open(os.path.join(self.group, "cgroup.procs"), "w") as file:
                file.write(str(os.getpid()))

    def __exit__(self, *_):
        if self.group:
            os.rmdir(self.group)
