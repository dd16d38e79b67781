"""Make the students' version of the notebook: ``python tests/tools/handout.py [--core] [FILE]``.

Each solution becomes a TODO, outputs are cleared, and cells tagged ``answer`` are left
out: they show code that answers an exercise. With ``--core`` so are those tagged
``deeper``, and every line that links to one. Below each exercise a cell names what it
recognises in the answer; the judge comes along in a form that runs and is not for reading.
"""

import argparse
import re
import sys
from pathlib import Path

from nbformat.v4 import new_code_cell, new_markdown_cell
from notebooks import ROOT, blank, load, save, setup_source, tags

MARKING = ROOT / "tests" / "marking"
sys.path.insert(0, str(MARKING))

from exercises import EXERCISES  # noqa: E402

JUDGE = [MARKING / f"{name}.py" for name in ("exercises", "reasons", "judge", "caller")]
VERDICT = """\
# What your function does on a few small matrices: what is recognised, or what is wrong
import caller

print(caller.check({name}, "{name}"))"""

REFERENCE = "Reference copy: every exercise is completed."
STUDENTS = "Complete the two exercises marked **TODO**. The cell below each one checks your answer."
LEFT_OUT = "*Left out here: a part of the reference notebook that shows code like your answer's.*"


def handout(notebook, core=False):
    """Return the students' version of the reference notebook."""
    ids = {cell.get("id") for cell in notebook.cells}
    if missing := [id for id in needed() if id not in ids]:
        raise KeyError(
            f"the notebook has no cell with the id {' or '.join(missing)}. Some tools give every "
            "cell a new id (nbstripout does without --keep-id): take the notebook as it was before"
        )
    new = blank(notebook)
    left_out = [cell for cell in new.cells if "answer" in tags(cell)]
    if core:
        left_out += [cell for cell in new.cells if "deeper" in tags(cell)]
        new.cells = [cell for cell in new.cells if "deeper" not in tags(cell)]
    new.cells = with_verdicts(without_answers(new.cells))
    drop_links(new.cells, left_out)
    by_id = {cell.id: cell for cell in new.cells}
    by_id["title"].source = by_id["title"].source.replace(REFERENCE, STUDENTS)
    by_id["set-up"].source = setup_source(*JUDGE)
    for exercise in EXERCISES.values():
        by_id[f"{exercise.cell}-answer"].source = exercise.blank
    return new


def needed():
    return ["title", "set-up", *(f"{exercise.cell}-answer" for exercise in EXERCISES.values())]


def without_answers(cells):
    """Leave out the cells that show an answer; a sentence in each place says so."""
    kept = []
    for cell in cells:
        if "answer" not in tags(cell):
            kept.append(cell)
        elif kept[-1].source != LEFT_OUT:
            deeper = {"tags": ["deeper"]} if "deeper" in tags(cell) else {}
            note = new_markdown_cell(LEFT_OUT, id=f"before-{cell.id}", metadata=deeper)
            kept.append(note)
    return kept


def drop_links(cells, left_out):
    """Drop the lines of text that link to a cell that is left out."""
    links = [f"](#{place})" for cell in left_out for place in anchors(cell)]
    for cell in cells:
        if cell.cell_type == "markdown":
            lines = cell.source.split("\n")
            lines = [line for line in lines if not any(link in line for link in links)]
            cell.source = "\n".join(lines)


def anchors(cell):
    """Return what a link can name in a text cell: its headings, as Jupyter does, and its ids."""
    if cell.cell_type != "markdown":
        return []
    headings = re.findall(r"^#+ +(.*)", cell.source, flags=re.MULTILINE)
    headings = [heading.strip().replace(" ", "-") for heading in headings]
    return headings + re.findall(r'<\w+ id="([^"]*)"', cell.source)


def with_verdicts(cells):
    """Put a cell that checks the answer directly below each exercise."""
    names = {f"{exercise.cell}-answer": exercise for exercise in EXERCISES.values()}
    all_cells = []
    for cell in cells:
        all_cells.append(cell)
        if exercise := names.get(cell.id):
            source = VERDICT.format(name=exercise.name)
            all_cells.append(new_code_cell(source, id=f"{exercise.cell}-verdict"))
    return all_cells


def main():
    parser = argparse.ArgumentParser(description="Make the students' version of the notebook.")
    file = Path("week5_handout.ipynb")
    where = "where to write it (default: %(default)s); never overwritten"
    parser.add_argument("file", nargs="?", type=Path, default=file, help=where)
    parser.add_argument("--core", action="store_true", help="leave out what goes deeper")
    options = parser.parse_args()
    file = options.file.expanduser()
    if file.exists():
        sys.exit(f"{file} is there already: move it away, or name another file")
    if not file.parent.is_dir():
        sys.exit(f"there is no folder {file.parent}: make it first, or name another file")
    try:
        save(handout(load(), options.core), file)
    except KeyError as error:
        sys.exit(error.args[0])
    print(f"{file}: the students' version")


if __name__ == "__main__":
    main()
