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

A_WORD = 1 / 180  # minutes, as all that follow
A_FORMULA = 0.75
A_PREDICTION = 1
A_LINE = 4 / 60
A_FIGURE = 2
EXERCISES = {"exercise-1-answer": 8, "exercise-2-answer": 6}

NO_WORDS = re.compile(
    r"""<style>.*?</style>  # what is for printing only
    | \$\$.*?\$\$           # a displayed formula
    | \$.*?\$               # a formula in the text
    | <.*?>                 # markup
    | \]\(.*?\)             # an address""",
    re.VERBOSE | re.DOTALL,
)


def words(text):
    """Count the words of a text: no formula, no markup, no address."""
    text = NO_WORDS.sub(" ", text)
    return len(re.findall(r"\w[\w'.-]*", text))


def minutes_of(cell):
    return minutes_of_text(cell) if cell.cell_type == "markdown" else minutes_of_code(cell)


def minutes_of_text(cell):
    formulas = cell.source.count("$$") // 2
    predictions = re.findall(r"^\*\*Predict\.\*\*", cell.source, flags=re.MULTILINE)
    total = A_WORD * words(cell.source)
    total += A_FORMULA * formulas
    total += A_PREDICTION * len(predictions)
    return total


def minutes_of_code(cell):
    total = A_FIGURE * len(figures(cell.outputs))
    total += EXERCISES.get(cell.id, 0)
    folded = cell.metadata.get("jupyter", {}).get("source_hidden")
    if cell.id != "set-up" and not folded:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        total += A_LINE * len(lines)
    return total


def minutes(cells):
    """Return the minutes of each part: "title", "part-1", ..., "deeper"."""
    total = {}
    part = "title"
    for cell in cells:
        if re.fullmatch(r"part-\d+", cell.id):
            part = cell.id
        place = "deeper" if "deeper" in tags(cell) else part
        total[place] = total.get(place, 0) + minutes_of(cell)
    return total


def sittings(cells):
    """Return the minutes of the core before and after the cell ``break``."""
    core = [cell for cell in cells if "deeper" not in tags(cell)]
    ids = [cell.id for cell in core]
    pause = ids.index("break")
    first = sum(minutes_of(cell) for cell in core[:pause])
    second = sum(minutes_of(cell) for cell in core[pause:])
    return first, second


def printed(cells):
    """Return the minutes that the title's table prints, as it prints them, in its order.

    A row is ``| 1. The faces | 6 | ... |``, and ``| Going deeper | +40 | ... |`` the last one.
    """
    title = next(cell.source for cell in cells if cell.id == "title")
    return re.findall(r"^\|[^|]*\| *(\+?\d+) *\|", title, flags=re.MULTILINE)


def to_print(cells):
    """Return what the title's table has to print."""
    total = minutes(cells)
    deeper = total.pop("deeper")
    del total["title"]
    return [f"{value:.0f}" for value in total.values()] + [f"+{deeper:.0f}"]


def main():
    parser = argparse.ArgumentParser(description="Count how long the notebook takes.")
    where = "a notebook (default: the reference)"
    parser.add_argument("file", nargs="?", type=Path, default=NOTEBOOK, help=where)
    cells = load(parser.parse_args().file).cells
    total = minutes(cells)
    for part, value in total.items():
        print(f"{part:10} {value:5.1f}")
    core = sum(total.values()) - total.get("deeper", 0)
    print(f"{'core':10} {core:5.1f}")
    if any(cell.id == "break" for cell in cells):
        first, second = sittings(cells)
        print(f"{'sittings':10} {first:5.1f} {second:5.1f}")
    if "deeper" in total and printed(cells) != to_print(cells):
        print("the title prints", *printed(cells), "instead of", *to_print(cells))


if __name__ == "__main__":
    main()
