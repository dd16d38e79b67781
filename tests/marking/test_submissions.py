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
CONTENTS = {  # by the end of a file's name
    "submission_metadata.yml": METADATA,
    "week5_tutorial.txt": f"# In[1]:\n\n{ANSWER}",
    "al.txt": f"%timeit 1\n\n{ANSWER}",
    "mo.py": "class MF:\n    pass\n",
    "run.ipynb": notebook("%run run_helpers.py\n"),
    "run_helpers.py": ANSWER,
    "helpers.py": "def descend(): pass",
    "helpers-1.py": "",
    ".py": ANSWER,
    ".ipynb": notebook(USES_HELPERS + ANSWER),
    ".ipynb.txt": NOTEBOOK,
    "": "x",
}
# Each file with its student, and its name beside that student's answer; students without answers
LAYOUTS = {
    "Canvas": """
        leeanna_12_678_week5.ipynb -> leeanna_12: week5.ipynb
        leeanna_12_679_helpers.py -> leeanna_12: helpers.py
        chanbo_LATE_13_680_week5.ipynb -> chanbo_LATE_13: week5.ipynb
        exporter_16_682_week5_tutorial.txt -> exporter_16: week5_tutorial.txt.py
        wudi_14_681_report.pdf
        wudi_14_text.html
        kimjo_15_text.html
        -> kimjo_15: not a notebook
        -> wudi_14: not a notebook
    """,
    "Canvas, handed in again": """
        x_1_2_week5-1.ipynb -> x_1: week5.ipynb
        x_1_3_helpers-1.py -> x_1: helpers.py
        y_2_4_week5.ipynb -> y_2: week5.ipynb
        z_3_5_week5-2.ipynb -> z_3: week5.ipynb
        z_3_6_helpers-11.py -> z_3: helpers.py
        z_3_7_data.csv -> z_3: data.csv
        z_3_8_data-1.csv -> z_3: data-1.csv
    """,
    "Canvas, anonymous": """
        anon_q7ZtP_678901_week5.ipynb -> anon_q7ZtP: week5.ipynb
        anon_q7ZtP_678902_helpers.py -> anon_q7ZtP: helpers.py
        LATE_anon_b3XyZ_678903_week5.ipynb -> LATE_anon_b3XyZ: week5.ipynb
        anon_AAAAA_678904_my_own_name.ipynb -> anon_AAAAA: my_own_name.ipynb
    """,
    "Moodle, folders": """
        Anna Lee_12345_assignsubmission_file_/week5.ipynb -> Anna Lee_12345: week5.ipynb
        Anna Lee_12345_assignsubmission_file_/helpers.py -> Anna Lee_12345: helpers.py
        Anna Lee_12345_assignsubmission_onlinetext_/onlinetext.html
        Bo Chan_12346_assignsubmission_file_/week5.ipynb -> Bo Chan_12346: week5.ipynb
        Anna Lee_99_assignsubmission_file_/week5.ipynb -> Anna Lee_99: week5.ipynb
        Di Wu_12_assignsubmission_onlinetext_/onlinetext.html
        -> Di Wu_12: not a notebook
    """,
    "Moodle, without folders": """
        Anna Lee_12345_assignsubmission_file_week5.ipynb -> Anna Lee_12345: week5.ipynb
        Anna Lee_12345_assignsubmission_file_helpers.py -> Anna Lee_12345: helpers.py
        Anna Lee_12345_assignsubmission_onlinetext_onlinetext.html
        Bo Chan_12346_assignsubmission_file_week5.ipynb -> Bo Chan_12346: week5.ipynb
        Participant 7_7_assignsubmission_file_week5.ipynb -> Participant 7_7: week5.ipynb
    """,
    "Blackboard": """
        Week 5_s1_attempt_2025-03-03-11-01-00.txt
        Week 5_s1_attempt_2025-03-03-11-01-00_week5.ipynb -> s1: week5.ipynb
        Week 5_s1_attempt_2025-03-03-11-01-00_helpers.py -> s1: helpers.py
        Week 5_s2_attempt_2025-03-02-09-00-00.txt
        Week 5_s2_attempt_2025-03-02-09-00-00_first.ipynb
        Week 5_s2_attempt_2025-03-04-09-00-00_second.ipynb -> s2: second.ipynb
    """,
    "Blackboard, names with _": """
        week5_jo_smith_attempt_2025-03-03-11-01-00_week5.ipynb -> week5_jo_smith: week5.ipynb
        week5_jo_smith_attempt_2025-03-03-11-01-00_helpers.py -> week5_jo_smith: helpers.py
        week5_al_smith_attempt_2025-03-03-11-01-00_week5.ipynb -> week5_al_smith: week5.ipynb
    """,
    "Brightspace": """
        index.html
        101-204 - Anna Lee - Jan 25, 2025 204 PM/week5.ipynb -> 101-204 - Anna Lee: week5.ipynb
        101-204 - Anna Lee - Jan 25, 2025 204 PM/helpers.py -> 101-204 - Anna Lee: helpers.py
        101-205 - Bo Chan - Jan 9, 2025 1159 PM/first.ipynb
        101-205 - Bo Chan - Jan 10, 2025 104 PM/second.ipynb -> 101-205 - Bo Chan: second.ipynb
    """,
    "Brightspace, without folders": """
        101-204 - Anna Lee - Jan 25, 2025 204 PM - week5.ipynb -> 101-204 - Anna Lee: week5.ipynb
        101-204 - Anna Lee - Jan 25, 2025 204 PM - helpers.py -> 101-204 - Anna Lee: helpers.py
        101-205 - Bo - Chan - Jan 9, 2025 1159 PM - week5.ipynb -> 101-205 - Bo - Chan: week5.ipynb
    """,
    "Gradescope": """
        export/submission_metadata.yml
        export/submission_11/week5.ipynb -> submission_11 Anna Lee, Bo Chan: week5.ipynb
        export/submission_11/helpers.py -> submission_11 Anna Lee, Bo Chan: helpers.py
        export/submission_12/week5.ipynb -> submission_12: week5.ipynb
    """,
    "Sakai": """
        Week 5/grades.csv
        Week 5/Lee, Anna(s1)/timestamp.txt
        Week 5/Lee, Anna(s1)/comments.txt
        Week 5/Lee, Anna(s1)/feedbackText.html
        Week 5/Lee, Anna(s1)/Lee, Anna(s1)_submissionText.html
        Week 5/Lee, Anna(s1)/Feedback Attachment(s)/old.ipynb
        Week 5/Lee, Anna(s1)/Submission attachment(s)/week5.ipynb -> Lee, Anna(s1): week5.ipynb
        Week 5/Lee, Anna(s1)/Submission attachment(s)/helpers.py -> Lee, Anna(s1): helpers.py
        Week 5/Chan, Bo(s2)/timestamp.txt
        Week 5/Chan, Bo(s2)/Submission attachment(s)/week5.ipynb -> Chan, Bo(s2): week5.ipynb
    """,
    "ILIAS": """
        status.xlsx
        status.csv
        README.md
        Lee_Anna_s1_456/week5.ipynb -> Lee_Anna_s1_456: week5.ipynb
        Lee_Anna_s1_456/Late Submission - helpers.py -> Lee_Anna_s1_456: helpers.py
        Chan_Bo_s2_457/week5.ipynb -> Chan_Bo_s2_457: week5.ipynb
    """,
    "ILIAS, teams": """
        Blatt 5/Abgaben/Team 1/Lee_Anna_s1_456/week5.ipynb -> Team 1: week5.ipynb
        Blatt 5/Abgaben/Team 1/Lee_Anna_s1_456/helpers.py -> Team 1: helpers.py
        Blatt 5/Abgaben/Team 2/Chan_Bo_s2_457/week5.ipynb -> Team 2: week5.ipynb
    """,
    "nbgrader": """
        submitted/s1/week5/week5.ipynb -> s1: week5.ipynb
        submitted/s1/week5/helpers.py -> s1: helpers.py
        submitted/s1/week5/timestamp.txt -> s1: timestamp.txt
        submitted/s2/week5/week5.ipynb -> s2: week5.ipynb
        submitted/s2/week5/timestamp.txt -> s2: timestamp.txt
    """,
    "GitHub Classroom": """
        week5-submissions/week5-anna/README.md
        week5-submissions/week5-anna/.git/config
        week5-submissions/week5-anna/.github/workflows/classroom.yml
        week5-submissions/week5-anna/week5.ipynb -> week5-anna: week5.ipynb
        week5-submissions/week5-anna/helpers.py -> week5-anna: helpers.py
        week5-submissions/week5-bo/README.md
        week5-submissions/week5-bo/week5.ipynb -> week5-bo: week5.ipynb
    """,
    "plain folders": """
        anna/week5.ipynb -> anna: week5.ipynb
        anna/helpers.py -> anna: helpers.py
        anna/pictures/one.png
        bo/nb/week5.ipynb -> bo: week5.ipynb
        bo/data/faces.csv -> bo: data/faces.csv
        di/week5.html
        jo/report.pdf
        -> di: not a notebook
        -> jo: not a notebook
    """,
    "plain folders of groups": """
        Monday/anna/week5.ipynb -> Monday/anna: week5.ipynb
        Monday/anna/helpers.py -> Monday/anna: helpers.py
        Monday/bo/week5.ipynb -> Monday/bo: week5.ipynb
        Friday/di/week5.ipynb -> Friday/di: week5.ipynb
        Friday/jo/week5.py -> Friday/jo: week5.py
        Sunday/al/week5.py -> Sunday/al: week5.py
        Sunday/mo/week5.py -> Sunday/mo: week5.py
    """,
    "a flat folder": """
        anna.ipynb -> anna.ipynb: anna.ipynb
        bo.py -> bo.py: bo.py
        mo.py -> mo.py: mo.py
        al.txt -> al.txt: al.txt.py
        notes.txt
        di.pdf
        anna.html
        jo.ipynb.txt -> jo.ipynb.txt: jo.ipynb.txt
        helpers.py
        roster.csv
        -> di.pdf: not a notebook
    """,
    "a flat folder that looks like Canvas": """
        week5_2025_03_anna.ipynb -> week5_2025_03_anna.ipynb: week5_2025_03_anna.ipynb
        week5_2025_03_bo.ipynb -> week5_2025_03_bo.ipynb: week5_2025_03_bo.ipynb
        week5_2025_04_di.ipynb -> week5_2025_04_di.ipynb: week5_2025_04_di.ipynb
    """,
    "one student": """
        week5.ipynb -> week5.ipynb: week5.ipynb
        helpers.py -> week5.ipynb: helpers.py
    """,
    "one student with folders": """
        week5.ipynb -> week5.ipynb: week5.ipynb
        lib/helpers.py -> week5.ipynb: lib/helpers.py
        data/a.csv -> week5.ipynb: data/a.csv
        a.png
        -> a.png: not a notebook
    """,
    "folders beside the tutor's own copy": """
        week5/template.ipynb -> template.ipynb: template.ipynb
        week5/anna/week5.ipynb -> anna: week5.ipynb
        week5/bo/week5.ipynb -> bo: week5.ipynb
    """,
    "one student, by %run": """
        run.ipynb -> run.ipynb: run.ipynb
        run_helpers.py -> run.ipynb: run_helpers.py
    """,
}


def listed(layout):
    """Return the files of a layout with their contents, and the rows that are right."""
    files, rows = {}, {}
    for line in layout.strip().splitlines():
        path, _, row = map(str.strip, line.partition("->"))
        student, _, name = row.partition(": ")
        if path:
            files[path] = next(CONTENTS[end] for end in CONTENTS if path.endswith(end))
        if name in ("not a notebook", "not readable"):
            rows[student] = name
        elif row:
            rows[student] = sorted([*rows.get(student, []), name])
    return files, rows


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_an_export_has_a_row_for_each_student(tmp_path, layout):
    files, rows = listed(layout)
    assert found(tmp_path, written(tmp_path / "unpacked", files))[0] == rows
    packed = written(tmp_path / "packed", {"export.zip": zipped(files)})
    assert found(tmp_path, packed / "export.zip")[0] == rows
    assert found(tmp_path, packed)[0] == rows


ZIPS = {  # as each platform names a zip, and whose it is
    "leeanna_12_678_week5.zip": "leeanna_12",
    "leeanna_12_678_week5-1.zip": "leeanna_12",
    "anon_q7ZtP_678901_week5.zip": "anon_q7ZtP",
    "Anna Lee_12345_assignsubmission_file_/week5.zip": "Anna Lee_12345",
    "Anna Lee_12345_assignsubmission_file_week5.zip": "Anna Lee_12345",
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
