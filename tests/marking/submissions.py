"""Sort the files of a learning platform's export into students.

One table says how platforms name the files; one rule says what follows: a student's files go
together, under their own names, beside that student's answer and beside nobody else's. There is
a row for each student and for nothing else; what the platform adds has none.

Nothing is parsed here. Zips are unpacked once, into a scratch folder, under names of our own.
"""

import contextlib
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
from judge import Settled, Verdict

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
    # "101768-164537 - Anna Lee - Jan 25, 2025 204 PM/week5.ipynb", or with " - " for the "/"
    "Brightspace": r"(?P<student>\d+-\d+ - [^/]+?) - (?P<when>[^/-]*\b\d{4}\b[^/-]*?)(?:/| - )"
    r"(?P<own>.+)",
    # "submission_12345/week5.ipynb", beside submission_metadata.yml
    "Gradescope": r"(?P<student>submission_\d+)/(?P<own>.+)",
    # "Lee, Anna(s123)/Submission attachment(s)/week5.ipynb"
    "Sakai": r"(?P<student>[^/]*[^/ ]\([^/()]+\))[/_](?:Submission attachment\(s\)[/_](?P<own>.+)"
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
    """A file that was found, in a folder or in a zip, and what its name says."""

    parts: tuple  # its path, below what the tutor named
    place: Path = None
    member: tuple = ()  # the open zip, and what stands there for it
    size: int = 0
    fault: Verdict = None
    named: bool = False  # by the tutor, so it is read whatever it is called
    own: tuple = ()  # its path, as the student named it
    platform: str = ""
    when: str = ""
    number: str = ""
    added: str = ""

    @property
    def path(self):
        return "/".join(self.parts)

    def open(self):
        if self.place:
            return self.place.open("rb")
        archive, member = self.member
        return archive.open(member)

    def ends(self, *endings):
        return self.path.lower().endswith(endings)


def no_verdict(label, text):
    return Verdict("no verdict", label, text)


NO_NOTEBOOK = no_verdict("not a notebook", "expected a notebook or a .py file.")
ONLY_TEXT = no_verdict("not a notebook", "expected a notebook or a .py file, but got a text only.")
LINK = no_verdict("not readable", "it is a link, which is not followed, or nothing to be read.")
DEEP = no_verdict("not readable", f"there are more than {DEEPEST} folders in each other.")
LARGE = no_verdict("too large", f"expected at most {FILES} files and {BYTES >> 20} MB.")


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
        for student, files_of_one in shown(owned, gradescope_names(files)):
            if len(listings) > 1 and not files_of_one[0].platform:
                student = f"{prefix}/{student}"
            students.append(gathered(student, files_of_one, room))
        left += [file.path for file in rest]
    return sorted(students, key=lambda submission: submission.student), sorted(left)


def check(pattern):
    """Refuse a pattern of the tutor's that cannot say who is who."""
    try:
        groups = re.compile(pattern or "(?P<student>)").groupindex
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    if "student" not in groups:
        text = "expected a regular expression with a group, such as '(?P<student>s[0-9]+)_'"
        raise ValueError(f"{pattern!r}: {text}")


# ---- From paths to files


def listed(paths):
    """Return the files below each path; files in one folder, named one by one, go together."""
    listings = defaultdict(list)
    for path in map(Path, paths):
        whole = path.resolve()
        if path.is_dir():
            listings[whole] += in_folder(path)
            continue
        is_zip = path.name.lower().endswith(".zip")
        file = File(name_parts(path.name), path, size=path.stat().st_size, named=not is_zip)
        listings[whole if is_zip else whole.parent].append(file)
    return [(place.name, opened(files)) for place, files in listings.items()]


def opened(files):
    """Return the files; if there is only a zip, it is the export, and the files in it count."""
    if len(files) != 1 or files[0].fault or not files[0].ends(".zip"):
        return files
    try:
        return list(in_zip(zipfile.ZipFile(files[0].place))) or files
    except Exception as error:  # what a broken zip raises depends on where it is broken
        return [files[0]._replace(fault=not_readable(error))]


def in_folder(folder):
    """Yield the files below a folder; links are not followed, nor is what is too deep."""
    faults = []
    for here, inner, names in os.walk(folder, onerror=faults.append):
        above = name_parts(os.path.relpath(here, folder))
        if len(above) > DEEPEST:
            inner.clear()
            yield File(above, fault=DEEP)
        inner[:] = [name for name in inner if not is_left_out([name])]
        for place in map(Path(here).joinpath, sorted(inner + names)):
            parts = (*above, *name_parts(place.name))
            if parts == above or is_left_out(parts):
                continue
            is_link = os.path.islink(place)  # which raises nothing
            if os.path.isfile(place) and not is_link:
                yield File(parts, place, size=place.stat().st_size)
            elif is_link or not os.path.isdir(place):  # such as a pipe
                yield File(parts, place, fault=LINK)
    for error in faults:
        place = Path(error.filename)
        parts = (*name_parts(os.path.relpath(place, folder)), place.name)  # as if it lay inside
        yield File(parts, fault=not_readable(error))


def in_zip(archive):
    """Yield the files in a zip, none of which can lead out of it."""
    for member in archive.infolist():
        parts = name_parts(member.filename)
        if member.is_dir() or not parts or is_left_out(parts):
            continue
        fault = None
        if stat.S_ISLNK(member.external_attr >> 16):
            fault = LINK
        elif len(parts) > DEEPEST:
            parts, fault = parts[:DEEPEST], DEEP
        yield File(parts, member=(archive, member), size=member.file_size, fault=fault)


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
    """Return the files of each student, by the platform and the path that is theirs, and others."""
    owned, unnamed = defaultdict(list), []
    for file in files:
        key, file = by_pattern(file, pattern) if pattern else by_platform(file)
        if key:
            owned[key].append(file)
        else:
            unnamed.append(file)
    for key in list(owned):
        numbers = [file.number for file in owned[key] if file.number]
        if len(numbers) > len(set(numbers)):  # "week5_2025_03_anna.py" and "week5_2025_03_bo.py"
            unnamed += owned.pop(key)
    if pattern:
        return owned, unnamed
    plain, left = by_folder(unnamed)
    return owned | {("", name): own for name, own in plain.items()}, left


def by_pattern(file, pattern):
    """Return whose a file is by the tutor's pattern, and the file with the student's name for it.

    Without a group ``own`` that is what follows, if it is a name.
    """
    match = re.search(pattern, file.path)
    if not match or not match["student"]:
        return None, file
    follows = file.path[match.end() :].lstrip("/_- ")
    own = name_parts(match.groupdict().get("own") or follows)
    if not own or own[0].startswith("."):
        own = file.parts[-1:]
    return ("your own", match["student"]), file._replace(own=own, platform="your own")


def by_platform(file):
    """Return whose a file is by its name, and what that says; the match furthest out counts."""
    best = None
    for platform, expression in EXPRESSIONS.items():
        match = expression.fullmatch(file.path)
        if match and (not best or len(match["folder"]) < len(best["folder"])):
            best, file = match, file._replace(platform=platform)
    if not best:
        return None, file
    groups = best.groupdict(default="")
    student = groups.pop("folder") + groups.pop("student")
    own = name_parts(groups.pop("own", "")) or file.parts[-1:]
    return (file.platform, student), file._replace(own=own, **groups)


def by_folder(files):
    """Return the files of each student where names say nothing, and those that are nobody's.

    Single folders in each other, such as "export/week5", are gone through first.
    """
    if not files:
        return {}, []
    common = os.path.commonpath(["/".join(file.parts[:-1]) for file in files])
    depth = len(Path(common).parts)
    here, inner = at_depth(files, depth)
    owned, left = by_file(here)
    answers = [name for name, own in owned.items() if is_answer(own[0])]
    if len(answers) == 1 and not busy(inner):  # then the folders are that student's
        owned[answers[0]] += sum(inner.values(), [])
        inner = {}
    if depth and len(owned) == 1 and not inner:
        owned = {files[0].parts[depth - 1]: owned.popitem()[1]}
    owned = {name: lie_at(depth, own) for name, own in owned.items()}
    for folder in inner.values():
        owned.update(in_student_folders(folder, depth + 1, depth))
    return owned, left


def at_depth(files, depth):
    """Return the files that lie so many folders deep, and those in each folder there."""
    here, inner = [], defaultdict(list)
    for file in files:
        if len(file.parts) == depth + 1:
            here.append(file)
        else:
            inner[file.parts[depth]].append(file)
    return here, inner


def busy(inner):
    """Return how many folders hold answers."""
    return sum(any(map(is_answer, folder)) for folder in inner.values())


def lie_at(depth, files):
    """Return the files of a student whose folder is so deep."""
    return [file._replace(own=file.parts[depth:], platform="") for file in files]


def in_student_folders(files, depth, top):
    """Return the students of a folder: one, unless it has only folders, several with notebooks."""
    here, inner = at_depth(files, depth)
    if here or busy(inner) < 2:
        return {"/".join(files[0].parts[top:depth]): lie_at(depth, files)}
    owned = {}
    for folder in inner.values():
        owned.update(in_student_folders(folder, depth + 1, top))
    return owned


def by_file(files):
    """Return the students of a folder with files: one, or one for each answer.

    A helper beside several answers could be anybody's, so it is nobody's.
    """
    answers = [file for file in files if is_answer(file)]
    modules = [file for file in files if file.ends(".py")]
    named = named_in(answers, modules)
    notebooks = [file for file in answers if file not in modules]
    if len(notebooks) == 1 and named.issuperset(set(answers) - set(notebooks)):
        answers = notebooks  # which run the others
    owned = {file.parts[-1]: [file] for file in answers}
    stems = {stem(file) for file in answers}
    left = []
    for file in [file for file in files if file not in answers]:
        # a module that nobody names may be by a student who got no further
        is_row = file in modules and file not in named and len(answers) != 1
        if is_row or (is_document(file) and stem(file) not in stems):
            owned[file.parts[-1]] = [file]
        elif len(answers) == 1:
            owned[answers[0].parts[-1]].append(file)
        else:
            left.append(file)
    return owned, left


def named_in(answers, modules):
    """Return the modules that an answer names, as "from helpers import *" does."""
    named = set()
    for answer in answers if modules else ():
        text = beginning(answer)
        for module in modules:
            word = rb"\b%s\b" % re.escape(stem(module).encode())
            if module is not answer and re.search(word, text):
                named.add(module)
    return named


def stem(file):
    return file.parts[-1].partition(".")[0]


def is_answer(file):
    """Whether a file, among others of nobody knows whom, is what somebody handed in."""
    if file.named or file.fault not in (None, LINK) or file.ends(*NOTEBOOKS, ".zip"):
        return True
    return file.ends(".py", ".txt") and bool(ANSWER.search(beginning(file)))


def is_document(file):
    """Whether a file may be all that somebody handed in: a page, a text, an archive."""
    if file.fault or file.parts[-1] in ADDED:
        return False
    return not file.ends(*NO_ANSWERS)


def beginning(file):
    """Return what is read of a file to find out what it is."""
    if file.fault:  # a pipe would never end
        return b""
    try:
        with file.open() as stream:
            return stream.read(BYTES)
    except Exception:  # of a broken zip, or of the system
        return b""


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
    """Return the students' names, as the platform has them, with their files."""
    short = {}
    for platform, key in owned:
        name = key.rpartition("/")[2] if platform else key
        if platform == "Blackboard":  # whose names begin with the assignment's
            name = name.rpartition("_")[2]
        short[platform, key] = f"{name} {names.get(name, '')}".rstrip()
    count = Counter(short.values())
    for (platform, key), name in short.items():
        yield name if count[name] == 1 else key, owned[platform, key]


# ---- From a student's files to a submission


def gathered(student, files, room):
    """Return the submission of a student; whatever goes wrong is the fault of this one."""
    try:
        return Submission(student, collected(files, room))
    except Settled as settled:
        return Submission(student, {}, settled.args[0])
    except Exception as error:  # of a broken zip, or of the system, as where the disk is full
        return Submission(student, {}, not_readable(error))


def collected(files, room):
    """Return a student's files by the names that they should have, or raise Settled."""
    kept, size, reason = [], 0, NO_NOTEBOOK
    if all(file.added for file in files):
        reason = ONLY_TEXT
    for file in unpacked(files, room):
        if file.fault is LINK:
            reason = LINK
        elif file.fault:
            raise Settled(file.fault)
        elif file.named or (file.ends(*WANTED) and not file.added):
            kept.append(file)
            size += file.size
        if len(kept) > FILES or size > BYTES:
            raise Settled(LARGE)
    found = laid_out(latest(kept), room)
    if not any(map(is_code, found)):
        raise Settled(reason)
    return found


def is_code(name):
    return name.lower().endswith((*NOTEBOOKS, ".py"))


def unpacked(files, room):
    """Yield the files, and in the place of a zip what is in it."""
    todo = [(file, 0) for file in files]
    for file, depth in todo:  # which grows
        if file.fault or not file.ends(".zip") or depth == ZIPS_IN_ZIPS:
            yield file
        elif file.size > PACKED:
            yield file._replace(fault=LARGE)
        else:
            for inner in in_zip(opened_zip(on_disk(file, room))):
                inner = inner._replace(own=inner.parts, platform=file.platform, when=file.when)
                todo.append((inner, depth + 1))


def opened_zip(path):
    """Open a zip whose table of contents is no burden to read."""
    with path.open("rb") as stream:
        end = zipfile._EndRecData(stream)  # which is all that ZipFile reads first
    if end and end[zipfile._ECD_SIZE] > CONTENTS:
        raise zipfile.BadZipFile("there are too many files in the zip")
    return zipfile.ZipFile(path)


def on_disk(file, room):
    """Return where a file lies; what is in a zip is unpacked, never more of it than it says."""
    if not file.member:
        return file.place
    place = room / str(next(NUMBERS))
    with file.open() as stream, place.open("wb") as copy:
        shutil.copyfileobj(stream, copy)
    return place


def latest(files):
    """Of several attempts, leave out the notebooks before the last that has one."""
    last = max([attempt(file) for file in files if is_code(file.own[-1])], default="")
    files = sorted(files, key=attempt)
    return [file for file in files if not is_code(file.own[-1]) or attempt(file) == last]


def attempt(file):
    """Return a date to sort by; Brightspace writes "Jan 25, 2025 204 PM"."""
    with contextlib.suppress(ValueError):  # in another language
        when = re.sub(r"\b(?=\d{3} [AP]M)", "0", file.when)
        return datetime.strptime(when, "%b %d, %Y %I%M %p").isoformat()
    return file.when


def laid_out(files, room):
    """Return where files lie, by the names that they should have beside the answer."""
    code = [file for file in files if is_code(file.own[-1])]
    code.sort(key=lambda file: (not file.ends(*NOTEBOOKS), len(file.own)))
    home = ""  # the folder of the notebook that is furthest out
    if code:
        home = "".join(f"{folder}/" for folder in code[0].own[:-1])
    names = {}
    for file in files:
        name = "/".join(file.own).removeprefix(home)
        names[name + missing_ending(file)] = file
    for name, file in list(names.items()):
        plain = without_additions(name, file.platform)
        if plain not in names:
            names[plain] = names.pop(name)
    return {name: on_disk(file, room) for name, file in names.items()}


def missing_ending(file):
    """Return the ending that says what a file is, where its name does not."""
    if is_code(file.own[-1]):
        return ""
    if file.ends(".txt") and ANSWER.search(beginning(file)):
        return ".py"  # as nbconvert exports a notebook that does not say its language
    return ".ipynb" if file.named else ""


def without_additions(name, platform):
    """Return a name without what a platform adds to it.

    Canvas writes "helpers-1.py" if it has seen that name, ILIAS "Late Submission - helpers.py", in
    its language; no module has such a name, as it could not be imported.
    """
    if platform.startswith("Canvas"):
        name = re.sub(r"-\d+(?=(\.\w+)+\Z)", "", name)
    return re.sub(r"(\A|(?<=/))[^/]+ - (?=\w+\.py\Z)", "", name)
