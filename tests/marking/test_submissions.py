"""Files of an export: whose they are, under which names, and that none does harm."""

import io
import json
import os
import zipfile
from pathlib import Path

import pytest
import submissions

ANSWER = "def matrix_factorization(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):\n    return P, Q\n"
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
    rows = {x.student: x.fault.label if x.fault else sorted(x.files) for x in students}
    assert len(rows) == len(students)
    for submission in students:
        assert all(path.is_file() for path in submission.files.values())
    return rows, left


# ---- What platforms hand out. Each: its files, the rows, and what is nobody's

BOTH = ["helpers.py", "week5.ipynb"]
MOODLE = "Anna Lee_12345_assignsubmission_file_"
MOODLE_2 = "Bo Chan_12346_assignsubmission_file_"
LAYOUTS = {
    "Canvas": (
        {
            "leeanna_12_678_week5.ipynb": notebook(USES_HELPERS),
            "leeanna_12_679_helpers.py": ANSWER,
            "chanbo_LATE_13_680_week5.ipynb": NOTEBOOK,
            "wudi_14_681_report.pdf": "%PDF",
            "wudi_14_text.html": "<p>see the file</p>",
            "kimjo_15_text.html": "<p>my laptop broke</p>",
        },
        {
            "leeanna_12": BOTH,
            "chanbo_LATE_13": ["week5.ipynb"],
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
        },
        {"x_1": BOTH, "y_2": ["week5.ipynb"], "z_3": BOTH},
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
    "Gradescope": (
        {
            "assignment_1_export/submission_metadata.yml": "submission_11:\n  :submitters:\n",
            "assignment_1_export/submission_11/week5.ipynb": notebook(USES_HELPERS),
            "assignment_1_export/submission_11/helpers.py": ANSWER,
            "assignment_1_export/submission_12/week5.ipynb": NOTEBOOK,
        },
        {"submission_11": BOTH, "submission_12": ["week5.ipynb"]},
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
            "Lee_Anna_s1_456/helpers.py": ANSWER,
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
            "Friday/mo/week5.ipynb": NOTEBOOK,
        },
        {
            "Monday/anna": BOTH,
            "Monday/bo": ["week5.ipynb"],
            "Friday/di": ["week5.ipynb"],
            "Friday/jo": ["week5.py"],
            "Friday/mo": ["week5.ipynb"],
        },
    ),
    "a flat folder": (
        {
            "anna.ipynb": NOTEBOOK,
            "bo.py": ANSWER,
            "di.pdf": "%PDF",
            "anna.html": "<html></html>",
            "jo.ipynb.txt": NOTEBOOK,
            "helpers.py": "def descend(): pass",
            "roster.csv": "anna,bo",
        },
        {
            "anna.ipynb": ["anna.ipynb"],
            "bo.py": ["bo.py"],
            "di.pdf": "not a notebook",
            "jo.ipynb.txt": ["jo.ipynb.txt"],
        },
    ),
    "one student": (
        {"week5.ipynb": notebook(USES_HELPERS), "helpers.py": ANSWER},
        {"week5.ipynb": BOTH},
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
