"""How long the notebook takes to read and to do: ``python tests/tools/minutes.py [FILE]``.

Counted are the words of the text (formulas, markup and addresses left out) at 180 a minute,
folded answers among them; 45 seconds for a displayed formula, 4 seconds for a line of code
that is shown, 2 minutes for a figure, 1 minute for a prediction, and for each exercise the
minutes below. The table under the title says what comes out here.
"""

import argparse
import re
from pathlib import Path

from notebooks import NOTEBOOK, figures, load, tags

EXERCISES = {"exercise-1-answer": 8, "exercise-2-answer": 6}  # minutes
TITLE, DEEPER, BREAK = "title", "deeper", "break"


def words(source):
    """Count the words of a text: no formula, no markup, no address."""
    text = re.sub(r"<style>.*?</style>", " ", source, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$|\$.*?\$|<.*?>|\]\(.*?\)", " ", text, flags=re.DOTALL)
    return len(re.findall(r"\w[\w'.-]*", text))


def minutes_of(cell):
    if cell.cell_type == "markdown":
        formulas = cell.source.count("$$") // 2
        predictions = len(re.findall(r"^\*\*Predict\.\*\*", cell.source, flags=re.MULTILINE))
        return words(cell.source) / 180 + 0.75 * formulas + predictions
    lines = [line for line in cell.source.splitlines() if line.strip()]
    if cell.id == "set-up" or cell.metadata.get("jupyter", {}).get("source_hidden"):
        lines = []
    return 2 * len(figures(cell.outputs)) + len(lines) * 4 / 60 + EXERCISES.get(cell.id, 0)


def part_of_each(cells):
    """Return for each cell its part: "title", "part-1", ..., or "deeper"."""
    part, parts = TITLE, []
    for cell in cells:
        if re.fullmatch(r"part-\d+", cell.id):
            part = cell.id
        parts.append(DEEPER if DEEPER in tags(cell) else part)
    return parts


def minutes(cells):
    """Return the minutes of each part, in the notebook's order."""
    total = {}
    for part, cell in zip(part_of_each(cells), cells):
        total[part] = total.get(part, 0) + minutes_of(cell)
    return total


def sittings(cells):
    """Return the minutes of the core before and after the cell ``break``."""
    core = [cell for cell in cells if DEEPER not in tags(cell)]
    (pause,) = (index for index, cell in enumerate(core) if cell.id == BREAK)
    return [sum(map(minutes_of, half)) for half in (core[:pause], core[pause:])]


def printed(cells):
    """Return the minutes that the title's table prints, as it prints them, in its order.

    A row is ``| 1. The faces | 6 | ... |``, and ``| Going deeper | +40 | ... |`` the last one.
    """
    (title,) = (cell.source for cell in cells if cell.id == TITLE)
    return re.findall(r"^\|[^|]*\| *(\+?\d+) *\|", title, flags=re.MULTILINE)


def to_print(cells):
    """Return what the title's table has to print."""
    total = minutes(cells)
    core = [f"{value:.0f}" for part, value in total.items() if part not in (TITLE, DEEPER)]
    return [*core, f"+{total[DEEPER]:.0f}"]


def main():
    parser = argparse.ArgumentParser(description="How long the notebook takes.")
    parser.add_argument("file", nargs="?", type=Path, default=NOTEBOOK)
    cells = load(parser.parse_args().file).cells
    for part, value in minutes(cells).items():
        print(f"{part:10} {value:5.1f}")
    core = sum(minutes([cell for cell in cells if DEEPER not in tags(cell)]).values())
    print(f"{'core':10} {core:5.1f}")
    if any(cell.id == BREAK for cell in cells):
        first, second = sittings(cells)
        print(f"{'sittings':10} {first:5.1f} {second:5.1f}")
    if printed(cells) != to_print(cells):
        print(f"the title prints {printed(cells)}, to print: {to_print(cells)}")


if __name__ == "__main__":
    main()
