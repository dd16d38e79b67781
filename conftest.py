"""Run the notebook together with the tests: nbval is on, with this environment's kernel."""

import os

import numpy as np
import pytest


def pytest_configure(config):
    os.environ.pop("MPLBACKEND", None)  # it would take the figures out of the notebook's outputs
    config.option.nbval = True
    config.option.nbval_current_env = True


@pytest.fixture(scope="session")
def olivetti():
    """Return the handout's 100 faces at 16 x 16, before and after centring."""
    from skimage.transform import resize
    from sklearn.datasets import fetch_olivetti_faces

    try:
        images = fetch_olivetti_faces(download_if_missing=False).images[:100]
    except OSError:
        pytest.skip("the Olivetti faces are not at hand; set SCIKIT_LEARN_DATA to their folder")
    small = resize(images.transpose(1, 2, 0), (16, 16)).transpose(2, 0, 1)
    D = small.reshape(100, 256)
    D_global = D - np.mean(D, axis=0)
    return D, D_global - np.mean(D_global, axis=1)[:, np.newaxis]
