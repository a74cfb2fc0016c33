"""What launchers say in the environment."""

import pytest

from vitcli.core.launch import ALONE, Place, launched_as

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "node"}


def test_torchrun_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched_as() == ALONE
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert launched_as() == Place(rank=5, size=8, local_rank=1, local_size=4)


@pytest.mark.parametrize("name", TORCHRUN)
def test_a_variable_alone_is_no_launcher(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each, value in TORCHRUN.items():
        if each != name:
            monkeypatch.setenv(each, value)
    assert launched_as() == ALONE
