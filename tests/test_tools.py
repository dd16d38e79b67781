"""The tools: the set-up cell anywhere, figures compared, minutes counted, pages in their width."""

import base64
import io
import os
import re
import subprocess
import sys

import minutes
import nbformat
import notebooks
import numpy as np
import pytest
import rebuild
from matplotlib.image import imsave
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebooks import MODULE, NOTEBOOK, ROOT, executed, figures, figures_differ, load, pixels

import conftest
import mf_solutions as mf

# The set-up cell

ASKS = """
import inspect
import mf_solutions as mf
print(inspect.getsource(mf.multiplicative_step) in inspect.getsource(mf))
print(mf.__file__)
"""


def set_up(folder, **environment):
    """Run the set-up cell in this folder and return where the module came from."""
    command = [sys.executable, "-c", notebooks.setup_source() + ASKS]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    readable, file = done.stdout.splitlines()
    assert readable == "True"
    return file


def test_the_set_up_cell_writes_the_module_once(tmp_path):
    module = tmp_path / MODULE.name
    for _ in range(2):  # the second time it is there
        assert set_up(tmp_path) == str(module)
        assert module.read_text(encoding="utf-8") == MODULE.read_text(encoding="utf-8")


def test_the_set_up_cell_never_overwrites_a_module(tmp_path):
    module = tmp_path / MODULE.name
    own = MODULE.read_text(encoding="utf-8") + "# a line of a student's\n"
    module.write_text(own, encoding="utf-8")
    set_up(tmp_path)
    set_up(tmp_path, PYTHONSAFEPATH="1")
    assert module.read_text(encoding="utf-8") == own


def test_where_a_file_cannot_be_found_the_module_is_loaded_in_memory(tmp_path):
    """PYTHONSAFEPATH, which Python 3.11 and later know, keeps this folder from being searched."""
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 knows no PYTHONSAFEPATH")
    for _ in range(2):
        assert set_up(tmp_path, PYTHONSAFEPATH="1") == "<mf_solutions>"


def test_where_no_file_can_be_written_the_module_is_loaded_in_memory(tmp_path):
    (tmp_path / MODULE.name).symlink_to(tmp_path / "no such folder" / MODULE.name)
    forbidden = "import pathlib\ndef refuse(*a, **k): raise PermissionError\n"
    cell = forbidden + "pathlib.Path.open = refuse\n" + notebooks.setup_source() + ASKS
    done = subprocess.run([sys.executable, "-c", cell], cwd=tmp_path, capture_output=True)
    assert done.stdout.split() == [b"True", b"<mf_solutions>"], done.stderr.decode()


def test_the_set_up_cell_is_no_wall():
    lines = notebooks.setup_source().splitlines()
    assert max(map(len, lines)) <= 79
    assert len(lines) < MODULE.read_text(encoding="utf-8").count("\n") / 2


# Figures


def as_png(values, **metadata):
    file = io.BytesIO()
    imsave(file, values, metadata=metadata)
    return base64.b64encode(file.getvalue()).decode()


def flipped(values):
    return np.concatenate([values[..., 2::-1], values[..., 3:]], axis=-1)


FORGERIES = {
    "kept": lambda own, other: own,
    "one-level-of-256": lambda own, other: as_png(np.clip(pixels(own) - 1 / 256, 0, 1)),
    "black": lambda own, other: as_png(0 * pixels(own) + [0, 0, 0, 1]),
    "black-by-another-tool": lambda own, other: as_png(0 * pixels(own), Software="a brush"),
    "of-another-cell": lambda own, other: other,
    "other-colour-map": lambda own, other: as_png(flipped(pixels(own))),
    "smaller": lambda own, other: as_png(pixels(own)[:-1]),
    "not-compared": lambda own, other: other,
}
NOTICED = set(FORGERIES) - {"kept", "one-level-of-256", "not-compared"}


def test_a_figure_that_is_not_the_one_drawn_fails_the_run_and_is_named(olivetti, tmp_path):
    source = "import matplotlib.pyplot as plt\nplt.imshow([[0, 1], [2, {}]]);\nplt.show()"
    cells = [new_code_cell(source.format(5), id="another")]
    cells += [new_code_cell(source.format(3), id=name) for name in FORGERIES]
    cells[-1].metadata.tags = ["nbval-ignore-output"]
    forged = executed(new_notebook(cells=cells), tmp_path)
    other, *own = (cell.outputs[-1].data for cell in forged.cells)
    for data, forgery in zip(own, FORGERIES.values()):
        data["image/png"] = forgery(data["image/png"], other["image/png"])
    nbformat.write(forged, tmp_path / "forged.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "--color=no", tmp_path / "forged.ipynb"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, [ROOT, ROOT / "tests/tools"])),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert set(re.findall(r"Cell \d+: ([\w-]+): ", done.stdout)) == NOTICED, done.stdout
    assert f"{len(NOTICED)} failed, {len(cells) - len(NOTICED)} passed" in done.stdout
    assert "forged.ipynb: Olivetti faces; every stored output compared" in done.stdout


def test_another_matplotlib_may_round_the_size_to_the_next_pixel():
    own = pixels(first_picture(load()))
    assert notebooks.as_large(as_png(own), as_png(own[:-1]))
    assert not notebooks.as_large(as_png(own), as_png(own[:-2]))


def test_a_figure_too_many_or_too_few_is_noticed():
    cell = next(cell for cell in load().cells if figures(cell.get("outputs", [])))
    assert figures_differ(cell.outputs, cell.outputs) is None
    assert figures_differ(cell.outputs, []) and figures_differ([], cell.outputs)


# What the last line claims


def test_the_last_line_claims_no_more_than_was_run(monkeypatch):
    notebook = load()
    code = sum(cell.cell_type == "code" for cell in notebook.cells)
    assert conftest.what_was_compared(notebook, 1, strict=True) == f"1 of {code} cells were run"
    assert "holds for any faces" in conftest.what_was_compared(notebook, code, strict=False)
    monkeypatch.setattr(notebooks.matplotlib, "__version__", "0.1")
    assert "but no pixels" in conftest.what_was_compared(notebook, code, strict=True)


# Rebuilding


def test_other_faces_are_never_stored(monkeypatch):
    before = NOTEBOOK.read_bytes(), rebuild.PICTURE.read_bytes()
    others = type("Faces", (), {"name": "other faces"})
    monkeypatch.setattr(mf, "fetch_faces", lambda: others)
    monkeypatch.setattr(rebuild, "executed", None)  # never called
    monkeypatch.setattr(sys, "argv", ["rebuild.py"])
    with pytest.raises(SystemExit, match="nothing is rebuilt"):
        rebuild.main()
    assert (NOTEBOOK.read_bytes(), rebuild.PICTURE.read_bytes()) == before


def test_another_matplotlib_is_named(monkeypatch):
    assert notebooks.another_matplotlib(new_notebook()) is None
    drawn_by = notebooks.drawn_by(first_picture(load()))
    monkeypatch.setattr(notebooks.matplotlib, "__version__", drawn_by)
    assert notebooks.another_matplotlib(load()) is None
    monkeypatch.setattr(notebooks.matplotlib, "__version__", "0.1")
    assert notebooks.another_matplotlib(load()) == drawn_by


def first_picture(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return figures(outputs)[0].data["image/png"]


# Minutes


def test_minutes_are_counted_as_they_say():
    prose = "*Three* plain [words](https://not.counted) " + "and more " * 88 + "$not$ one."
    folded = {"jupyter": {"source_hidden": True}}
    figure = new_output("display_data", data={"image/png": "..."})
    cells = [
        new_markdown_cell("| 1. Faces | 3 | What? |\n| Deeper | +1 | Why? |", id="title"),
        new_markdown_cell("", id="part-1"),
        new_markdown_cell(prose),  # 180 words
        new_markdown_cell("$$a$$\n\n**Predict.** <b>$b$</b>"),  # 0.75, 1 and a word
        new_code_cell("x = 1\n\n" * 15, outputs=[figure]),  # 1 minute, and 2
        new_code_cell("# @title Hidden", metadata=folded),
        new_markdown_cell("", id="break"),
        new_code_cell("x", id="exercise-1-answer"),
        new_markdown_cell("word " * 180, metadata={"tags": ["deeper"]}),
    ]
    counted = minutes.minutes(cells)
    assert counted["part-1"] == pytest.approx(1 + 0.75 + 1 + 1 / 180 + 3 + 8 + 4 / 60)
    assert counted["deeper"] == pytest.approx(1)
    assert minutes.printed(cells) == ["3", "+1"]
    assert minutes.to_print(cells) == ["14", "+1"]
    first, second = minutes.sittings(cells)
    assert second == pytest.approx(8 + 4 / 60)


# Pages


def test_pages_fit_their_window():
    readme = ROOT / "README.md"
    wide = []
    for page in [readme, *(ROOT / "tests").glob("*/*.md")]:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            measured = page.name == "BENCHMARK.md" and line.startswith("|")  # as wide as it comes
            if len(line) > 120 and not measured:
                wide.append(f"{page.relative_to(ROOT)}:{number}")
    assert wide == []
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= 110
