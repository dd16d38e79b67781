"""The table and the pages: whatever a student wrote stays text, and every name is kept."""

import csv
import re

import feedback
import pytest
from feedback import Lines, Result
from judge import Verdict

RIGHT = Result(Verdict("correct", "P first", "multiplicative updates."))
HOSTILE = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a\r\n\tb\0c", "a b c"),
        ("\x1b[31mred\x1b[0m\x1b]0;title\x07\x1bc\x9b1m", "red 1m"),
        ("a\u202eb\u2066c\u200bd\u2028e\ufeff", "a b c d e"),
        ("\udcff\ue000", ""),
        ("naïve 数 ∇ می\u200cخواهم", "naïve 数 ∇ می\u200cخواهم"),
        ("x" * 500, "x" * 397 + "..."),
        ("\x1b]" * 10**6, ""),
    ],
)
def test_text_becomes_plain(text, expected):
    assert feedback.sentence(text) == expected


def test_a_line_of_source_keeps_its_margin():
    assert feedback.plain("\tx = 1  \n") == "    x = 1"


def test_names_are_told_apart_on_every_disk():
    names = ["x", "X", "x (2)", "x", "e\u0301", "é"]
    assert list(feedback.distinct(names)) == [
        "x",
        "X (2)",
        "x (2) (2)",
        "x (3)",
        "e\u0301",
        "é (2)",
    ]


def test_a_page_has_a_name_that_every_disk_takes():
    names = ["李" * 90, "李" * 91, "../../up", "a/b:c", "...", "Anna Lee (s1)"]
    pages = feedback.page_names(names)
    assert all(len(page.encode()) < 150 and "/" not in page for page in pages.values())
    assert len(set(pages.values())) == len(names)
    assert pages["../../up"] == "up.html" and pages["..."] == "student.html"


# ---- The table


def row(name, text="text"):
    return [name, "wrong", "label", text, "correct", "P first", ""]


def test_a_table_comes_back_as_it_was_written(tmp_path):
    table = tmp_path / "marks.csv"
    assert feedback.read_table(table) == {}
    rows = [row('Müller, 李 "x"'), row("=HYPERLINK(1)", "-1"), row("'x", "＝1")]
    feedback.write_table(table, rows)
    assert feedback.read_table(table) == {each[0]: each for each in rows}
    assert [path.name for path in tmp_path.iterdir()] == ["marks.csv"]


def test_a_spreadsheet_takes_every_cell_for_a_text(tmp_path):
    table = tmp_path / "marks.csv"
    feedback.write_table(table, [row("=1+1", "@SUM(1)"), row(" +1", "x=1")])
    content = table.read_bytes()
    assert content.startswith(b"\xef\xbb\xbfstudent,")  # so that Excel reads UTF-8
    with table.open(newline="", encoding="utf-8-sig") as file:
        cells = [(cells[0], cells[3]) for cells in csv.reader(file)]
    assert cells[1:] == [("'=1+1", "'@SUM(1)"), ("' +1", "x=1")]


@pytest.mark.parametrize("content", [b"=1\x1b[2J\n", b"PK\xff\xfe", b"a\0b"])
def test_a_file_that_is_no_table_is_refused(tmp_path, content):
    foreign = tmp_path / "thesis.csv"
    foreign.write_bytes(content)
    with pytest.raises(ValueError, match="expected a new file or an older table|cannot be read"):
        feedback.read_table(foreign)
    assert foreign.read_bytes() == content


# ---- The page


def test_a_page_is_text_whatever_the_student_wrote():
    verdict = Verdict("wrong", HOSTILE, HOSTILE, (("<i>", 1.0, 2.0),))
    source = [Lines(HOSTILE, 1, 1, ["if a < b:", "    print('\x1b[2J</pre>')"])]
    page = feedback.page(HOSTILE, [Result(verdict, source), RIGHT])
    assert not re.findall(r"<script|<i>|\x1b|</pre>'", page)
    assert page.count("</pre>") == 1 and "if a &lt; b:" in page


def test_a_page_loads_nothing():
    page = feedback.page("Anna", [RIGHT, RIGHT])
    assert "default-src 'none'" in page and not re.search(r"https?:|src=|href=|url\(", page)


def test_a_page_shows_where_answer_and_update_part():
    places = (("Q[0, 1] after step 1", 0.488, 0.731), ("Q[0, 0]", 0.12345678, 0.12345679))
    verdict = Verdict("wrong", "Q's step", "P is right.", places)
    page = feedback.page("Anna", [Result(verdict), RIGHT])
    assert "<tr><td>Q[0, 1] after step 1<td>0.488<td>0.731\n" in page
    assert "<td>0.12345678<td>0.12345679\n" in page


def test_a_page_shows_the_lines_of_the_cell_and_marks_the_one_that_raised():
    cells = [("week5.ipynb", 7, "a\nb\nc\nd"), ("helpers.py", 1, "x\r\ny")]
    source = feedback.cut_out(cells, [[0, 2, 3], [1, 1, 9]], [0, 3])
    assert source == [
        Lines("week5.ipynb", 7, 2, ["b", "c"], 3),
        Lines("helpers.py", 1, 1, ["x", "y"], 0),
    ]
    page = feedback.page("Anna", [Result(RIGHT.verdict, source), RIGHT])
    assert '<span data-line="3" class="marked">c</span>' in page
    assert "week5.ipynb, cell 7<" in page and "helpers.py<" in page


@pytest.mark.parametrize("told", [None, 1, [1], [[9, 1, 2]], [["0", 1, 2]], [[0, "x", {}]]])
def test_places_that_are_none_show_nothing(told):
    assert feedback.cut_out([("week5.py", 1, "a")], told, {"x": 1}) == []


def test_a_long_answer_is_cut():
    source = [Lines("week5.py", 1, 1, ["x"] * 400)] * 3
    page = feedback.page("Anna", [Result(RIGHT.verdict, source), RIGHT])
    assert page.count("<span") == feedback.LINES and "and more" in page
