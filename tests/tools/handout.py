"""Make the students' version of the notebook: ``python tests/tools/handout.py [--core] [FILE]``.

Each solution becomes a TODO, outputs are cleared, and cells tagged ``answer`` are left
out: they show code that answers an exercise. With ``--core`` so are those tagged
``deeper``, for a lab of an hour. Below each exercise a cell names what it recognises in
the answer. The modules come along in a form that runs and is not for reading.
"""

import argparse
import base64
import re
import sys
import textwrap
import zlib
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell
from rebuild import MODULE, ROOT, load

JUDGE = [ROOT / "tests" / "marking" / "judge.py", ROOT / "tests" / "marking" / "caller.py"]
TODO = {  # with something that runs, so that the rest of the notebook does
    "exercise-1": ["# TODO: calculate E, and update P and Q", "..."],
    "exercise-2": ["# TODO: calculate Pu and Qu", "Pu, Qu = P, Q"],
}
VERDICTS = {
    "exercise-1": "caller.check(matrix_factorization, gradient=True)",
    "exercise-2": "caller.check(mf_multiplicative_update, gradient=False)",
}
VERDICT = """\
# What your function does on a few small matrices: what is recognised, or what is wrong
import caller

print(%s)"""

SETUP = '''\
# @title Set-up: puts the module mf_solutions in place, and what checks the answers
import base64
import importlib.util
import sys
import types
import zlib


def unpack(name, code):
    module = sys.modules[name] = types.ModuleType(name)
    exec(zlib.decompress(base64.b64decode(code)), module.__dict__)


if "mf_solutions" not in sys.modules and importlib.util.find_spec("mf_solutions") is None:
    unpack("mf_solutions", """
%s
""")
unpack("judge", """
%s
""")
unpack("caller", """
%s
""")'''

REFERENCE = "Reference copy: every exercise is completed."
STUDENTS = "Complete the two exercises marked **TODO**. The cells below each check your answer."
LEFT_OUT = "*Left out here: a part of the reference notebook that shows code like your answer's.*"


def handout(notebook, core=False):
    """Return the students' version of the reference notebook."""
    new = nbformat.from_dict(notebook)
    cells = []
    for cell in new.cells:
        tags = cell.metadata.get("tags", [])
        if core and "deeper" in tags:
            continue
        if "answer" in tags:
            if cells[-1].source != LEFT_OUT:
                cells.append(new_markdown_cell(LEFT_OUT, id=f"before-{cell.id}"))
            continue
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
        exercise = cell.id.removesuffix("-check")
        if exercise != cell.id and exercise in VERDICTS:
            cells.append(new_code_cell(VERDICT % VERDICTS[exercise], id=f"{exercise}-verdict"))
    new.cells = cells
    by_id = {cell.id: cell for cell in cells}
    by_id["title"].source = by_id["title"].source.replace(REFERENCE, STUDENTS)
    by_id["set-up"].source = SETUP % tuple(map(packed, [MODULE, *JUDGE]))
    for exercise, todo in TODO.items():
        answer = by_id[f"{exercise}-answer"]
        answer.source = blanked(answer.source, todo)
    return new


def packed(path):
    """Return the text of a file in base64, compressed."""
    code = base64.b64encode(zlib.compress(path.read_bytes(), 9)).decode()
    return "\n".join(textwrap.wrap(code, 100))


def blanked(source, todo):
    """Put these lines in the place of the solution."""
    marks = r"^( *)# BEGIN SOLUTION$.*?^ *# END SOLUTION$"
    return re.sub(marks, "\n".join(rf"\1{line}" for line in todo), source, flags=re.M | re.S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the students' version of the notebook.")
    parser.add_argument("file", nargs="?", type=Path, default=Path("week5_handout.ipynb"))
    parser.add_argument("--core", action="store_true", help="leave out what goes deeper")
    options = parser.parse_args()
    if options.file.exists():
        sys.exit(f"{options.file} is there already: move it away, or name another file")
    nbformat.write(handout(load(), options.core), options.file)
    sys.stdout.write(f"{options.file}: the students' version\n")
