"""Markdown tables, medians, ratios, and whether targets are met."""
import statistics

from .settings import SCALE

MISSED = []


def medians(runs):
    """Of the rows of each name, the median of each column."""
    return {name: [statistics.median(column) for column in zip(*rows)] for name, rows in runs.items()}


def code(text):
    """Text as code in a cell."""
    return "`%s`" % text.replace("|", "\\|")


def table(heads, rows):
    """Prints a table; the first column is a name."""
    print("\n| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def ratio(one, other):
    if not other:
        return "-"
    value = one / other
    return ("%.1f" if value >= 10 else "%.2f") % value


def target(what, value, most=None, least=None):
    """Says whether a value is as the specification has it; at full scale, a run with a missed one fails."""
    is_met = (most is None or value <= most) and (least is None or value >= least)
    bound = "at most %g" % most if most is not None else "at least %g" % least
    line = "%s: %.3g (%s)" % (what, value, bound)
    print(("met: " if is_met else "MISSED: ") + line, flush=True)
    if not is_met and SCALE >= 1:
        MISSED.append(line)
