"""Write the table of marks and a page for each student. What students wrote stays plain text."""

import csv
import html
import itertools
import os
import re
import unicodedata
from typing import NamedTuple

from exercises import EXERCISES
from judge import Verdict

COLUMNS = ["student"]
for number in range(1, len(EXERCISES) + 1):
    COLUMNS += [f"exercise {number}", f"label {number}", f"remark {number}"]

ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)")  # of terminals
JOINERS = "\u200c\u200d"  # which Persian and Indian names need
FORMULA = tuple("=+-@'＝＋－＠")  # what a spreadsheet takes for one, and the sign against it
LINES, LINE = 500, 200  # how much of an answer is shown


class Lines(NamedTuple):
    """Lines of what was handed in, as the page shows them."""

    file: str
    place: int  # of the cell in its file
    first: int  # line of the cell
    text: list
    marked: int = 0  # the line where an exception was raised


class Result(NamedTuple):
    """What became of one exercise."""

    verdict: Verdict
    source: list = []  # of Lines


def cut_out(cells, source, marked):
    """Return the Lines of these cells that are judged: places ``(cell, first, last)``.

    Where Python could not read a cell, that cell is shown. The process of the answer has told the
    places, so they may be anything.
    """
    pieces = []
    try:
        in_cell, at_line = marked or (None, 0)
        for number, first, last in source or [(in_cell, 1, LINES)] * bool(marked):
            file, place, text = cells[number]
            lines = text.splitlines()[first - 1 : last]
            own = at_line if number == in_cell else 0
            pieces.append(Lines(file, place, first, lines, own))
    except (TypeError, ValueError, IndexError):
        return []
    return pieces


# ---- Text


def plain(text, longest=400):
    """Return a text on one line, without anything that moves the cursor or turns the writing."""
    letters = []
    for letter in ESCAPE.sub("", str(text)[: 4 * longest].expandtabs(4)):
        invisible = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs")
        letters.append(" " if invisible and letter not in JOINERS else letter)
    text = "".join(letters).rstrip()
    return text if len(text) <= longest else text[: longest - 3] + "..."


def sentence(text, longest=400):
    """Return plain text with single spaces."""
    return plain(" ".join(plain(text, 4 * longest).split()), longest)


def cut(name, longest=44):
    """Shorten a name in the middle: folders differ at the start, files at the end."""
    return name if len(name) <= longest else f"{name[: longest - 20]}...{name[-17:]}"


def distinct(names):
    """Yield the names, with a number where there is one already, also on other systems' disks."""
    taken = set()
    for name in names:
        again = (f"{name} ({number})" for number in itertools.count(2))
        for candidate in itertools.chain([name], again):
            key = unicodedata.normalize("NFKC", candidate).casefold()
            if key not in taken:
                break
        taken.add(key)
        yield candidate


# ---- The table


def harmless(cell):
    """Have a spreadsheet take a text for a text, whatever it begins with."""
    return "'" + cell if cell.lstrip().startswith(FORMULA) else cell


def write_table(path, rows):
    """Put a whole table in the place of an older one, which stays until then."""
    beside = path.with_name(path.name + ".new")
    with beside.open("w", newline="", encoding="utf-8-sig") as file:  # the mark is for Excel
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([harmless(cell) for cell in row])
    os.replace(beside, path)


def read_table(path):
    """Return the rows of an older table by student; refuse any other file."""
    if not path.exists():
        return {}
    if not path.is_file():  # but a folder or a terminal
        raise ValueError(f"{path}: expected a new file or an older table of marks")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first, *rows = list(csv.reader(file)) or [COLUMNS]
    except (OSError, UnicodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if first != COLUMNS:
        raise ValueError(
            f"{path}: expected a new file or an older table of marks, but the first line there "
            f"is {sentence(','.join(first), 80)!r}. Give another name, or move that file away"
        )
    rows = [[cell.removeprefix("'") for cell in row] for row in rows]
    return {row[0]: row for row in rows if len(row) == len(COLUMNS)}


# ---- The page

STYLE = r"""
:root { color-scheme: light dark; --good: #1a7f37; --bad: #b42318; --open: #6b5900;
  --soft: #f3f4f6; --rule: #d0d4da; --quiet: #57606a; --line: #fff1b8; }
@media (prefers-color-scheme: dark) { :root { --good: #56d364; --bad: #ff8b82; --open: #e3b341;
  --soft: #22262d; --rule: #444c56; --quiet: #a0a8b3; --line: #544610; } }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 48rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; padding-top: 1rem;
  border-top: 1px solid var(--rule); }
h2 code { overflow-wrap: anywhere; }
p { overflow-wrap: anywhere; }
.verdict { font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
.quiet { color: var(--quiet); font-size: .875rem; margin: 1rem 0 .25rem; }
table { border-collapse: collapse; }
th, td { border-bottom: 1px solid var(--rule); padding: .25rem .75rem .25rem 0; text-align: left; }
td + td, th + th { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--soft); border-radius: .375rem; padding: .5rem 0; margin: 0;
  font: .8125rem/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
pre span { display: block; position: relative; padding: 0 .5rem 0 3.25rem; min-height: 1.45em; }
pre span::before { content: attr(data-line); position: absolute; left: 0; width: 2.5rem;
  text-align: right; color: var(--quiet); }
pre .marked { background: var(--line); }
pre .marked::before { content: "\25b6\a0" attr(data-line); }
"""
HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
<h1>{title}</h1>
"""
SIGNS = {"correct": "good", "correct, with a note": "good", "wrong": "bad"}


def page_names(students):
    """Return a file name for each student, which every disk takes."""
    names = []
    for student in students:
        name = re.sub(r"[^\w.()-]+", "_", student).lstrip(".-_")
        names.append(name.encode()[:120].decode(errors="ignore") or "student")
    return {student: f"{name}.html" for student, name in zip(students, distinct(names))}


def page(student, results):
    """Return a page with the verdicts, and with what was judged."""
    parts = [HEAD.format(title=html.escape(student), style=STYLE)]
    for number, (name, result) in enumerate(zip(EXERCISES, results), 1):
        verdict = result.verdict
        sign = SIGNS.get(verdict.kind, "open")
        label = f": {verdict.label}" if verdict.label else ""
        parts.append(f"<h2>Exercise {number}: <code>{name}</code></h2>\n")
        parts.append(f'<p class="verdict {sign}">{html.escape(verdict.kind + label)}</p>\n')
        parts.append(f"<p>{html.escape(verdict.text[:1].upper() + verdict.text[1:])}</p>\n")
        if verdict.places:
            parts.append(places_table(verdict.places))
        if result.source:
            parts += source_lines(result.source)
    return "".join(parts)


def places_table(places):
    """Return where the answer and the update first differ."""
    rows = ["<table>\n<tr><th>entry<th>yours<th>the update's\n"]
    for entry, yours, update in places:
        numbers = "".join(f"<td>{text}" for text in told_apart(yours, update))
        rows.append(f"<tr><td>{html.escape(sentence(entry, 100))}{numbers}\n")
    return "".join([*rows, "</table>\n"])


def told_apart(*numbers):
    """Return the numbers with as many digits as show that they differ."""
    for digits in (4, 6, 9, 17):
        texts = [html.escape(format(float(number), f".{digits}g")) for number in numbers]
        if len(set(texts)) > 1:
            break
    return texts


def source_lines(source):
    """Yield the lines that were judged, with their numbers in the cells of the notebook."""
    left = LINES
    for piece in source:
        if not left:
            break
        where = sentence(piece.file, 100)
        if not (where.endswith(".py") and piece.place == 1):
            where += f", cell {piece.place}"
        yield f'<p class="quiet">{html.escape(where)}</p>\n<pre>'
        for number, line in enumerate(piece.text[:left], piece.first):
            marked = ' class="marked"' if number == piece.marked else ""
            yield f'<span data-line="{number}"{marked}>{html.escape(plain(line, LINE))}</span>'
        yield "</pre>\n"
        left -= min(left, len(piece.text))
    if not left:
        yield '<p class="quiet">... and more</p>\n'


def write_page(path, student, results):
    path.write_text(page(student, results), encoding="utf-8")
