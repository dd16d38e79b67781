"""Files of an export: whose they are, under which names, and that none does harm."""

import io
import json
import os
import subprocess
import zipfile
from pathlib import Path

import feedback
import pytest
import submissions

ANSWER = (
    "def matrix_factorization(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):\n    return P, Q\n"
)
USES_HELPERS = "from helpers import descend\n"


def notebook(source=ANSWER):
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": source}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4})


NOTEBOOK = notebook()


def zipped(files):
    """Return a zip with these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def written(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def found(tmp_path, *paths, pattern=None):
    """Return {student: the names beside the answer, or the label of the fault}, and the rest."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    students, left = submissions.find(paths, scratch, pattern)
    names = feedback.distinct(submission.student for submission in students)
    rows = {y: x.fault.label if x.fault else sorted(x.files) for x, y in zip(students, names)}
    for submission in students:
        assert all(path.is_file() for path in submission.files.values())
    return rows, left


# ---- What platforms hand out. Each: its files, the rows, and what is nobody's

BOTH = ["helpers.py", "week5.ipynb"]
MOODLE = "Anna Lee_12345_assignsubmission_file_"
MOODLE_2 = "Bo Chan_12346_assignsubmission_file_"
METADATA = """\
---
submission_11:
  :submitters:
  - :name: Anna Lee
    :sid: s1
  - :name: Bo Chan
  :created_at: 2025-03-03 11:01:00
submission_12:
  :submitters: []
"""
LAYOUTS = {
    "Canvas": (
        {
            "leeanna_12_678_week5.ipynb": notebook(USES_HELPERS),
            "leeanna_12_679_helpers.py": ANSWER,
            "chanbo_LATE_13_680_week5.ipynb": NOTEBOOK,
            "exporter_16_682_week5_tutorial.txt": f"# In[1]:\n\n{ANSWER}",
            "wudi_14_681_report.pdf": "%PDF",
            "wudi_14_text.html": "<p>see the file</p>",
            "kimjo_15_text.html": "<p>my laptop broke</p>",
        },
        {
            "leeanna_12": BOTH,
            "chanbo_LATE_13": ["week5.ipynb"],
            "exporter_16": ["week5_tutorial.txt.py"],
            "wudi_14": "not a notebook",
            "kimjo_15": "not a notebook",
        },
    ),
    "Canvas, handed in again": (
        {
            "x_1_2_week5-1.ipynb": notebook(USES_HELPERS),
            "x_1_3_helpers-1.py": ANSWER,
            "y_2_4_week5.ipynb": NOTEBOOK,
            "z_3_5_week5-2.ipynb": notebook(USES_HELPERS),
            "z_3_6_helpers-11.py": ANSWER,
            "z_3_7_data.csv": "1",
            "z_3_8_data-1.csv": "2",
        },
        {"x_1": BOTH, "y_2": ["week5.ipynb"], "z_3": ["data-1.csv", "data.csv", *BOTH]},
    ),
    "Canvas, anonymous": (
        {
            "anon_q7ZtP_678901_week5.ipynb": notebook(USES_HELPERS),
            "anon_q7ZtP_678902_helpers.py": ANSWER,
            "LATE_anon_b3XyZ_678903_week5.ipynb": NOTEBOOK,
            "anon_AAAAA_678904_my_own_name.ipynb": NOTEBOOK,
        },
        {
            "anon_q7ZtP": BOTH,
            "LATE_anon_b3XyZ": ["week5.ipynb"],
            "anon_AAAAA": ["my_own_name.ipynb"],
        },
    ),
    "Moodle, folders": (
        {
            f"{MOODLE}/week5.ipynb": notebook(USES_HELPERS),
            f"{MOODLE}/helpers.py": ANSWER,
            "Anna Lee_12345_assignsubmission_onlinetext_/onlinetext.html": "<p>done</p>",
            f"{MOODLE_2}/week5.ipynb": NOTEBOOK,
            "Anna Lee_99_assignsubmission_file_/week5.ipynb": NOTEBOOK,
            "Di Wu_12_assignsubmission_onlinetext_/onlinetext.html": "<p>only this</p>",
        },
        {
            "Anna Lee_12345": BOTH,
            "Bo Chan_12346": ["week5.ipynb"],
            "Anna Lee_99": ["week5.ipynb"],
            "Di Wu_12": "not a notebook",
        },
    ),
    "Moodle, without folders": (
        {
            f"{MOODLE}week5.ipynb": notebook(USES_HELPERS),
            f"{MOODLE}helpers.py": ANSWER,
            "Anna Lee_12345_assignsubmission_onlinetext_onlinetext.html": "<p>done</p>",
            f"{MOODLE_2}week5.ipynb": NOTEBOOK,
            "Participant 7_7_assignsubmission_file_week5.ipynb": NOTEBOOK,
        },
        {
            "Anna Lee_12345": BOTH,
            "Bo Chan_12346": ["week5.ipynb"],
            "Participant 7_7": ["week5.ipynb"],
        },
    ),
    "Blackboard": (
        {
            "Week 5_s1_attempt_2025-03-03-11-01-00.txt": "Name: Anna Lee (s1)",
            "Week 5_s1_attempt_2025-03-03-11-01-00_week5.ipynb": notebook(USES_HELPERS),
            "Week 5_s1_attempt_2025-03-03-11-01-00_helpers.py": ANSWER,
            "Week 5_s2_attempt_2025-03-02-09-00-00.txt": "Name: Bo Chan (s2)",
            "Week 5_s2_attempt_2025-03-02-09-00-00_first.ipynb": NOTEBOOK,
            "Week 5_s2_attempt_2025-03-04-09-00-00_second.ipynb": NOTEBOOK,
        },
        {"s1": BOTH, "s2": ["second.ipynb"]},
    ),
    "Blackboard, names with _": (
        {
            "week5_jo_smith_attempt_2025-03-03-11-01-00_week5.ipynb": notebook(USES_HELPERS),
            "week5_jo_smith_attempt_2025-03-03-11-01-00_helpers.py": ANSWER,
            "week5_al_smith_attempt_2025-03-03-11-01-00_week5.ipynb": NOTEBOOK,
        },
        {"week5_jo_smith": BOTH, "week5_al_smith": ["week5.ipynb"]},
    ),
    "Brightspace": (
        {
            "index.html": "<html></html>",
            "101-204 - Anna Lee - Jan 25, 2025 204 PM/week5.ipynb": notebook(USES_HELPERS),
            "101-204 - Anna Lee - Jan 25, 2025 204 PM/helpers.py": ANSWER,
            "101-205 - Bo Chan - Jan 9, 2025 1159 PM/first.ipynb": NOTEBOOK,
            "101-205 - Bo Chan - Jan 10, 2025 104 PM/second.ipynb": NOTEBOOK,
        },
        {"101-204 - Anna Lee": BOTH, "101-205 - Bo Chan": ["second.ipynb"]},
    ),
    "Brightspace, without folders": (
        {
            "101-204 - Anna Lee - Jan 25, 2025 204 PM - week5.ipynb": notebook(USES_HELPERS),
            "101-204 - Anna Lee - Jan 25, 2025 204 PM - helpers.py": ANSWER,
            "101-205 - Bo - Chan - Jan 9, 2025 1159 PM - week5.ipynb": NOTEBOOK,
        },
        {"101-204 - Anna Lee": BOTH, "101-205 - Bo - Chan": ["week5.ipynb"]},
    ),
    "Gradescope": (
        {
            "assignment_1_export/submission_metadata.yml": METADATA,
            "assignment_1_export/submission_11/week5.ipynb": notebook(USES_HELPERS),
            "assignment_1_export/submission_11/helpers.py": ANSWER,
            "assignment_1_export/submission_12/week5.ipynb": NOTEBOOK,
        },
        {"submission_11 Anna Lee, Bo Chan": BOTH, "submission_12": ["week5.ipynb"]},
    ),
    "Sakai": (
        {
            "Week 5/grades.csv": "Display ID,ID,Last Name,First Name,grade\n",
            "Week 5/Lee, Anna(s1)/timestamp.txt": "20250303110100000",
            "Week 5/Lee, Anna(s1)/comments.txt": "",
            "Week 5/Lee, Anna(s1)/feedbackText.html": "",
            "Week 5/Lee, Anna(s1)/Lee, Anna(s1)_submissionText.html": "<p>see file</p>",
            "Week 5/Lee, Anna(s1)/Feedback Attachment(s)/old.ipynb": NOTEBOOK,
            "Week 5/Lee, Anna(s1)/Submission attachment(s)/week5.ipynb": notebook(USES_HELPERS),
            "Week 5/Lee, Anna(s1)/Submission attachment(s)/helpers.py": ANSWER,
            "Week 5/Chan, Bo(s2)/timestamp.txt": "20250303110100000",
            "Week 5/Chan, Bo(s2)/Submission attachment(s)/week5.ipynb": NOTEBOOK,
        },
        {"Lee, Anna(s1)": BOTH, "Chan, Bo(s2)": ["week5.ipynb"]},
    ),
    "ILIAS": (
        {
            "status.xlsx": "PK",
            "status.csv": "update;usr_id\n",
            "README.md": "How to",
            "Lee_Anna_s1_456/week5.ipynb": notebook(USES_HELPERS),
            "Lee_Anna_s1_456/Late Submission - helpers.py": ANSWER,
            "Chan_Bo_s2_457/week5.ipynb": NOTEBOOK,
        },
        {"Lee_Anna_s1_456": BOTH, "Chan_Bo_s2_457": ["week5.ipynb"]},
    ),
    "ILIAS, teams": (
        {
            "Blatt 5/Abgaben/Team 1/Lee_Anna_s1_456/week5.ipynb": notebook(USES_HELPERS),
            "Blatt 5/Abgaben/Team 1/Lee_Anna_s1_456/helpers.py": ANSWER,
            "Blatt 5/Abgaben/Team 2/Chan_Bo_s2_457/week5.ipynb": NOTEBOOK,
        },
        {"Team 1": BOTH, "Team 2": ["week5.ipynb"]},
    ),
    "nbgrader": (
        {
            "submitted/s1/week5/week5.ipynb": notebook(USES_HELPERS),
            "submitted/s1/week5/helpers.py": ANSWER,
            "submitted/s1/week5/timestamp.txt": "2025-03-03 11:01:00 UTC",
            "submitted/s2/week5/week5.ipynb": NOTEBOOK,
            "submitted/s2/week5/timestamp.txt": "2025-03-03 11:01:00 UTC",
        },
        {"s1": [*BOTH[:1], "timestamp.txt", *BOTH[1:]], "s2": ["timestamp.txt", "week5.ipynb"]},
    ),
    "GitHub Classroom": (
        {
            "week5-submissions/week5-anna/README.md": "# Week 5",
            "week5-submissions/week5-anna/.git/config": "[core]",
            "week5-submissions/week5-anna/.github/workflows/classroom.yml": "on: push",
            "week5-submissions/week5-anna/week5.ipynb": notebook(USES_HELPERS),
            "week5-submissions/week5-anna/helpers.py": ANSWER,
            "week5-submissions/week5-bo/README.md": "# Week 5",
            "week5-submissions/week5-bo/week5.ipynb": NOTEBOOK,
        },
        {"week5-anna": BOTH, "week5-bo": ["week5.ipynb"]},
    ),
    "plain folders": (
        {
            "anna/week5.ipynb": notebook(USES_HELPERS),
            "anna/helpers.py": ANSWER,
            "anna/pictures/one.png": "PNG",
            "bo/nb/week5.ipynb": NOTEBOOK,
            "bo/data/faces.csv": "1,2",
            "di/week5.html": "<html></html>",
            "jo/report.pdf": "%PDF",
        },
        {
            "anna": BOTH,
            "bo": ["data/faces.csv", "week5.ipynb"],
            "di": "not a notebook",
            "jo": "not a notebook",
        },
    ),
    "plain folders of groups": (
        {
            "Monday/anna/week5.ipynb": notebook(USES_HELPERS),
            "Monday/anna/helpers.py": ANSWER,
            "Monday/bo/week5.ipynb": NOTEBOOK,
            "Friday/di/week5.ipynb": NOTEBOOK,
            "Friday/jo/week5.py": ANSWER,
            "Sunday/al/week5.py": ANSWER,
            "Sunday/mo/week5.py": ANSWER,
        },
        {
            "Monday/anna": BOTH,
            "Monday/bo": ["week5.ipynb"],
            "Friday/di": ["week5.ipynb"],
            "Friday/jo": ["week5.py"],
            "Sunday/al": ["week5.py"],
            "Sunday/mo": ["week5.py"],
        },
    ),
    "a flat folder": (
        {
            "anna.ipynb": notebook(USES_HELPERS),
            "bo.py": ANSWER,
            "mo.py": "class MF:\n    pass\n",
            "al.txt": f"%timeit 1\n\n{ANSWER}",
            "notes.txt": "matrix factorization: ask Bo",
            "di.pdf": "%PDF",
            "anna.html": "<html></html>",
            "jo.ipynb.txt": NOTEBOOK,
            "helpers.py": "def descend(): pass",
            "roster.csv": "anna,bo",
        },
        {
            "anna.ipynb": ["anna.ipynb"],
            "bo.py": ["bo.py"],
            "mo.py": ["mo.py"],
            "al.txt": ["al.txt.py"],
            "di.pdf": "not a notebook",
            "jo.ipynb.txt": ["jo.ipynb.txt"],
        },
    ),
    "a flat folder that looks like Canvas": (
        {
            "week5_2025_03_anna.ipynb": NOTEBOOK,
            "week5_2025_03_bo.ipynb": NOTEBOOK,
            "week5_2025_04_di.ipynb": NOTEBOOK,
        },
        {
            f"week5_2025_0{name}.ipynb": [f"week5_2025_0{name}.ipynb"]
            for name in ("3_anna", "3_bo", "4_di")
        },
    ),
    "one student": (
        {"week5.ipynb": notebook(USES_HELPERS), "helpers.py": ANSWER},
        {"week5.ipynb": BOTH},
    ),
    "one student with folders": (
        {"week5.ipynb": NOTEBOOK, "lib/helpers.py": "x = 1", "data/a.csv": "1", "a.png": ""},
        {"a.png": "not a notebook", "week5.ipynb": ["data/a.csv", "lib/helpers.py", "week5.ipynb"]},
    ),
    "folders beside the tutor's own copy": (
        {
            "week5/template.ipynb": NOTEBOOK,
            "week5/anna/week5.ipynb": NOTEBOOK,
            "week5/bo/week5.ipynb": NOTEBOOK,
        },
        {name: ["week5.ipynb"] for name in ("anna", "bo")} | {"template.ipynb": ["template.ipynb"]},
    ),
    "one student, by %run": (
        {"week5.ipynb": notebook("%run helpers.py\n"), "helpers.py": ANSWER},
        {"week5.ipynb": BOTH},
    ),
}


@pytest.mark.parametrize("files, rows", LAYOUTS.values(), ids=LAYOUTS)
def test_an_unpacked_export_has_a_row_for_each_student(tmp_path, files, rows):
    assert found(tmp_path, written(tmp_path / "in", files))[0] == rows


@pytest.mark.parametrize("files, rows", LAYOUTS.values(), ids=LAYOUTS)
def test_so_has_the_zip(tmp_path, files, rows):
    written(tmp_path, {"export.zip": zipped(files)})
    assert found(tmp_path, tmp_path / "export.zip")[0] == rows


@pytest.mark.parametrize("files, rows", LAYOUTS.values(), ids=LAYOUTS)
def test_so_has_a_folder_with_the_zip_in_it(tmp_path, files, rows):
    folder = written(tmp_path / "in", {"export.zip": zipped(files)})
    assert found(tmp_path, folder)[0] == rows


ZIPS = {  # as each platform names a zip, and whose it is
    "leeanna_12_678_week5.zip": "leeanna_12",
    "leeanna_12_678_week5-1.zip": "leeanna_12",
    "anon_q7ZtP_678901_week5.zip": "anon_q7ZtP",
    f"{MOODLE}/week5.zip": "Anna Lee_12345",
    f"{MOODLE}week5.zip": "Anna Lee_12345",
    "Week 5_s1_attempt_2025-03-03-11-01-00_week5.zip": "s1",
    "101-204 - Anna Lee - Jan 25, 2025 204 PM/week5.zip": "101-204 - Anna Lee",
    "submission_11/week5.zip": "submission_11",
    "Lee, Anna(s1)/Submission attachment(s)/week5.zip": "Lee, Anna(s1)",
    "submitted/s1/week5/week5.zip": "s1",
    "Lee_Anna_s1_456/week5.zip": "Lee_Anna_s1_456",
    "week5-anna/week5.zip": "week5-anna",
    "anna.zip": "anna.zip",
}
OTHER = {"zoe/week5.ipynb": NOTEBOOK}  # a second student, so that no zip is the export
ROW_OF_OTHER = {"zoe": ["week5.ipynb"]}
IN_ZIP = {
    "work/week5.ipynb": notebook(USES_HELPERS),
    "work\\helpers.py": ANSWER,
    "work/data/faces.csv": "1,2",
    "__MACOSX/work/._week5.ipynb": "x",
    "work/.ipynb_checkpoints/week5-checkpoint.ipynb": NOTEBOOK,
    **{f"work/.git/objects/{number}": "x" for number in range(600)},
    **{f"work/.venv/lib/site-packages/{number}.py": ANSWER for number in range(600)},
}


@pytest.mark.parametrize("name, student", ZIPS.items(), ids=ZIPS)
def test_what_is_in_a_zip_is_the_same_student_s(tmp_path, name, student):
    files = {name: zipped(IN_ZIP), **OTHER}
    rows = {student: ["data/faces.csv", *BOTH], **ROW_OF_OTHER}
    assert found(tmp_path, written(tmp_path / "in", files))[0] == rows
    written(tmp_path, {"export.zip": zipped(files)})
    assert found(tmp_path, tmp_path / "export.zip")[0] == rows


def test_names_in_a_zip_make_nobody_else_s_row(tmp_path):
    stolen = zipped({"chanbo_13_680_week5.ipynb": NOTEBOOK, "../../bo/x.ipynb": NOTEBOOK})
    files = {"leeanna_12_678_week5.zip": stolen, "chanbo_13_681_week5.ipynb": NOTEBOOK}
    rows, _ = found(tmp_path, written(tmp_path / "in", files))
    assert rows.keys() == {"leeanna_12", "chanbo_13"} and rows["chanbo_13"] == ["week5.ipynb"]


def test_a_pattern_of_one_s_own_says_who_is_who(tmp_path):
    files = {
        "2025 s1 week5.ipynb": notebook(USES_HELPERS),
        "2025 s1 helpers.py": ANSWER,
        "2025 s2 week5.ipynb": NOTEBOOK,
        "leeanna_12_678_week5.ipynb": NOTEBOOK,
    }
    folder = written(tmp_path / "in", files)
    rows, left = found(tmp_path, folder, pattern=r"(?P<student>s\d) (?P<own>.+)")
    assert rows == {"s1": BOTH, "s2": ["week5.ipynb"]}
    assert left == ["leeanna_12_678_week5.ipynb"]
    assert found(tmp_path, folder, pattern=r"(?P<student>s\d)")[0] == rows
    rows, _ = found(tmp_path, folder, pattern=r"(?P<student>s\d).*")
    assert rows["s2"] == ["2025 s2 week5.ipynb"]


@pytest.mark.parametrize("pattern, why", [("(", "is no regular"), ("s1", "expected a regular")])
def test_a_pattern_that_cannot_be_used_is_refused(tmp_path, pattern, why):
    with pytest.raises(ValueError, match=why):
        found(tmp_path, tmp_path, pattern=pattern)


def test_several_paths_are_told_apart(tmp_path):
    files = {"one/week5.ipynb": NOTEBOOK, "two/week5.ipynb": NOTEBOOK}
    folder = written(tmp_path / "in", files)
    rows, _ = found(tmp_path, folder / "one", folder / "two")
    assert rows.keys() == {"one/week5.ipynb", "two/week5.ipynb"}
    written(folder, {"x_1_2_week5.ipynb": NOTEBOOK, "x_1_3_helpers.py": ANSWER})
    rows, _ = found(tmp_path, folder / "x_1_2_week5.ipynb", folder / "x_1_3_helpers.py")
    assert rows == {"x_1": BOTH}
    written(folder, {"answer.txt": NOTEBOOK})
    assert found(tmp_path, folder / "answer.txt")[0] == {"answer.txt": ["answer.txt.ipynb"]}


# ---- What goes wrong is one student's


def test_no_zip_does_harm(tmp_path):
    link = zipfile.ZipInfo("week5.ipynb")
    link.external_attr = 0o120777 << 16
    encrypted = bytearray(zipped({"week5.ipynb": NOTEBOOK}))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    large = bytes(submissions.BYTES + 1)
    lying = zipped({"week5.ipynb": large})
    lying = lying.replace(len(large).to_bytes(4, "little"), b"\5\0\0\0")
    crowd = bytearray(zipped({"week5.ipynb": NOTEBOOK}))
    crowd[-10:-6] = (submissions.CONTENTS + 1).to_bytes(4, "little")
    files = {
        "absolute.zip": zipped({"/etc/week5.ipynb": NOTEBOOK}),
        "bomb.zip": zipped({"week5.ipynb": large}),
        "bomb in bomb.zip": zipped({"in.zip": zipped({"in.zip": zipped({"x.ipynb": large})})}),
        "broken.zip": zipped({"week5.ipynb": NOTEBOOK})[:-9],
        "drive.zip": zipped({"C:\\week5.ipynb": NOTEBOOK}),
        "empty.zip": zipped({}),
        "encrypted.zip": bytes(encrypted),
        "lying.zip": lying,
        "link.zip": zipped({link: "/etc/passwd"}),
        "long.zip": zipped({"w" * 300 + ".ipynb": NOTEBOOK, "数" * 99 + ".py": ANSWER}),
        "many.zip": zipped({f"{number}.py": ANSWER for number in range(600)}),
        "crowd.zip": crowd,
        "deep.zip": zipped({"a/" * 1200 + "x.ipynb": NOTEBOOK, "week5.ipynb": NOTEBOOK}),
        "right.zip": zipped({"week5.ipynb": NOTEBOOK}),
        "text.zip": "no zip",
        "up.zip": zipped({"../../../week5.ipynb": NOTEBOOK, "..\\..\\helpers.py": ANSWER}),
    }
    rows, left = found(tmp_path, written(tmp_path / "in", files))
    long = rows.pop("long.zip")
    assert all(len(name.encode()) <= 255 for name in long) and len(long) == 2
    assert rows == {
        "absolute.zip": ["week5.ipynb"],
        "bomb.zip": "too large",
        "bomb in bomb.zip": "too large",
        "broken.zip": "not readable",
        "drive.zip": ["week5.ipynb"],
        "empty.zip": "not a notebook",
        "encrypted.zip": "not readable",
        "lying.zip": "not readable",
        "link.zip": "not readable",
        "many.zip": "too large",
        "crowd.zip": "not readable",
        "deep.zip": "not readable",
        "right.zip": ["week5.ipynb"],
        "text.zip": "not readable",
        "up.zip": BOTH,
    }
    assert left == []
    outside = [p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "scratch")]
    assert len(outside) == len(files) + 1  # and the folder that they are in


def test_nor_does_what_an_unpacked_export_may_hold(tmp_path):
    folder = written(tmp_path / "in", {f"{x}/week5.ipynb": NOTEBOOK for x in ("bo", "deep", "di")})
    (folder / "link").mkdir()
    (folder / "link" / "week5.ipynb").symlink_to(folder / "bo" / "week5.ipynb")
    (folder / "bo" / "again").symlink_to(folder)
    (folder / "flat.ipynb").symlink_to("/etc/passwd")
    (folder / "links").mkdir()
    (folder / "links" / "data").symlink_to(folder / "bo")
    (folder / "pipes").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "bo" / "pipe.py")
        os.mkfifo(folder / "pipes" / "week5.ipynb")
    deepened(folder / "deep")
    (folder / "di" / "closed").mkdir()
    (folder / "di" / "closed").chmod(0)
    try:
        rows, _ = found(tmp_path, folder)
    finally:
        (folder / "di" / "closed").chmod(0o700)
        subprocess.run(["rm", "-rf", folder / "deep"])  # pytest cannot delete it
    di = rows.pop("di")
    assert di == (["week5.ipynb"] if os.geteuid() == 0 else "not readable")
    assert rows.pop("pipes", "not readable") == rows.pop("links") == "not readable"
    assert rows == {
        "bo": ["week5.ipynb"],
        "deep": "not readable",
        "flat.ipynb": "not readable",
        "link": "not readable",
    }


def deepened(folder, depth=1200):
    """Make folders in each other, deeper than a path may be long."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 9, dir_fd=here)
        inner = os.open("d" * 9, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def test_a_folder_that_cannot_be_read_is_one_student_s(tmp_path, monkeypatch):
    def scandir(folder):
        if Path(folder).name == "anna":
            raise PermissionError(13, "Permission denied", str(folder))
        return os_scandir(folder)

    os_scandir = os.scandir
    monkeypatch.setattr(submissions.os, "scandir", scandir)
    files = {f"{day}/{name}/week5.ipynb": NOTEBOOK for day in "AB" for name in ("anna", "bo")}
    rows, _ = found(tmp_path, written(tmp_path / "in", files))
    no, yes = "not readable", ["week5.ipynb"]
    assert rows == {"A/anna": no, "A/bo": yes, "B/anna": no, "B/bo": yes}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter any folder")
@pytest.mark.parametrize("mode", [0o644, 0o500, 0o000])
def test_a_folder_that_cannot_be_entered_is_one_student_s(tmp_path, mode):
    folder = written(tmp_path / "in", {f"{x}/week5.ipynb": NOTEBOOK for x in ("anna", "bo")})
    (folder / "anna").chmod(mode)
    rows, _ = found(tmp_path, folder)
    (folder / "anna").chmod(0o700)
    readable = ["week5.ipynb"] if mode & 0o100 else "not readable"
    assert rows == {"anna": readable, "bo": ["week5.ipynb"]}


def test_a_full_disk_is_the_fault_of_one_student_s_files_at_most(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    files = {"anna.zip": zipped({"week5.ipynb": NOTEBOOK}), "bo.ipynb": NOTEBOOK}
    folder = written(tmp_path / "in", files)
    monkeypatch.setattr(submissions.shutil, "copyfileobj", full)
    assert found(tmp_path, folder)[0] == {"anna.zip": "not readable", "bo.ipynb": ["bo.ipynb"]}


def test_one_student_s_zip_in_the_zip_of_an_export_is_opened_with_care(tmp_path):
    for content, row in ((NOTEBOOK, ["week5.ipynb"]), (bytes(submissions.BYTES + 1), "too large")):
        files = {"anna.zip": zipped({"week5.ipynb": content})}
        written(tmp_path, {"export.zip": zipped(files)})
        assert found(tmp_path, tmp_path / "export.zip")[0] == {"anna.zip": row}


def test_a_file_without_a_name_is_left_out(tmp_path):
    folder = written(
        tmp_path / "in", {"\\": NOTEBOOK, "anna.ipynb": NOTEBOOK, "bo.ipynb": NOTEBOOK}
    )
    assert found(tmp_path, folder)[0].keys() == {"anna.ipynb", "bo.ipynb"}


def test_a_folder_by_the_name_of_another_student_is_a_student_of_its_own(tmp_path):
    files = {"lee_12_678_week5.ipynb": NOTEBOOK, "lee_12/a.ipynb": NOTEBOOK, **OTHER}
    rows, _ = found(tmp_path, written(tmp_path / "in", files))
    assert rows == {"lee_12": ["week5.ipynb"], "lee_12 (2)": ["a.ipynb"], **ROW_OF_OTHER}
    files = {"anna (2)/comments.txt": "Hello", "anna (2)/week5.ipynb": NOTEBOOK}
    rows, _ = found(tmp_path, written(tmp_path / "in2", {**files, **OTHER}))
    assert rows == {"anna (2)": ["comments.txt", "week5.ipynb"], **ROW_OF_OTHER}


def test_a_broken_export_is_a_row_that_says_so(tmp_path):
    written(tmp_path, {"export.zip": b"PK\3\4 cut off"})
    assert found(tmp_path, Path(tmp_path / "export.zip"))[0] == {"export.zip": "not readable"}


def test_names_are_told_apart_on_every_disk(tmp_path):
    files = {"Anna/week5.ipynb": NOTEBOOK, "anna/week5.ipynb": NOTEBOOK}
    rows, _ = found(tmp_path, written(tmp_path / "in", files))
    assert rows.keys() == {"Anna", "anna (2)"}
