"""Make the students' version of the notebook: ``python tests/handout.py [FILE]``.

Each solution becomes a TODO, outputs are cleared, and cells tagged ``answer`` are left
out: they show code that answers an exercise. The checks stay. The module comes along
in a form that runs and is not for reading.
"""

import base64
import re
import sys
import textwrap
import zlib
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell
from rebuild import MODULE, load

TODO = {  # with something that runs, so that the rest of the notebook does
    "exercise-1-answer": ["# TODO: calculate E, and update P and Q", "..."],
    "exercise-2-answer": ["# TODO: calculate Pu and Qu", "Pu, Qu = P, Q"],
}

SETUP = '''\
# @title Set-up: puts the module mf_solutions in place
import base64
import importlib.util
import sys
import types
import zlib

MODULE = """
%s
"""

if "mf_solutions" not in sys.modules and importlib.util.find_spec("mf_solutions") is None:
    mf_solutions = types.ModuleType("mf_solutions")
    exec(zlib.decompress(base64.b64decode(MODULE)), mf_solutions.__dict__)
    sys.modules["mf_solutions"] = mf_solutions'''

REFERENCE = "Reference copy: every exercise is completed."
STUDENTS = "Complete the two exercises marked **TODO**. The cell below each checks your answer."
LEFT_OUT = "*Left out here: a part of the reference notebook that shows code like your answer's.*"


def handout(notebook):
    """Return the students' version of the reference notebook."""
    new = nbformat.from_dict(notebook)
    cells = []
    for cell in new.cells:
        if "answer" in cell.metadata.get("tags", []):
            if cells[-1].source != LEFT_OUT:
                cells.append(new_markdown_cell(LEFT_OUT, id=f"before-{cell.id}"))
            continue
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
    new.cells = cells
    by_id = {cell.id: cell for cell in cells}
    by_id["title"].source = by_id["title"].source.replace(REFERENCE, STUDENTS)
    by_id["set-up"].source = SETUP % packed(MODULE.read_text(encoding="utf-8"))
    for id, todo in TODO.items():
        by_id[id].source = blanked(by_id[id].source, todo)
    return new


def packed(text):
    """Return the text in base64, compressed."""
    code = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return "\n".join(textwrap.wrap(code, 100))


def blanked(source, todo):
    """Put these lines in the place of the solution."""
    marks = r"^( *)# BEGIN SOLUTION$.*?^ *# END SOLUTION$"
    return re.sub(marks, "\n".join(rf"\1{line}" for line in todo), source, flags=re.M | re.S)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "week5_handout.ipynb")
    if target.exists():
        sys.exit(f"{target} is there already: move it away, or name another file")
    nbformat.write(handout(load()), target)
    sys.stdout.write(f"{target}: the students' version\n")
