"""Schedule-free AdamW, and which of its weights a trainer learns with, judges and keeps."""

from itertools import islice

import pytest
import torch
from torch import nn

from tests.builders.trainers import OPTIMIZERS, Weights, build_model, build_trainer, equal, score_of, script_validation
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.optim import build_optimizers
from vitcli.engine.schedule_free import ScheduleFreeAdamW
from vitcli.engine.state import copied
from vitcli.engine.trial import losses

SCHEDULE_FREE = {"optimizer": "schedule-free", **OPTIMIZERS["schedule-free"]}


def stepped(optimizer, weight, *, rates):
    """The base and the gradient's place after every step."""
    group = optimizer.param_groups[0]
    places = []
    for step, rate in enumerate(rates):
        group["lr"] = rate
        optimizer.train()
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(step)).to(weight.dtype)
        optimizer.step()
        places.append((optimizer.state[weight]["base"].clone(), weight.detach().clone()))
    return places


def weight_of_ones():
    return nn.Parameter(torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_the_average_is_the_mean_of_all_bases_by_the_square_of_the_highest_rate(beta1):
    weight = weight_of_ones()
    optimizer = ScheduleFreeAdamW([weight], betas=(beta1, 0.999))
    rates = [0.1, 0.2, 0.4, 0.3, 0.4]
    bases, places = zip(*stepped(optimizer, weight, rates=rates), strict=True)
    shares = torch.tensor([0.1, 0.2, 0.4, 0.4, 0.4], dtype=torch.float64).square()
    optimizer.eval()
    torch.testing.assert_close(weight.detach(), shares @ torch.stack(bases) / shares.sum())
    torch.testing.assert_close(places[-1], beta1 * weight.detach() + (1 - beta1) * bases[-1])


@pytest.mark.parametrize("rate", [1e-200, 1e200])
def test_rates_whose_squares_are_no_numbers_have_shares(rate):
    weight = weight_of_ones()
    optimizer = ScheduleFreeAdamW([weight], lr=rate)
    stepped(optimizer, weight, rates=[rate / 2, rate])
    assert optimizer.state[weight]["bases"] == 1.25


def test_going_to_and_fro_changes_no_bit():
    ours, others = weight_of_ones(), weight_of_ones()
    optimizer, other = ScheduleFreeAdamW([ours]), ScheduleFreeAdamW([others])
    for step in range(4):
        for _ in range(step):
            optimizer.eval()
            optimizer.train()
        assert torch.equal(stepped(optimizer, ours, rates=[0.1])[0][1], stepped(other, others, rates=[0.1])[0][1])
    for each in (optimizer, other, optimizer):
        each.eval()
    assert torch.equal(ours, others)


def test_a_gradient_of_the_average_is_no_step():
    weight = weight_of_ones()
    optimizer = ScheduleFreeAdamW([weight])
    stepped(optimizer, weight, rates=[0.1])
    optimizer.eval()
    with pytest.raises(AssertionError):
        optimizer.step()


def test_parameters_without_a_gradient_stay_as_they_are():
    moved, still = weight_of_ones(), weight_of_ones()
    optimizer = ScheduleFreeAdamW([{"params": [moved, still]}, {"params": [weight_of_ones()]}], weight_decay=0.5)
    stepped(optimizer, moved, rates=[0.1, 0.1])
    optimizer.eval()
    assert still.tolist() == [1, 1, 1] != moved.tolist()


def test_gradients_that_overflowed_are_no_step():
    model = build_model()
    optimizers = build_optimizers(model, OptimConfig(optimizer="schedule-free"))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = []
    for gradient in (1.0, float("inf"), 1.0):
        optimizers.train()
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        before.append(copied({"weights": model.state_dict(), "moments": optimizers.state_dict()}))
        scaler.scale(torch.zeros(()))
        optimizers.step(scaler, clip_grad=1.0)
    assert equal(before[2]["weights"], before[1]["weights"])
    assert {state["step"] for state in before[2]["moments"]["0"].values()} == {1}
    assert not equal(model.state_dict(), before[2]["weights"])


# trainers


@pytest.mark.parametrize("save_steps", [0, 1])
def test_what_is_judged_and_kept_is_the_average_and_nothing_beside_it(save_steps):
    trainer = build_trainer(epochs=3, **SCHEDULE_FREE)
    trainer._saver, trainer.save_steps = Weights(), save_steps
    trainer.fit()
    for record, kept in zip(trainer.records, trainer.saver.judged, strict=True):
        assert (record.val_loss, record.val_accuracy) == (
            score_of(kept, trainer).loss,
            score_of(kept, trainer).accuracy,
        )
        assert record.plain_val_loss is record.average_val_loss is None
    states = trainer.optimizers.all[0].state
    averages = {
        name: states[weight]["average"] for name, weight in trainer.model.named_parameters() if weight in states
    }
    last = trainer.saver.judged[-1]
    assert len(averages) > 10
    assert equal({name: last[name] for name in averages}, averages)
    assert equal(last, trainer.model.state_dict())  # which the trainer leaves behind
    assert [equal(each, last) for each in trainer.saver.steps[-2:]] == [False, True][: 2 * save_steps]  # and in between
    trainer.optimizers.train()
    assert not equal(last, trainer.model.state_dict())


def test_patience_is_with_the_average(monkeypatch):
    script_validation(monkeypatch, [(3, 1.0), (2, 1.0), (1, 1.0), (4, 1.0)])
    trainer = build_trainer(epochs=9, patience=2, **SCHEDULE_FREE)
    trainer._saver = Weights()
    assert [record.is_best for record in trainer.fit()] == [True, False, False]
    assert not equal(trainer.saver.judged[0], trainer.saver.judged[2])


def test_a_trainer_under_way_takes_over_a_state_as_a_new_one_does():
    trainer, again = (build_trainer(**SCHEDULE_FREE) for _ in range(2))
    trainer.fit()
    state = copied(trainer.state_dict())
    next(losses(trainer))
    found = []
    for each in (trainer, again):
        each.load_state_dict(copied(state))  # which steps change in place
        found.append(list(islice(losses(each), 3)))
    assert found[0] == found[1]
