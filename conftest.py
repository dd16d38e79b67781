"""Run the notebook together with the tests, and compare what the faces at hand allow.

With the Olivetti faces every stored output is compared (nbval, strict). Without
them the notebook runs on other faces, and only the cells whose output holds for
any faces are compared (nbval, lax).
"""

import os
import socket
import warnings

import marking
import numpy as np
import pytest
from jupyter_client.connect import ConnectionFileMixin

import mf_solutions as mf

FACES = pytest.StashKey()


def pytest_addoption(parser):
    marking.add_options(parser)


def pytest_configure(config):
    os.environ.pop("MPLBACKEND", None)  # it would take the figures out of the notebook's outputs
    if not loopback_answers():  # then kernels cannot be spoken to by TCP
        if config.option.submission:  # whose kernels work elsewhere, where "ipc" does not find them
            raise pytest.UsageError("--submission needs the loopback network, which is down")
        ConnectionFileMixin.transport.default_value = "ipc"
    config.option.nbval_current_env = True
    if config.option.submission:
        return marking.configure(config)  # which needs no faces
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        faces = mf.fetch_faces()
    why = "; ".join(str(warning.message) for warning in caught)
    strict = faces.name == mf.OLIVETTI
    if config.option.nbval and not strict:
        raise pytest.UsageError(
            "--nbval compares the outputs stored for the Olivetti faces, which are missing here. "
            f"{why}. Without --nbval, pytest compares what holds for any faces"
        )
    config.stash[FACES] = faces, why
    config.option.nbval = strict
    config.option.nbval_lax = not strict


def loopback_answers():
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError:
        return False
    return True


def pytest_terminal_summary(terminalreporter, config):
    if FACES not in config.stash:
        return
    faces, why = config.stash[FACES]
    how = (
        "every stored output compared"
        if faces.name == mf.OLIVETTI
        else "compared: what holds for any faces"
    )
    terminalreporter.write_line(f"faces: {faces.name}; {how}" + (f"; {why}" if why else ""))


@pytest.fixture(scope="session")
def loopback():
    """Skip what needs a server of its own where the machine cannot speak to itself."""
    if not loopback_answers():
        pytest.skip("the loopback network is down")


@pytest.fixture(scope="session")
def olivetti(request):
    """Return the handout's 100 faces at 16 x 16, before and after centring."""
    from skimage.transform import resize

    faces, why = request.config.stash[FACES]
    if faces.name != mf.OLIVETTI:
        pytest.skip(why)
    images = faces.images[:100]
    small = resize(images.transpose(1, 2, 0), (16, 16)).transpose(2, 0, 1)
    D = small.reshape(100, 256)
    D_global = D - np.mean(D, axis=0)
    return D, D_global - np.mean(D_global, axis=1)[:, np.newaxis]
