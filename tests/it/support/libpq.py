"""libpq's own reading of connection strings, for a test that compares: a JSON string a line in, a JSON object a line out.

The answer: {"values": {keyword: text}} where libpq accepts it ({keyword: null} for a value that is not UTF-8), or
{"error": "..."}. The first line out, unasked: {"version": number, "keywords": [...]}.
"""
import ctypes
import json
import sys


class Option(ctypes.Structure):
    """PQconninfoOption of libpq-fe.h."""
    _fields_ = [(name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")]
    _fields_ += [("dispsize", ctypes.c_int)]


libpq = ctypes.CDLL("libpq.so.5")
libpq.PQconninfoParse.restype = libpq.PQconndefaults.restype = ctypes.POINTER(Option)
libpq.PQconninfoParse.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
libpq.PQconninfoFree.argtypes = [ctypes.POINTER(Option)]
libpq.PQfreemem.argtypes = [ctypes.c_void_p]


def options(first):
    index = 0
    while first[index].keyword is not None:
        yield first[index]
        index += 1


def text(value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def parse(conninfo):
    """As libpq's programs do: without `=` and scheme it is a database's name, not a connection string."""
    if "=" not in conninfo and not conninfo.startswith(("postgres://", "postgresql://")):
        return {"error": "not a connection string"}
    message = ctypes.c_void_p()
    parsed = libpq.PQconninfoParse(conninfo.encode(), ctypes.byref(message))
    if not parsed:
        error = ctypes.string_at(message.value).decode(errors="replace")
        libpq.PQfreemem(message)
        return {"error": error}
    values = {option.keyword.decode(): text(option.val) for option in options(parsed) if option.val is not None}
    libpq.PQconninfoFree(parsed)
    return {"values": values}


keywords = [option.keyword.decode() for option in options(libpq.PQconndefaults())]
print(json.dumps({"version": libpq.PQlibVersion(), "keywords": keywords}), flush=True)
for line in sys.stdin:
    print(json.dumps(parse(json.loads(line))), flush=True)
