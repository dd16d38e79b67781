"""Sort the files of a learning platform's export into students.

One table says how platforms name the files; one rule says what follows: a student's files go
together, under their own names, beside that student's answer and beside nobody else's. There is
a row for each student and for nothing else; what the platform adds has none.

Nothing is parsed here. Zips are unpacked once, into a scratch folder, under names of our own.
"""

import itertools
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from exercises import EXERCISES
from judge import Verdict

NOTEBOOKS = (".ipynb", ".ipynb.json", ".ipynb.txt")  # browsers add to the name
HELPERS = (".py", ".csv", ".tsv", ".txt", ".json", ".npy", ".npz", ".mat", ".toml")
WANTED = (*NOTEBOOKS, *HELPERS)  # all that counts of what a student hands in
NO_ANSWERS = (*HELPERS, ".md", ".yml", ".yaml", ".xls", ".xlsx", ".log")  # nor anybody's row
ADDED = {"index.html", "feedbackText.html", "Thumbs.db", "desktop.ini"}  # by no student
LEFT_OUT = {"__MACOSX", "__pycache__", "node_modules", "site-packages", "venv"}  # and hidden ones

FILES, BYTES = 500, 50 * 2**20  # of a student, of what counts
PACKED = 4 * BYTES  # a zip in a zip
CONTENTS = 2**23  # bytes of a zip's table of contents, some 100,000 files
ZIPS_IN_ZIPS = 3
DEEPEST = 30  # folders
LONGEST = 255  # bytes of a name
NUMBERS = itertools.count()  # the names of what is unpacked

# How platforms name the files. In each: <student>; <own>, the name that the student gave; <when>
# it was handed in, where there may be several attempts; <number>, which only one file can have;
# <added>, what the student did not hand in.
PLATFORMS = {
    # "leeanna_LATE_12_678901_week5.ipynb"; without a second number it is a text or a link
    "Canvas": r"(?P<student>\w+?_\d+)_"
    r"(?:(?P<number>\d+)_(?P<own>[^/]+)|(?P<added>(?:text|link)\.html))",
    "Canvas, anonymous": r"(?P<student>(?:LATE_)?anon_(?:LATE_)?[A-Za-z0-9]+)_"
    r"(?:\d+_(?P<own>[^/]+)|(?P<added>(?:text|link)\.html))",
    # "Anna Lee_12345_assignsubmission_file_/week5.ipynb", or all of it in the name of the file
    "Moodle": r"(?P<student>[^/]+?_\d+)_assignsubmission_(?:file_?/?(?P<own>.+)|(?P<added>.+))",
    # "Week 5_s123_attempt_2025-03-03-11-01-00_week5.ipynb"; a receipt ends at the date
    "Blackboard": r"(?P<student>[^/]+)_attempt_(?P<when>[\d-]{19})"
    r"(?:_(?P<own>.+)|(?P<added>\.txt))",
    # "101768-164537 - Anna Lee - Jan 25, 2025 204 PM/week5.ipynb"
    "Brightspace": r"(?P<student>\d+-\d+ - [^/]+) - (?P<when>[^/]+)/(?P<own>.+)",
    # "submission_12345/week5.ipynb", beside submission_metadata.yml
    "Gradescope": r"(?P<student>submission_\d+)/(?P<own>.+)",
    # "Lee, Anna(s123)/Submission attachment(s)/week5.ipynb"
    "Sakai": r"(?P<student>[^/]+\([^/()]+\))[/_](?:Submission attachment\(s\)[/_](?P<own>.+)"
    r"|(?P<added>timestamp\.txt|comments\.txt|[^/]*Text\.html|Feedback Attachment\(s\)/.+))",
    # "submitted/s123/week5/week5.ipynb"
    "nbgrader": r"submitted/(?P<student>[^/]+)/[^/]+/(?P<own>.+)",
}
# ILIAS ("Lee_Anna_s123_456/week5.ipynb"), GitHub Classroom ("week5-anna/week5.ipynb") and plain
# folders need no pattern: what lies in a student's folder is that student's.

EXPRESSIONS = {
    platform: re.compile(rf"(?s)(?P<folder>(?:[^/]+/)*?){pattern}")
    for platform, pattern in PLATFORMS.items()
}
ANSWER = re.compile(rf"(?m)^[ \t]*(?:def[ \t]+)?(?:{'|'.join(EXERCISES)})\b".encode())


class Submission(NamedTuple):
    """What a student handed in: the answer's files, or why there is nothing to judge."""

    student: str  # as the platform names the student
    files: dict  # from the name that a file should have to the path where it lies now
    fault: Verdict = None


class File(NamedTuple):
    """A file that was found, in a folder or in a zip."""

    parts: tuple  # its path, below what the tutor named
    size: int = 0
    place: Path = None
    member: tuple = ()  # the open zip, and what stands there for it
    fault: Verdict = None
    named: bool = False  # by the tutor, so it is read whatever it is called

    @property
    def path(self):
        return "/".join(self.parts)

    def open(self):
        return self.member[0].open(self.member[1]) if self.member else self.place.open("rb")

    def ends(self, *endings):
        return self.path.lower().endswith(endings)


class Piece(NamedTuple):
    """A file and whose it is."""

    file: File
    own: tuple  # its path, as the student named it
    platform: str = ""
    when: str = ""
    number: str = ""
    added: str = ""


def no_verdict(label, text):
    return Verdict("no verdict", label, text)


NO_NOTEBOOK = no_verdict("not a notebook", "expected a notebook or a .py file.")
ONLY_TEXT = no_verdict("not a notebook", "expected a notebook or a .py file, but got a text only.")
LINK = no_verdict("not readable", "it is a link to another file, and links are not followed.")
ENCRYPTED = no_verdict("not readable", "the zip asks for a password.")
DEEP = no_verdict("not readable", f"there are more than {DEEPEST} folders in each other.")


def too_large(files, size):
    text = f"expected at most {FILES} files and {BYTES >> 20} MB, "
    text += f"but got {size / 2**20:.0f} MB or more, in {files} or more files."
    return no_verdict("too large", text)


def not_readable(error):
    return no_verdict("not readable", f"{type(error).__name__}: {error}")


def find(paths, scratch, pattern=None):
    """Return the submissions in these files, folders and zips, and the names that are nobody's.

    ``scratch`` is a folder for what is unpacked; ``pattern`` a regular expression of the tutor's,
    with a group ``student``, searched in the path of each file in the place of the table above.
    """
    check(pattern)
    room = Path(tempfile.mkdtemp(prefix="unpacked-", dir=scratch))
    students, left = [], []
    listings = listed(paths)
    for prefix, files in listings:
        owned, rest = sorted_out(files, pattern)
        names = shown(owned, gradescope_names(files))
        for key, pieces in owned.items():
            student = names[key]
            if len(listings) > 1 and not pieces[0].platform:
                student = f"{prefix}/{student}"
            students.append(gathered(student, pieces, room))
        left += [file.path for file in rest]
    students.sort(key=lambda submission: submission.student)
    return [one._replace(student=name) for one, name in distinct(students)], sorted(left)


def check(pattern):
    """Refuse a pattern of the tutor's that cannot say who is who."""
    if pattern is None:
        return
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    if "student" not in expression.groupindex:
        raise ValueError(
            f"{pattern!r}: expected a regular expression with a group for the student, such as "
            "'(?P<student>s[0-9]+)_', but it has none"
        )


def distinct(students):
    """Yield each submission with a name that no other has, on any system's disk."""
    taken = set()
    for submission in students:
        name, number = submission.student, 1
        while name.lower() in taken:
            number += 1
            name = f"{submission.student} ({number})"
        taken.add(name.lower())
        yield submission, name


# ---- From paths to files


def listed(paths):
    """Return the files below each path; files in one folder, named one by one, go together."""
    listings, singles = [], defaultdict(list)
    for path in map(Path, paths):
        if path.is_dir():
            listings.append((path.resolve().name, opened(in_folder(path))))
        elif path.name.lower().endswith(".zip"):
            file = File((path.name,), path.stat().st_size, path)
            listings.append((path.name, opened([file])))
        else:
            file = File(name_parts(path.name), path.stat().st_size, path, named=True)
            singles[path.parent].append(file)
    return listings + [(folder.resolve().name, files) for folder, files in singles.items()]


def opened(files):
    """Return the files; if there is only a zip, it is the export, and the files in it count."""
    files = list(files)
    if len(files) > 1 or not files or files[0].fault or not files[0].ends(".zip"):
        return files
    try:
        return list(in_zip(zipfile.ZipFile(files[0].place))) or files
    except Exception as error:  # what a broken zip raises depends on where it is broken
        return [files[0]._replace(fault=not_readable(error))]


def in_folder(folder):
    """Yield the files below a folder; links are not followed, nor is what is too deep."""
    todo = [(folder, ())]
    for here, parts in todo:  # which grows
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            yield File((*parts, here.name), place=here, fault=not_readable(error))
            continue
        for entry in entries:
            below = (*parts, *name_parts(entry.name))
            if below == parts or is_left_out(below):
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield from in_entry(entry, below)
            elif len(below) > DEEPEST:
                yield File(below, place=Path(entry), fault=DEEP)
            else:
                todo.append((Path(entry), below))


def in_entry(entry, parts):
    file = File(parts, place=Path(entry))
    if entry.is_symlink():
        if file.ends(*NOTEBOOKS):
            yield file._replace(fault=LINK)
        return
    try:
        if entry.is_file():  # and no pipe
            yield file._replace(size=entry.stat().st_size)
    except OSError as error:
        yield file._replace(fault=not_readable(error))


def in_zip(archive):
    """Yield the files in a zip, none of which can lead out of it."""
    for member in archive.infolist():
        parts = name_parts(member.filename)
        if member.is_dir() or not parts or is_left_out(parts):
            continue
        fault = None
        if stat.S_ISLNK(member.external_attr >> 16):
            fault = LINK
        elif member.flag_bits & 1:
            fault = ENCRYPTED
        elif len(parts) > DEEPEST:
            parts, fault = parts[:DEEPEST], DEEP
        yield File(parts, member.file_size, member=(archive, member), fault=fault)


def name_parts(name):
    """Return the folders and the name in a path, of Windows too, as any disk takes them."""
    parts = [part for part in re.split(r"[/\\]+", name) if part not in ("", ".", "..")]
    return tuple(re.sub(r'[<>:"|?*\0-\x1f\ud800-\udfff]', "_", cut(part)) for part in parts)


def cut(name):
    """Shorten a name that no disk would take, in the middle, so that its ending stays."""
    if len(name.encode(errors="replace")) <= LONGEST:
        return name
    return f"{name[:30]}_{name[-30:]}"


def is_left_out(parts):
    return any(part in LEFT_OUT or part.startswith(".") for part in parts)


# ---- From files to students


def sorted_out(files, pattern):
    """Return the pieces of each student, by the path or the beginning of it that is theirs."""
    owned, unnamed = defaultdict(list), []
    for file in files:
        key, piece = by_pattern(file, pattern) if pattern else by_platform(file)
        if piece:
            owned[key].append(piece)
        else:
            unnamed.append(file)
    for key in [key for key, pieces in owned.items() if not is_one_student(pieces)]:
        unnamed += [piece.file for piece in owned.pop(key)]
    left = unnamed
    if not pattern:
        plain, left = by_folder(unnamed)
        for key, pieces in plain.items():
            is_other = any(not piece.added for piece in owned[key])
            owned[f"{key}/" if is_other else key] += pieces
    return owned, left


def is_one_student(pieces):
    """Whether no number comes twice, as in "week5_2025_03_anna.py" and "week5_2025_03_bo.py"."""
    numbers = [piece.number for piece in pieces if piece.number]
    return len(numbers) == len(set(numbers))


def by_pattern(file, pattern):
    """Return whose a file is by the tutor's pattern, and the piece.

    Without a group ``own`` the student's name for it is what follows, if that is a name.
    """
    match = re.search(pattern, file.path)
    if not match or not match["student"]:
        return None, None
    follows = file.path[match.end() :].lstrip("/_- ")
    own = name_parts(match.groupdict().get("own") or follows)
    if not own or own[0].startswith("."):
        own = file.parts[-1:]
    return match["student"], Piece(file, own, "your own")


def by_platform(file):
    """Return whose a file is by its name, and the piece; the match that is furthest out counts."""
    found = {}
    for platform, expression in EXPRESSIONS.items():
        match = expression.fullmatch(file.path)
        if match:
            found[platform] = match
    if not found:
        return None, None
    platform = min(found, key=lambda platform: len(found[platform]["folder"]))
    groups = found[platform].groupdict(default="")
    own = name_parts(groups.get("own", "")) or file.parts[-1:]
    more = {name: groups.get(name, "") for name in ("when", "number", "added")}
    return groups["folder"] + groups["student"], Piece(file, own, platform, **more)


def by_folder(files):
    """Return the pieces of each student where names say nothing, and the files that are nobody's.

    Single folders in each other, such as "export/week5", are gone through first.
    """
    depth = 0
    while files and all(len(file.parts) > depth + 1 for file in files):
        if len({file.parts[depth] for file in files}) > 1:
            break
        depth += 1
    here = [file for file in files if len(file.parts) == depth + 1]
    owned, left = by_file(here)
    inner = folders(files, depth)
    answers = [name for name, pieces in owned.items() if is_answer(pieces[0].file)]
    if len(answers) == 1 and not busy(inner):  # then the folders are that student's
        for folder in inner.values():
            owned[answers[0]] += [one_piece(file, depth) for file in folder]
        inner = {}
    if depth and len(owned) == 1 and not inner:
        return {files[0].parts[depth - 1]: owned.popitem()[1]}, left
    for folder in inner.values():
        owned.update(in_student_folders(folder, depth + 1, depth))
    return owned, left


def busy(inner):
    """Return the folders that hold answers."""
    return [folder for folder in inner.values() if any(map(is_answer, folder))]


def folders(files, depth):
    found = defaultdict(list)
    for file in files:
        if len(file.parts) > depth + 1:
            found[file.parts[depth]].append(file)
    return found


def in_student_folders(files, depth, top):
    """Return the students of a folder: one, unless it has only folders, several with notebooks."""
    inner = folders(files, depth)
    only_folders = sum(map(len, inner.values())) == len(files)
    if not only_folders or len(busy(inner)) < 2:
        key = "/".join(files[0].parts[top:depth])
        return {key: [one_piece(file, depth) for file in files]}
    owned = {}
    for folder in inner.values():
        owned.update(in_student_folders(folder, depth + 1, top))
    return owned


def one_piece(file, depth=-1):
    """Return a file of a student whose folder is so deep, or who has no folder."""
    return Piece(file, file.parts[depth:])


def by_file(files):
    """Return the students of a folder with files: one, or one for each answer.

    A helper beside several answers could be anybody's, so it is nobody's.
    """
    answers = [file for file in files if is_answer(file)]
    modules = [file for file in files if file.ends(".py")]
    named = named_in(answers, modules)
    notebooks = [file for file in answers if file not in modules]
    if len(notebooks) == 1 and len(answers) == 2 and named.intersection(answers):
        answers = notebooks  # which run the other one
    owned = {file.parts[-1]: [one_piece(file)] for file in answers}
    stems = {stem(file) for file in answers}
    left = []
    for file in files:
        if file in answers:
            continue
        if is_document(file) and stem(file) not in stems:
            owned[file.parts[-1]] = [one_piece(file)]
        elif len(answers) != 1 and file in modules and file not in named:
            owned[file.parts[-1]] = [one_piece(file)]  # perhaps by a student who got no further
        elif len(answers) == 1:
            owned[answers[0].parts[-1]].append(one_piece(file))
        else:
            left.append(file)
    return owned, left


def named_in(answers, modules):
    """Return the modules that an answer names, as "from helpers import *" does."""
    words = {file: re.compile(rb"\b%s\b" % re.escape(stem(file).encode())) for file in modules}
    named = set()
    for answer in answers if modules else ():
        text = beginning(answer)
        named.update(x for x in modules if x is not answer and words[x].search(text))
    return named


def stem(file):
    return file.parts[-1].partition(".")[0]


def is_answer(file):
    """Whether a file, among others of nobody knows whom, is what somebody handed in."""
    if file.named or file.fault or file.ends(*NOTEBOOKS, ".zip"):
        return True
    return file.ends(".py", ".txt") and bool(ANSWER.search(beginning(file)))


def is_document(file):
    """Whether a file may be all that somebody handed in: a page, a text in UTF-16, an archive."""
    if file.parts[-1] in ADDED:
        return False
    in_utf16 = file.ends(".py") and b"\0" in beginning(file)
    return in_utf16 or not file.ends(*NO_ANSWERS)


def beginning(file):
    """Return what is read of a file to find out what it is."""
    try:
        with file.open() as stream:
            return stream.read(BYTES)
    except Exception:  # of a broken zip, or of the system
        return b""


# ---- From a student's files to a submission


def gradescope_names(files):
    """Return the students' names for "submission_11" and the like, as Gradescope lists them."""
    names = {}
    for file in files:
        if file.parts[-1] == "submission_metadata.yml":
            text = beginning(file).decode(errors="replace")
            for folder, about in re.findall(r"(?ms)^(submission_\d+):$(.*?)(?=^\w|\Z)", text):
                names[folder] = ", ".join(re.findall(r"(?m)^[ -]+:?name: *(.+?) *$", about))
    return names


def shown(owned, names):
    """Return the name of each student, as the platform has it."""
    short = {}
    for key, pieces in owned.items():
        if pieces[0].platform == "Blackboard":  # whose names begin with the assignment's
            short[key] = key.rpartition("_")[2]
        else:
            short[key] = key.rpartition("/")[2] if pieces[0].platform else key
        if names.get(short[key]):
            short[key] += f" {names[short[key]]}"
    count = Counter(short.values())
    return {key: name if count[name] == 1 else key for key, name in short.items()}


def gathered(student, pieces, room):
    """Return the submission of a student; whatever goes wrong is the fault of this one."""
    try:
        files, faults = collected(pieces, room)
    except Exception as error:  # of a broken zip, or of the system, as where the disk is full
        return Submission(student, {}, not_readable(error))
    if isinstance(files, Verdict):
        return Submission(student, {}, files)
    if any(is_code(name) for name in files):
        return Submission(student, files)
    if all(piece.added for piece in pieces):
        faults = [ONLY_TEXT]
    return Submission(student, {}, [*faults, NO_NOTEBOOK][0])


def is_code(name):
    return name.lower().endswith((*NOTEBOOKS, ".py"))


def collected(pieces, room):
    """Return the files of a student, or a verdict where there are too many, and single faults."""
    kept, faults, size = [], [], 0
    for piece in unpacked(pieces, room):
        file = piece.file
        if file.fault:
            if file.fault is DEEP or not file.ends(*WANTED):
                return file.fault, []
            faults.append(file.fault)
        elif file.named or (file.ends(*WANTED) and not piece.added):
            kept.append(piece)
            size += file.size
        if len(kept) > FILES or size > BYTES:
            return too_large(len(kept), size), []
    return laid_out(latest(kept), room), faults


def unpacked(pieces, room):
    """Yield the pieces, and in the place of a zip what is in it."""
    todo = [(piece, 0) for piece in pieces]
    for piece, depth in todo:  # which grows
        file = piece.file
        if file.fault or not file.ends(".zip") or depth == ZIPS_IN_ZIPS:
            yield piece
            continue
        try:
            archive = zipfile.ZipFile(checked(on_disk(file, room, PACKED)))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            yield piece._replace(file=file._replace(fault=not_readable(error)))
            continue
        for inner in in_zip(archive):
            todo.append((piece._replace(file=inner, own=inner.parts), depth + 1))


def checked(path):
    """Return the path of a zip if its table of contents is no burden to read."""
    with path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(-min(stream.tell(), 2**16 + 64), os.SEEK_END)
        end = stream.read().rpartition(b"PK\5\6")
    size = int.from_bytes(end[2][8:12], "little")
    if size > CONTENTS or b"PK\6\7" in end[0][-20:]:  # the mark of still larger tables
        raise zipfile.BadZipFile("there are too many files in the zip")
    return path


def on_disk(file, room, most=BYTES):
    """Return where a file lies; what is in a zip is written to the disk, but not more than that."""
    if not file.member:
        return file.place
    place = room / str(next(NUMBERS))
    with file.open() as stream, place.open("wb") as copy:
        shutil.copyfileobj(Limited(stream, most), copy, 2**20)
    return place


class Limited:
    """A stream that ends in an error after so many bytes, whatever the zip says of its length."""

    def __init__(self, stream, most):
        self.stream, self.most = stream, most

    def read(self, size):
        data = self.stream.read(size)
        self.most -= len(data)
        if self.most < 0:
            raise ValueError("a file in the zip is too large")
        return data


def latest(pieces):
    """Of several attempts, leave out the notebooks before the last that has one."""
    attempts = [attempt(piece) for piece in pieces if is_code(piece.own[-1]) and piece.when]
    pieces = sorted(pieces, key=attempt)
    if not attempts:
        return pieces
    return [x for x in pieces if not is_code(x.own[-1]) or attempt(x) == max(attempts)]


def attempt(piece):
    """Return a date to sort by; Brightspace writes "Jan 25, 2025 204 PM"."""
    day, _, time = piece.when.rpartition(", ")
    digits = re.fullmatch(r"(\d{4}) (\d{3,4}) ([AP]M)", time)
    if not digits:
        return piece.when
    year, hour, half = digits.groups()
    try:
        date = datetime.strptime(f"{day} {year} {hour:0>4} {half}", "%b %d %Y %I%M %p")
    except ValueError:  # in another language
        return piece.when
    return date.isoformat()


def laid_out(pieces, room):
    """Return the files by the names that they should have beside the answer."""
    home = home_of(pieces)
    files = {}
    for piece in pieces:
        own = piece.own
        if own[: len(home)] == home:
            own = own[len(home) :]
        files["/".join(own) + missing_ending(piece)] = piece
    for name, piece in list(files.items()):
        plain = without_number(name)
        if piece.platform.startswith("Canvas") and plain not in files:
            files[plain] = files.pop(name)
    places = {Path(name) for name in files}
    return {
        name: on_disk(piece.file, room)
        for name, piece in files.items()
        if not places.intersection(Path(name).parents)  # a file by the name of a folder
    }


def home_of(pieces):
    """Return the folder of the notebook, or else of the module, that is furthest out."""
    folders = [piece.own[:-1] for piece in pieces if piece.file.ends(*NOTEBOOKS)]
    if not folders:
        folders = [piece.own[:-1] for piece in pieces if is_code(piece.own[-1])]
    return min(folders, key=len, default=())


def missing_ending(piece):
    """Return the ending that says what a file is, where its name does not."""
    if is_code(piece.own[-1]):
        return ""
    if piece.file.ends(".txt") and ANSWER.search(beginning(piece.file)):
        return ".py"  # as nbconvert exports a notebook that does not say its language
    return ".ipynb" if piece.file.named else ""


def without_number(name):
    """Return a name without what Canvas adds to one that it has seen: "helpers-1.py"."""
    return re.sub(r"-\d+(?=(\.\w+)+\Z)", "", name)
