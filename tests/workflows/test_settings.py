"""From what a user asked for to the whole configuration."""

import pytest

from vitcli.core.config_files import Settings
from vitcli.core.events import Event
from vitcli.workflows.settings import settle


def settled(*layers: Settings) -> tuple[float, str]:
    """The peak learning rate, and what was told."""
    told: list[Event] = []
    config, _ = settle(({"data": {"name": "digits"}}, *layers), told.append)
    return config.optim.peak_lr, " ".join(getattr(event, "text", "") for event in told)


@pytest.mark.parametrize(
    ("layers", "rate"),
    [
        ([], 0.02),
        ([{"optim": {"optimizer": "muon"}}], 0.02),
        ([{"optim": {"optimizer": "adamw"}}], 0.002),
        ([{"optim": {"optimizer": "sgd"}}], 0.05),
        ([{"optim": {"optimizer": "adamw", "lr": 0.003}}], 0.003),
        ([{"optim": {"optimizer": "adamw"}}, {"optim": {"lr": 0.003}}], 0.003),
        ([{"optim": {"optimizer": "adamw", "lr": 0.003}}, {"optim": {"optimizer": "sgd"}}], 0.05),
        ([{"optim": {"lr": 0.01}}], 0.01),
    ],
)
def test_a_recipes_learning_rate_is_for_its_optimizer(layers: list[Settings], rate: float) -> None:
    found, told = settled(*layers)
    assert found == rate
    assert ("learning rate: the usual one of" in told) == (rate in {0.002, 0.05})
