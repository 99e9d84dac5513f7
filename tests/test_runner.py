"""The runner."""

import os

import pytest

from defectmill.config import load_experiment
from defectmill.runner import choose_kernels


@pytest.mark.parametrize(("name", "kernels"), [("crack", "1"), ("crack-flexunet", "0")])
def test_a_flexunet_is_kept_from_kernels_that_take_minutes(name, kernels, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    choose_kernels(load_experiment(name))
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == kernels
