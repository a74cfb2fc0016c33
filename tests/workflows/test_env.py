"""``vit env``: the facts that a bug report needs."""

import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Outcome
from vitcli.core.measurements import measured_once
from vitcli.core.version import __version__
from vitcli.trained.loading import load_model
from vitcli.trained.precision import question_about

RunCli = Callable[..., Outcome]


def test_it_shows_versions_hardware_and_folders(run_cli: RunCli, data_dir: Path) -> None:
    outcome = run_cli("env")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"vit{'':16}")
    for expected in (
        __version__,
        f"torch={torch.__version__}",
        sys.executable,
        str(data_dir),
        platform.system(),
        "threads",
    ):
        assert expected in outcome.out
    found = json.loads(run_cli("env", "--json").out)
    assert found["versions"]["torch"] == torch.__version__
    assert found["folders"]["data"] | {"free": 0} == {"path": str(data_dir), "exists": True, "free": 0}
    assert not found["folders"]["runs"]["exists"]
    assert found["bfloat16"] is (os.environ["VIT_BFLOAT16"] == "yes")  # which tests set
    assert found["threads"] == torch.get_num_threads()
    assert found["memory"] > 10**8


def test_secrets_are_only_counted(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = ("HF_TOKEN", "KAGGLE_KEY", "HTTPS_PROXY")
    for name in hidden:
        monkeypatch.setenv(name, "pass-word")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    table, document = run_cli("env"), run_cli("env", "--json")
    assert {*hidden} <= {*json.loads(document.out)["hidden"]}
    assert json.loads(document.out)["variables"]["OMP_NUM_THREADS"] == "3"
    assert "set (not shown)" in table.out
    assert "pass-word" not in table.out + table.err + document.out + document.err


def test_torch_that_is_missing_or_broken_is_a_fact(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    outcome = run_cli("env")
    assert outcome.code == 0
    assert "cannot be imported: ModuleNotFoundError: import of torch halted" in outcome.out
    assert "torch does not work" in outcome.err
    found = json.loads(run_cli("env", "--json").out)
    assert found["torch_error"].startswith("ModuleNotFoundError")
    assert (found["processor"], found["bfloat16"], found["precisions"]) == (None, None, [])


def test_it_lists_the_precisions_that_were_measured_on_this_machine(
    run_cli: RunCli, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path / "data"))
    question = question_about(load_model(str(trained_run), device="cpu").model, "inference")
    fast = {"float32": 2.0, "bfloat16": 1.0}
    folder = tmp_path / "data" / "measured"
    measured_once(question, lambda: fast, folder=folder)
    measured_once(question | {"machine": {"device": "another"}}, lambda: fast, folder=folder)
    measured_once(question | {"parts_of": 64}, lambda: {"64": 1.0}, folder=folder)  # of micro-batches
    (folder / "broken.json").write_text("{")
    (row,) = json.loads(run_cli("env", "--json").out)["precisions"]
    assert (row["work"], row["chosen"], row["seconds"], row["model"]["width"]) == ("inference", "bfloat16", fast, 16)
    other_heads = question | {"model": {**question["model"], "num_heads": 1}}
    measured_once(other_heads, lambda: fast, folder=folder)
    shown = run_cli("env").out
    assert shown.count("width 16, depth 1, images of 8 x 8, patches of 2 x 2  inference  bfloat16") == 1


def test_a_variable_that_other_commands_refuse_is_a_warning(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_BFLOAT16", "maybe")
    outcome = run_cli("env", "--json")
    assert outcome.code == 0
    assert "VIT_BFLOAT16 = 'maybe' is neither yes nor no" in outcome.err
    assert json.loads(outcome.out)["bfloat16"] is None


def test_the_driver_is_asked_even_if_torch_sees_no_gpu(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034 MiB, 550.90'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert json.loads(run_cli("env", "--json").out)["nvidia"] == ["NVIDIA L4, 23034 MiB, 550.90"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert json.loads(run_cli("env", "--json").out)["nvidia"] == []
