"""A link to the S3 server with a bandwidth, which all connections share, and a latency.

Run as a program it is a TCP relay: link.py HOST PORT BYTES_PER_SECOND ROUND_TRIP_MS. It prints its port, then for each line
on its stdin what the link has carried since the last one, as JSON. The link has a queue of 50 ms, as routers have. A byte
takes its place on the link after those before it, and arrives half a round trip later; answers have the same latency and
no bandwidth. Windows are as large as they need to be: no slow start is modelled.
"""
import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.parse

CHUNK = 16 << 10
QUEUE_SECONDS = 0.05


class Relay:
    def __init__(self, upstream, rate, latency):
        self.upstream, self.rate, self.latency = upstream, rate, latency
        self.free, self.carried, self.first, self.last = 0.0, 0, None, None

    def account(self, count):
        """When these bytes have left."""
        now = time.monotonic()
        began = max(now, self.free)
        self.free = began + count / self.rate
        self.carried += count
        if count == CHUNK:  # of a part: all else is smaller
            self.first = began if self.first is None else self.first
            self.last = self.free
        return self.free

    def take(self):
        """What it carried since the last call."""
        seconds = self.last - self.first if self.first is not None else 0
        found = {"bytes": self.carried, "seconds": seconds}
        self.carried, self.first, self.last = 0, None, None
        return found

    async def serve(self, reader, writer):
        try:
            answers, requests = await asyncio.open_connection(*self.upstream)
        except OSError:
            writer.close()
            return
        for stream in writer, requests:
            stream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(self.carry(reader, requests, self.account), self.carry(answers, writer, None))

    async def carry(self, reader, writer, account):
        """One direction: what arrives is written in order, each chunk when it is due."""
        due = asyncio.Queue()
        delivery = asyncio.ensure_future(self.deliver(due, writer))
        try:
            while True:
                chunk = await reader.read(CHUNK)
                left = account(len(chunk)) if account and chunk else time.monotonic()
                due.put_nowait((left + self.latency, chunk))
                if not chunk:
                    break
                # The sender's next bytes wait while the queue is full.
                await asyncio.sleep(max(0, left - QUEUE_SECONDS - time.monotonic()))
        except OSError:
            due.put_nowait((0, b""))
        await delivery

    async def deliver(self, due, writer):
        try:
            while True:
                at, chunk = await due.get()
                await asyncio.sleep(max(0, at - time.monotonic()))
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        writer.close()


async def main(host, port, rate, round_trip):
    relay = Relay((host, int(port)), float(rate), float(round_trip) / 2000)
    listener = socket.socket()
    # With the usual buffer the kernel would take megabytes at once.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * CHUNK)
    listener.bind(("127.0.0.1", 0))
    await asyncio.start_server(relay.serve, sock=listener, limit=CHUNK)
    print(listener.getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(relay.take()), flush=True)


class Link:
    """The relay in a process of its own."""

    def __init__(self, url, rate, round_trip):
        target = urllib.parse.urlsplit(url)
        call = [sys.executable, __file__, target.hostname, str(target.port), str(rate), str(round_trip)]
        self.relay = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.url = "http://127.0.0.1:%d" % int(self.relay.stdout.readline())

    def take(self):
        self.relay.stdin.write(b"\n")
        self.relay.stdin.flush()
        return json.loads(self.relay.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.relay.stdin.close()
        self.relay.kill()
        self.relay.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
