"""Getting the faces, when all is well and when something fails: network, files, disk."""

import contextlib
import errno
import hashlib
import io
import os
import shutil
import socketserver
import tempfile
import threading
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from scipy.io import savemat
from sklearn.datasets import _olivetti_faces, fetch_olivetti_faces, get_data_home

import mf_solutions as mf

CACHE = "olivetti_py3.pkz"
BY_HAND = "olivettifaces.mat"
FACES = _olivetti_faces.FACES
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
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # scikit-learn's, before it retries
    monkeypatch.setattr(_olivetti_faces, "FACES", FACES._replace(url=CLOSED_PORT))
    return tmp_path / "data"


@pytest.fixture
def serve(monkeypatch):
    """Put a server in the place of scikit-learn's; optionally, of content it knows."""
    servers, threads = [], set(threading.enumerate())

    def start(*chunks, content=None):
        servers.append(Server(*chunks))
        remote = FACES._replace(url=servers[-1].url)
        if content is not None:
            remote = remote._replace(checksum=hashlib.sha256(content).hexdigest())
        monkeypatch.setattr(_olivetti_faces, "FACES", remote)

    yield start
    with warnings.catch_warnings():  # a call given up may still speak, in the next test otherwise
        warnings.simplefilter("ignore")
        for server in servers:
            server.close()
        for thread in set(threading.enumerate()) - threads:
            thread.join(5)


@pytest.fixture(scope="session")
def original(olivetti):
    """Return scikit-learn's faces, and the file they once came from; skip without them."""
    raw = joblib.load(Path(get_data_home(), CACHE))
    return fetch_olivetti_faces(download_if_missing=False), as_mat(raw)


def serve_content(serve, content):
    serve(http("200 OK", f"Content-Length: {len(content)}", body=content), content=content)


@pytest.fixture
def network(serve, original):
    serve_content(serve, original[1])


def call(linger=0, **options):
    """Call fetch_faces; return the faces, the text of each warning and the seconds taken."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        faces = mf.fetch_faces(**options)
        seconds = time.perf_counter() - start
        threading.Event().wait(linger)
    assert {w.category for w in caught} <= {UserWarning}
    return faces, [str(w.message) for w in caught], seconds


def content_of(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def check_fallback(faces, texts, folder):
    assert faces.name == "Labeled Faces in the Wild"
    assert faces.images.shape == (100, 25, 25) and faces.target is None
    assert 0 <= faces.images.min() < faces.images.max() <= 1 and faces.name in faces.DESCR
    assert faces.images.dtype == np.float32
    assert np.array_equal(faces.data, faces.images.reshape(100, 625))
    (text,) = texts
    for words in ["cannot be had", faces.name, "numbers differ", FACES.url, str(folder / BY_HAND)]:
        assert words in text


def check_olivetti(faces, original):
    assert faces.pop("name") == "Olivetti faces"
    assert faces.keys() == original[0].keys()
    for key, value in original[0].items():
        assert np.array_equal(faces[key], value)


FAILURES = {
    "connection refused": (CLOSED_PORT, "refused"),
    "403": ([http("403 Forbidden")], "403: Forbidden"),
    "cut": ([http("200 OK", "Content-Length: 400000", body=b"abc")], "got only 3 out of"),
    "wrong checksum": ([http("200 OK", body=b"abc")], "SHA256 checksum"),
    "a byte a second": (
        [http("200 OK", "Content-Length: 400000"), *[b"x"] * 60],
        "not complete after 1 s",
    ),
}


@pytest.mark.parametrize("remote, words", FAILURES.values(), ids=FAILURES)
def test_a_failed_download_is_named_and_replaced_in_time(
    remote, words, folder, serve, monkeypatch, capfd
):
    if isinstance(remote, str):
        monkeypatch.setattr(_olivetti_faces, "FACES", FACES._replace(url=remote))
    else:
        serve(*remote)
    before = content_of(folder.parent)
    timeout, linger = (1, 1) if "not complete" in words else (8, 0)  # to hear what comes late
    faces, texts, seconds = call(linger, timeout=timeout)
    check_fallback(faces, texts, folder)
    assert "the download failed" in texts[0] and words in texts[0]
    assert seconds < timeout + 5
    assert content_of(folder.parent) == before
    assert capfd.readouterr().out == ""


def test_where_no_thread_can_start_there_are_other_faces(folder, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")  # as in a browser's Python

    monkeypatch.setattr(threading.Thread, "start", start)
    faces, texts, _ = call()
    check_fallback(faces, texts, folder)
    assert "can't start new thread" in texts[0]


def test_the_warning_points_at_the_call():
    with pytest.warns(UserWarning, match="cannot be had") as caught:
        mf.fetch_faces()
    assert [w.filename for w in caught] == [__file__]


def test_other_faces_with_the_checksum_expected_are_refused(folder, serve):
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
    assert kept.keys() == {folder / "deeper", folder / "deeper" / CACHE}

    monkeypatch.setattr(_olivetti_faces, "FACES", FACES._replace(url=CLOSED_PORT))
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
    assert {path.name for path in folder.iterdir()} == {BY_HAND, CACHE}


DAMAGES = {
    "cache cut": (CACHE, as_pickle(OTHER_ARRAY)[:1000]),
    "cache of other images": (CACHE, as_pickle(OTHER_ARRAY)),
    "cache is a directory": (CACHE, Path.mkdir),
    "cache is a dangling link": (CACHE, lambda path: path.symlink_to("nowhere")),
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
    assert f"reading {damaged} failed" in texts[0] and "the download failed" in texts[0]
    assert content_of(folder.parent) == before

    serve_content(serve, original[1])
    faces, texts, _ = call()
    check_olivetti(faces, original)
    (text,) = texts
    assert text.startswith("These are the Olivetti faces") and f"reading {damaged} failed" in text
    after = content_of(folder.parent)
    assert after.keys() - before.keys() == {folder / CACHE} - {damaged}
    assert before.items() <= after.items()


def test_a_disk_full_halfway_leaves_no_part_of_a_copy(folder, network, original, monkeypatch):
    def half(source, scratch):
        assert Path(scratch).is_dir()
        assert Path(scratch).parent == folder  # on the same disk, so that a move is whole or not
        content = Path(source).read_bytes()
        Path(scratch, CACHE).write_bytes(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder.mkdir()
    monkeypatch.setattr(shutil, "copy", half)
    faces, texts, _ = call()
    check_olivetti(faces, original)
    (text,) = texts
    assert text.startswith("These are the Olivetti faces")
    assert f"no copy could be kept in {folder} (" in text
    assert not content_of(folder)
