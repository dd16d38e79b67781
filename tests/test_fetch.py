"""Getting the faces, when all is well and when something fails: network, files, disk."""

import contextlib
import errno
import io
import os
import socketserver
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from joblib import numpy_pickle
from scipy.io import loadmat, savemat
from sklearn.datasets import fetch_olivetti_faces, get_data_home

import mf_solutions as mf

CACHE = "olivetti_py3.pkz"
BY_HAND = "olivettifaces.mat"
CLOSED_PORT = "http://127.0.0.1:1/"


class Server(socketserver.ThreadingTCPServer):
    """Answer every request with the same chunks, one a second, until closed."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *chunks):
        super().__init__(("127.0.0.1", 0), None)
        self.chunks = chunks
        self.closed = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()

    def finish_request(self, request, client_address):
        with contextlib.suppress(OSError):  # the client may hang up
            request.recv(65536)
            for i, chunk in enumerate(self.chunks):
                if i and self.closed.wait(1):
                    return
                request.sendall(chunk)

    def close(self):
        self.closed.set()
        self.shutdown()
        self.server_close()


def http(status, *headers, body=b""):
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


def as_mat(array):
    file = io.BytesIO()
    savemat(file, {"faces": array.T})
    return file.getvalue()


def as_pickle(value):
    file = io.BytesIO()
    joblib.dump(value, file, compress=6)
    return file.getvalue()


OTHER_ARRAY = np.random.RandomState(1).randint(256, size=(400, 4096)).astype(np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Return the data folder, which does not exist yet."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)  # so that TMPDIR is looked at again
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(mf, "_URL", CLOSED_PORT)
    return tmp_path / "data"


@pytest.fixture
def serve(monkeypatch):
    """Put a server in the place of the true one."""
    servers = []

    def start(*chunks):
        servers.append(Server(*chunks))
        monkeypatch.setattr(mf, "_URL", servers[-1].url)

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def pixels(olivetti):
    """Return what is in the file at hand, scikit-learn's or the one that was downloaded."""
    home = Path(get_data_home())
    if (home / CACHE).is_file():
        return joblib.load(home / CACHE)
    if (home / BY_HAND).is_file():
        return loadmat(home / BY_HAND)["faces"].T.copy()
    pytest.skip("no copy of the Olivetti faces was kept")


@pytest.fixture(scope="session")
def own_copy(pixels):
    """Return scikit-learn's copy."""
    return as_pickle(pixels)


@pytest.fixture(scope="session")
def original(pixels, own_copy, tmp_path_factory):
    """Return scikit-learn's faces, and the file they once came from."""
    home = tmp_path_factory.mktemp("scikit-learn")
    (home / CACHE).write_bytes(own_copy)
    return fetch_olivetti_faces(data_home=home, download_if_missing=False), as_mat(pixels)


def serve_content(serve, content):
    serve(http("200 OK", f"Content-Length: {len(content)}", body=content))


@pytest.fixture
def network(serve, original):
    serve_content(serve, original[1])


def call(**options):
    """Call fetch_faces; return the faces, the text of each warning and the seconds taken."""
    filters = warnings.filters[:]
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        faces = mf.fetch_faces(**options)
    seconds = time.perf_counter() - start
    assert warnings.filters == filters
    assert {w.category for w in caught} <= {UserWarning}
    return faces, [str(w.message) for w in caught], seconds


def content_of(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def check_fallback(faces, texts, folder):
    assert faces.name == "Labeled Faces in the Wild"
    assert faces.images.shape == (100, 25, 25)
    assert 0 <= faces.images.min() < faces.images.max() <= 1
    assert faces.images.dtype == np.float32
    assert np.array_equal(faces.data, faces.images.reshape(100, 625))
    (text,) = texts
    for words in [
        "Instead of the Olivetti faces there are 100 of Labeled Faces in the Wild",
        "numbers differ",
        "make the folder",
        str(folder / BY_HAND),
    ]:
        assert words in text


def check_olivetti(faces, original):
    assert faces.pop("name") == "Olivetti faces"
    assert faces.keys() == {"images", "data"}
    for key in faces:
        assert np.array_equal(faces[key], original[0][key])
        assert faces[key].dtype == original[0][key].dtype


TIMED = http("200 OK", "Content-Length: 400000")
FAILURES = {
    "connection refused": (None, "refused"),
    "403": ([http("403 Forbidden")], "403: Forbidden"),
    "cut": ([http("200 OK", "Content-Length: 400000", body=b"abc")], "truncated"),
    "not the file": ([http("200 OK", body=b"<html>" * 100)], "Unknown mat file"),
    "silence": ([TIMED, *[b""] * 60], "timed out"),
    "a byte a second": ([TIMED, *[b"x"] * 60], "not complete after 6 s"),
}


@pytest.mark.parametrize("chunks, words", FAILURES.values(), ids=FAILURES)
def test_a_failed_download_is_named_and_replaced_in_time(chunks, words, folder, serve, capfd):
    if chunks:
        serve(*chunks)
    before = content_of(folder.parent)
    threads = threading.active_count()
    faces, texts, seconds = call(timeout=1.5)
    check_fallback(faces, texts, folder)
    assert f"{mf._URL} failed" in texts[0] and words in texts[0]
    assert seconds < 10
    assert content_of(folder.parent) == before
    assert capfd.readouterr().out == "" and threading.active_count() <= threads + 1


def test_a_slow_but_steady_line_gets_the_faces(folder, serve, original):
    content = original[1]
    third = len(content) // 3
    start = http("200 OK", f"Content-Length: {len(content)}", body=content[:third])
    serve(start, content[third : 2 * third], content[2 * third :])
    faces, texts, _ = call(timeout=1.5)
    check_olivetti(faces, original)
    assert not texts


def test_where_there_are_no_connections_there_are_other_faces(folder, monkeypatch):
    def refuse(*args, **options):
        raise RuntimeError("no sockets here")  # as in a browser's Python

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    faces, texts, _ = call()
    check_fallback(faces, texts, folder)
    assert "no sockets here" in texts[0]


def test_the_warning_points_at_the_call():
    with pytest.warns(UserWarning, match="Instead of the Olivetti faces") as caught:
        mf.fetch_faces()
    assert [w.filename for w in caught] == [__file__]


def test_other_faces_from_the_same_address_are_refused(folder, serve):
    serve_content(serve, as_mat(OTHER_ARRAY))
    before = content_of(folder.parent)
    faces, texts, _ = call()
    check_fallback(faces, texts, folder)
    assert "not that of the Olivetti faces" in texts[0]
    assert content_of(folder.parent) == before


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "15", None])
def test_a_timeout_that_is_no_time_is_refused(timeout):
    with pytest.raises((TypeError, ValueError), match="timeout must be (a number|finite)"):
        mf.fetch_faces(timeout=timeout)


def test_the_download_is_kept_and_then_does_without_the_network(
    folder, network, original, monkeypatch, capfd
):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(folder / "deeper"))
    faces, texts, _ = call()
    check_olivetti(faces, original)
    assert not texts and capfd.readouterr().out == ""
    kept = content_of(folder)
    assert kept.keys() == {folder / "deeper", folder / "deeper" / BY_HAND}

    monkeypatch.setattr(mf, "_URL", CLOSED_PORT)
    monkeypatch.setattr(tempfile, "mkdtemp", None)  # to read, no temporary folder is needed
    faces, texts, _ = call()
    check_olivetti(faces, original)
    assert not texts
    assert content_of(folder) == kept and not content_of(folder.parent / "scratch")


def test_a_file_put_by_hand_into_scikit_learns_own_folder_is_enough(
    tmp_path, original, monkeypatch
):
    monkeypatch.delenv("SCIKIT_LEARN_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = Path(get_data_home())
    (folder / BY_HAND).write_bytes(original[1])
    faces, texts, _ = call()
    check_olivetti(faces, original)
    assert not texts
    assert (folder / BY_HAND).read_bytes() == original[1]
    assert {path.name for path in folder.iterdir()} == {BY_HAND}


def test_a_copy_by_an_old_scikit_learn_is_read(folder, original, monkeypatch):
    """Until 0.22 joblib was a part of it, which a pickle names and newer ones do not find."""
    inside = "sklearn.externals.joblib.numpy_pickle"
    with monkeypatch.context() as then:
        then.setitem(sys.modules, inside, numpy_pickle)
        then.setattr(numpy_pickle.NumpyArrayWrapper, "__module__", inside)
        content = as_pickle(loadmat(io.BytesIO(original[1]))["faces"].T.copy())
    folder.mkdir()
    (folder / CACHE).write_bytes(content)
    faces, texts, _ = call()
    check_olivetti(faces, original)
    assert not texts


def test_scikit_learns_own_copy_is_read_and_nothing_is_written(folder, own_copy, original):
    folder.mkdir()
    (folder / CACHE).write_bytes(own_copy)
    faces, texts, _ = call()
    check_olivetti(faces, original)
    assert not texts
    assert content_of(folder) == {folder / CACHE: own_copy}


DAMAGES = {
    "cache cut": (CACHE, as_pickle(OTHER_ARRAY)[:1000]),
    "cache of other images": (CACHE, as_pickle(OTHER_ARRAY)),
    "cache is a directory": (CACHE, Path.mkdir),
    "cache is a dangling link": (CACHE, lambda path: path.symlink_to("nowhere")),
    "cache is a pipe": (CACHE, os.mkfifo),
    "file is a pipe": (BY_HAND, os.mkfifo),
    "file is a page": (BY_HAND, b"<html>" * 100),
    "file of other images": (BY_HAND, as_mat(OTHER_ARRAY)),
}


@pytest.fixture(params=DAMAGES.values(), ids=DAMAGES)
def damaged(request, folder):
    """Return the path of a file that is there but holds no Olivetti faces."""
    name, damage = request.param
    folder.mkdir()
    if callable(damage):
        damage(folder / name)
    else:
        (folder / name).write_bytes(damage)
    return folder / name


def test_a_damaged_file_is_named_and_left_alone_without_and_with_the_network(
    damaged, folder, serve, original
):
    before = content_of(folder.parent)
    faces, texts, _ = call()
    check_fallback(faces, texts, folder)
    named = f"{damaged} failed" in texts[0] and "move it away" in texts[0]
    assert named == damaged.is_file()  # a pipe, a folder or a link to nowhere is not looked at
    assert content_of(folder.parent) == before

    serve_content(serve, original[1])
    faces, texts, _ = call()
    check_olivetti(faces, original)
    assert len(texts) == damaged.is_file()
    if texts:
        assert f"{damaged} failed" in texts[0] and "move it away" in texts[0]
    after = content_of(folder.parent)
    assert after.keys() - before.keys() == {folder / BY_HAND} - {damaged}
    assert before.items() <= after.items()


def test_a_disk_full_halfway_leaves_no_part_of_a_copy(folder, network, original, monkeypatch):
    write = Path.write_bytes

    def half(path, content):
        assert path.parent.parent == folder  # on the same disk, so that a move is whole or not
        write(path, content[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder.mkdir()
    monkeypatch.setattr(Path, "write_bytes", half)
    faces, texts, _ = call()
    check_olivetti(faces, original)
    assert texts == [
        "No copy of the Olivetti faces could be kept ([Errno 28] No space left on device)"
    ]
    assert not content_of(folder)


class Bomb:
    """A pickle that leaves a file where it is read as pickles are."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_never_run(folder, tmp_path):
    folder.mkdir()
    (folder / CACHE).write_bytes(as_pickle(Bomb(tmp_path / "gone off")))
    faces, texts, _ = call()
    check_fallback(faces, texts, folder)
    assert not (tmp_path / "gone off").exists()


def test_two_calls_at_once_do_no_damage(folder, network, original):
    stdout, filters, got = sys.stdout, warnings.filters[:], []
    threads = [threading.Thread(target=lambda: got.append(mf.fetch_faces())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.stdout is stdout and warnings.filters == filters
    assert [path.name for path in folder.iterdir()] == [BY_HAND]
    assert len(got) == 4
    for faces in got:
        check_olivetti(faces, original)
