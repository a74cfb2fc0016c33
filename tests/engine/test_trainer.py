import math
import signal
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.builders.trainers import CPU, OPTIMIZERS, Batches, build_model, build_trainer, script_validation
from vitcli.core.errors import Interrupted, TrainingError
from vitcli.core.events import EpochRecord, TrainingProgress, TrainingStarted, ignore
from vitcli.core.interrupts import StopRequest
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.autocast import Precision
from vitcli.engine.compiling import compiled
from vitcli.engine.evaluate import predict_logits
from vitcli.engine.micro_batches import MicroBatches
from vitcli.engine.mixing import Mixing
from vitcli.engine.muon import Muon
from vitcli.engine.objective import Objective, Targets
from vitcli.engine.optim import build_optimizers
from vitcli.engine.state import copied
from vitcli.engine.stopping import best_of
from vitcli.engine.trial import time_steps


def trained_weights(**options):
    trainer = build_trainer(**options)
    trainer.fit()
    return copied(trainer.model.state_dict())


# learning


def test_a_tiny_model_learns_a_tiny_set_by_heart():
    records = build_trainer(epochs=20, lr=0.01).fit()
    assert records[-1].train_accuracy == records[-1].val_accuracy == 1
    assert records[-1].val_loss < 0.1


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        (optimizer, schedule)
        for optimizer in OPTIMIZERS
        for schedule in ("constant", "step", "cosine", "one-cycle")
        if optimizer != "schedule-free" or schedule == "constant"
    ],
)
def test_every_optimiser_with_every_schedule_reduces_the_loss(optimizer, schedule):
    options = {**OPTIMIZERS[optimizer], "optimizer": optimizer, "schedule": schedule}
    records = build_trainer(epochs=3, step_size=2, **options).fit()
    assert records[-1].val_loss < 0.9 * math.log(4)
    assert records[-1].val_loss < records[0].val_loss


def test_the_same_seed_gives_bit_identical_weights():
    changes = {"dropout": 0.2, "drop_path": 0.2}
    once, again = (trained_weights(model=build_model(**changes), seed=5) for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_another_seed_gives_other_weights():
    changes = {"dropout": 0.2, "drop_path": 0.2}
    once, again = (trained_weights(model=build_model(**changes), seed=seed) for seed in (5, 6))
    assert not torch.equal(once["head.1.weight"], again["head.1.weight"])


def test_what_was_drawn_before_training_does_not_matter():
    changes = {"dropout": 0.2}
    models = [build_model(**changes) for _ in range(2)]
    once = trained_weights(model=models[0])
    torch.rand(17)
    again = trained_weights(model=models[1])
    assert all(torch.equal(once[name], again[name]) for name in once)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon", "schedule-free"])
def test_a_batch_in_parts_gives_the_same_weights_as_one_step(optimizer):
    """In float64, where the order of sums makes no difference that counts."""

    def train(grad_accum_steps):
        model = build_model(qkv_bias=False).double()  # softmax cancels the bias of keys: Adam would magnify rounding
        batches = Batches()
        batches.images = batches.images.double()
        options = {"optimizer": optimizer, "lr": 1e-3, "adamw_lr": 1e-3}
        return trained_weights(model=model, train=batches, grad_accum_steps=grad_accum_steps, **options)

    whole = train(1)
    for parts in (2, 3, 8):
        torch.testing.assert_close(train(parts), whole, atol=1e-9, rtol=0)


def test_batches_in_parts_that_are_mixed_give_the_same_weights_as_one_step():
    options = {"optimizer": "sgd", "epochs": 2, "lr": 1e-2}
    whole, cut = (
        trained_weights(grad_accum_steps=parts, mixing=Mixing(mixup=1, cutmix=1, seed=3), **options) for parts in (1, 3)
    )
    for name in whole:
        torch.testing.assert_close(cut[name], whole[name], atol=1e-6, rtol=0)


def test_training_figures_are_means_over_images_even_when_the_last_batch_is_smaller():
    train = Batches(size=10, batch_size=4)
    model = build_model()
    logits = model.eval()(train.images)
    record = build_trainer(model, train=train, epochs=1, lr=1e-12).fit()[0]
    assert record.train_loss == pytest.approx(F.cross_entropy(logits, train.labels).item(), abs=1e-5)
    assert record.train_accuracy == pytest.approx((logits.argmax(dim=1) == train.labels).double().mean().item())
    assert record.val_loss == pytest.approx(record.train_loss, abs=1e-5)
    assert record.val_accuracy == pytest.approx(record.train_accuracy)


@pytest.mark.parametrize("share", [0.0, 0.49, 0.51, 1.0])
def test_a_mixed_image_is_answered_right_by_the_class_of_its_larger_part(share):
    class Whole(Mixing):
        """Gives each image its own pixels or those of its partner, whole."""

        def __call__(self, images, **_place):
            return (images if share > 0.5 else images.flip(0)), share

    train = Batches(size=8, batch_size=8)
    mixing = Whole(mixup=1, cutmix=0, seed=0)
    record = build_trainer(build_model(), train=train, mixing=mixing, epochs=1, lr=1e-12).fit()[0]
    assert 0 < record.val_accuracy < 1
    assert record.train_accuracy == record.val_accuracy


def test_clipping_bounds_the_length_of_a_step():
    def step_length(clip_grad):
        model = build_model()
        before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        options = {"optimizer": "sgd", "momentum": 0, "weight_decay": 0, "lr": 1.0, "epochs": 1}
        build_trainer(model, train=Batches(size=8), clip_grad=clip_grad, **options).fit()
        return (nn.utils.parameters_to_vector(model.parameters()) - before).norm().item()

    assert step_length(0) > 0.1
    assert step_length(0.05) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_of_mixed_labels_is_that_of_soft_targets(label_smoothing):
    objective = Objective(label_smoothing=label_smoothing)
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels, partners = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 3, 0, 0, 2])
    soft = 0.3 * F.one_hot(labels, 4) + 0.7 * F.one_hot(partners, 4)
    expected = F.cross_entropy(logits, soft, reduction="sum", label_smoothing=label_smoothing)
    torch.testing.assert_close(objective(logits, Targets(labels, partners, 0.3)), expected)


WEIGHTS = torch.tensor([0.5, 3.0, 1.0, 2.0])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("grad_accum_steps", [1, 3])
def test_each_image_is_weighed_by_its_own_class(label_smoothing, grad_accum_steps):
    """torch divides by the weights of the batch, which would make rare classes count less where they are few."""
    train = Batches(size=10, batch_size=10)
    model = build_model()
    logits = model.eval()(train.images)
    options = {"label_smoothing": label_smoothing, "grad_accum_steps": grad_accum_steps, "lr": 1e-12, "epochs": 1}
    record = build_trainer(model, train=train, class_weights=WEIGHTS, **options).fit()[0]
    losses = F.cross_entropy(logits, train.labels, reduction="none", label_smoothing=label_smoothing)
    assert record.train_loss == pytest.approx((losses * WEIGHTS[train.labels]).mean().item(), rel=1e-5)
    theirs = F.cross_entropy(logits, train.labels, weight=WEIGHTS) * WEIGHTS[train.labels].mean()
    assert label_smoothing or record.train_loss == pytest.approx(theirs.item(), rel=1e-5)
    assert record.val_loss == pytest.approx(F.cross_entropy(logits, train.labels).item(), rel=1e-5)  # without weights


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 19.0, 1e6])])
def test_weights_do_not_move_what_smoothed_labels_ask_for(weights):
    """With torch's formula, a frequent class would be told to answer like a rare one 19 times as heavy."""
    wanted = torch.tensor([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    logits = wanted.log().expand(5, 3).clone().requires_grad_()
    objective = Objective(label_smoothing=0.1, class_weights=weights)
    objective(logits, Targets(torch.zeros(5, dtype=torch.long), torch.zeros(5, dtype=torch.long))).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(5, 3), rtol=0, atol=1e-6)


def test_the_weighted_loss_of_mixed_labels_weighs_both():
    objective = Objective(class_weights=WEIGHTS)
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels, partners = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 3, 0, 0, 2])
    entropies = -logits.log_softmax(dim=1)
    rows = torch.arange(6)
    expected = 0.3 * WEIGHTS[labels] * entropies[rows, labels] + 0.7 * WEIGHTS[partners] * entropies[rows, partners]
    torch.testing.assert_close(objective(logits, Targets(labels, partners, 0.3)), expected.sum())


def test_weights_that_are_all_1_change_nothing():
    plain, weighted = (trained_weights(class_weights=weights) for weights in (None, torch.ones(4)))
    for name in plain:
        torch.testing.assert_close(weighted[name], plain[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        ({"optimizer": "adamw", "lr": 0.01}, set()),
        ({"optimizer": "adamw", "lr": 0.01, "head_lr": 0.1}, {"rest", "head"}),
        ({"optimizer": "muon", "adamw_lr": 0.003}, {"matrices", "rest"}),
        ({"optimizer": "muon", "lr": 0.02, "adamw_lr": 0.003, "head_lr": 0.1}, {"matrices", "rest", "head"}),
    ],
)
def test_a_record_has_the_learning_rate_of_every_group(settings, kinds):
    trainer = build_trainer(schedule="step", step_size=1, **settings)
    for record in trainer.fit():
        assert record.learning_rates.keys() == kinds
        factor = 0.1 ** (record.epoch - 1)
        rates = record.learning_rates or {"all": record.learning_rate}
        peaks = sorted({group["peak_lr"] for group in trainer.optimizers.groups})
        assert sorted(rates.values()) == pytest.approx([factor * peak for peak in peaks])


def test_progress_is_told_every_so_many_steps_with_the_loss_of_the_last_one():
    events = []
    trainer = build_trainer(train=Batches(16, 4), events=events, log_steps=3, epochs=3)
    losses = []
    step = trainer.take_step

    def remembering(images, labels):
        with torch.no_grad():
            losses.append(F.cross_entropy(trainer.model(images), labels).item())
        step(images, labels)

    trainer.take_step = remembering
    trainer.fit()
    told = {4 * (event.epoch - 1) + event.step: event for event in events if isinstance(event, TrainingProgress)}
    assert told.keys() >= {3, 6, 9, 12}
    for done, event in told.items():
        assert event.step_loss == pytest.approx(losses[done - 1], rel=1e-5)
        assert event.learning_rate == trainer.config.peak_lr


def test_steps_can_be_timed_again():
    trainer = build_trainer(train=Batches(size=20, batch_size=8))
    for _ in range(2):
        assert len(time_steps(trainer)) == 3
        assert trainer.totals.images == 4  # of the last step


def test_the_learning_rate_follows_the_schedule():
    records = build_trainer(epochs=4, schedule="step", step_size=2, gamma=0.1, lr=0.01).fit()
    assert [record.learning_rate for record in records] == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_events_tell_the_start_and_every_epoch():
    events = []
    records = build_trainer(epochs=2, train=Batches(size=10, batch_size=4), events=events).fit()
    assert events[0] == TrainingStarted(epochs=2, steps_per_epoch=3)
    assert [event for event in events if isinstance(event, EpochRecord)] == records
    assert [record.epoch for record in records] == [1, 2]


def test_a_compiled_model_learns_the_same_and_keeps_the_names_of_its_weights():
    plain = build_trainer(build_model(qkv_bias=False), ema=True)  # the bias of keys is moved by rounding alone
    model = build_model(qkv_bias=False)
    precision = Precision(CPU, amp="off", dtype="bfloat16")
    micro_batches = MicroBatches(1, emit=ignore)
    forward = compiled(
        model,
        [plain.train.images[:8]],
        precision,
        micro_batches=micro_batches,
        required=True,
        emit=ignore,
        backend="eager",
    )
    fast = build_trainer(model, ema=True, forward=forward)
    plain.fit()
    fast.fit()
    for expected, weights in zip(plain.saver.weights, fast.saver.weights, strict=True):
        assert weights.keys() == expected.keys() == model.state_dict().keys()
        for name in expected:
            torch.testing.assert_close(weights[name], expected[name], rtol=1e-4, atol=1e-5)


def test_validation_computes_in_a_precision_of_its_own():
    trainer = build_trainer(epochs=1, val_precision=Precision(CPU, amp="on", dtype="bfloat16"))
    record = trainer.fit()[0]
    logits, labels = predict_logits(trainer.model, trainer.val, trainer.val_precision)
    assert record.val_loss == F.cross_entropy(logits.double(), labels).item()
    assert torch.equal(logits, logits.bfloat16().float())
    assert not torch.equal(predict_logits(trainer.model, trainer.val, trainer.precision)[0], logits)


# the best epoch


def test_the_best_epoch_has_the_best_validation_accuracy(monkeypatch):
    script_validation(monkeypatch, [(2, 1.0), (4, 0.01), (3, 5.0), (1, 1.0)])
    trainer = build_trainer(epochs=4)
    records = trainer.fit()
    assert [record.val_accuracy for record in records] == [0.5, 1.0, 0.75, 0.25]
    assert [record.is_best for record in records] == [True, True, False, False]
    assert best_of(trainer.records).epoch == 2


def test_of_epochs_with_the_same_accuracy_the_one_with_the_lower_loss_is_best(monkeypatch):
    script_validation(monkeypatch, [(4, 1.0), (4, 3.0), (4, 2.0), (4, 3.0)])
    trainer = build_trainer(epochs=4)
    records = trainer.fit()
    assert [record.is_best for record in records] == [True, True, False, False]
    assert best_of(trainer.records).epoch == 2


def test_patience_stops_after_so_many_epochs_without_a_better_one(monkeypatch):
    script_validation(monkeypatch, [(2, 1.0), (3, 1.0), (2, 1.0), (3, 0.5), (4, 1.0)])
    records = build_trainer(epochs=5, patience=2).fit()
    assert [record.epoch for record in records] == [1, 2, 3, 4]


def test_without_patience_training_goes_to_the_end(monkeypatch):
    script_validation(monkeypatch, [(3, 1.0)] + [(1, 1.0)] * 4)
    assert len(build_trainer(epochs=5, patience=0).fit()) == 5


def test_every_epoch_is_saved_with_all_records_so_far():
    trainer = build_trainer(epochs=3)
    trainer.fit()
    assert trainer.saver.epochs == [[1], [1, 2], [1, 2, 3]]
    last = trainer.model.state_dict()
    assert all(torch.equal(tensor, last[name]) for name, tensor in trainer.saver.weights[-1].items())


# moving average


def average_by_hand(trainer):
    """Fit, and return the average of the weights after every step: the first ones, then moved by 1 - decay, which grows."""
    average, count = {}, 0
    step = trainer.optimizers.step

    def watched(scaler, *, clip_grad):
        nonlocal count
        norm, decay = step(scaler, clip_grad=clip_grad), min(0.8, count / (count + 9))
        count += 1
        for name, tensor in trainer.model.state_dict().items():
            average[name] = tensor.clone() if name not in average else torch.lerp(tensor, average[name], decay)
        return norm

    trainer.optimizers.step = watched
    trainer.fit()
    return average


def test_the_moving_average_is_what_is_evaluated_and_saved():
    model = build_model()
    trainer = build_trainer(model, ema=True, ema_decay=0.8, lr=0.02)
    expected = average_by_hand(trainer)
    kept = trainer.saver.weights[-1]
    assert kept.keys() == model.state_dict().keys()
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=0)
    assert not torch.equal(kept["head.1.weight"], model.head[1].weight)

    averaged = build_model()
    averaged.load_state_dict(kept)
    logits, labels = predict_logits(averaged, trainer.val, trainer.precision)
    assert trainer.records[-1].val_loss == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-5)


# faults and signals


class SpoiltBatches(Batches):
    """From ``epoch`` on, images are not numbers."""

    def __init__(self, spoilt_epoch):
        super().__init__()
        self.spoilt_epoch = spoilt_epoch

    def epoch(self, number, *, start=0):
        for images, labels in super().epoch(number, start=start):
            yield images * (math.nan if number >= self.spoilt_epoch else 1), labels


def test_a_loss_that_is_no_number_ends_training_and_nothing_is_saved_for_that_epoch():
    trainer = build_trainer(train=SpoiltBatches(spoilt_epoch=2), val=Batches(), epochs=3, lr=0.05)
    with pytest.raises(TrainingError, match="the loss became nan in epoch 2") as failure:
        trainer.fit()
    assert "--lr 0.002" in failure.value.hint
    assert trainer.saver.epochs == [[1]]
    assert all(tensor.isfinite().all() for tensor in trainer.saver.weights[-1].values())


def test_a_validation_loss_that_is_no_number_ends_training_and_nothing_is_saved():
    val = [(images * math.nan, labels) for images, labels in Batches()]
    trainer = build_trainer(val=val)
    with pytest.raises(TrainingError, match="the validation loss became nan in epoch 1"):
        trainer.fit()
    assert trainer.saver.epochs == []


class SignalledBatches(Batches):
    """A signal arrives in the second epoch, before its second batch."""

    def __init__(self, stop, number):
        super().__init__()
        self.stop = stop
        self.number = number

    def epoch(self, number, *, start=0):
        for step, batch in enumerate(super().epoch(number, start=start)):
            if (number, step) == (2, 1):
                self.stop.receive(self.number, None)
            yield batch


@pytest.mark.parametrize(
    ("number", "name", "exit_code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)]
)
def test_a_signal_stops_training_after_the_step_and_what_there_is_is_saved(number, name, exit_code):
    stop = StopRequest()
    trainer = build_trainer(train=SignalledBatches(stop, number), stop=stop, epochs=3)
    with pytest.raises(Interrupted, match=f"stopped by {name}") as interruption:
        trainer.fit()
    assert interruption.value.exit_code == exit_code
    assert trainer.saver.epochs == [[1]]
    assert trainer.saver.steps == [(2, 2)]
    last = trainer.model.state_dict()
    assert all(torch.equal(tensor, last[key]) for key, tensor in trainer.saver.weights[-1].items())


def test_a_signal_before_training_stops_it_after_the_first_step():
    stop = StopRequest()
    stop.receive(signal.SIGINT, None)
    trainer = build_trainer(stop=stop)
    with pytest.raises(Interrupted):
        trainer.fit()
    assert trainer.saver.steps == [(1, 1)]
    assert trainer.records == []


def test_interrupted_weights_that_are_no_numbers_are_not_saved():
    stop = StopRequest()
    stop.receive(signal.SIGINT, None)
    trainer = build_trainer(train=SpoiltBatches(spoilt_epoch=1), stop=stop)
    with pytest.raises(TrainingError):
        trainer.fit()
    assert trainer.saver.steps == []


# frozen weights


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.keys() - {"muon"}))
def test_frozen_weights_stay_bit_identical_while_the_head_learns(optimizer):
    model = build_model(dropout=0.1)
    model.requires_grad_(requires_grad=False)
    model.head.requires_grad_(requires_grad=True)
    before = copied(model.state_dict())
    build_trainer(model, optimizer=optimizer, weight_decay=0.1, **OPTIMIZERS[optimizer]).fit()
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.1.weight", "head.1.bias"}


def test_muon_without_a_matrix_to_train_is_refused():
    model = build_model().requires_grad_(requires_grad=False)
    model.head.requires_grad_(requires_grad=True)
    with pytest.raises(TrainingError, match="frozen") as caught:
        build_trainer(model, optimizer="muon")
    assert "--opt adamw" in caught.value.hint


def test_frozen_parts_are_in_evaluation_mode_while_the_head_trains():
    model = build_model(dropout=0.5, head_dropout=0.5)
    model.requires_grad_(requires_grad=False)
    model.head.requires_grad_(requires_grad=True)
    modes = []
    model.head.register_forward_hook(lambda head, given, output: modes.append((model.blocks.training, head.training)))
    build_trainer(model, epochs=1, optimizer="adamw").fit()
    assert modes[:2] == [(False, True)] * 2


def test_a_model_without_anything_to_train_is_refused():
    model = build_model().requires_grad_(requires_grad=False)
    with pytest.raises(TrainingError, match="no parameter is left to train"):
        build_trainer(model)


# groups of parameters


def groups_by_name(model, **settings):
    """Each trained parameter's group, by name; every parameter is in exactly one."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizers = build_optimizers(model, OptimConfig(**settings))
    members = [(names[id(parameter)], group) for group in optimizers.groups for parameter in group["params"]]
    assert Counter(name for name, _ in members) == Counter(names.values())
    return dict(members)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_norms_biases_positions_tokens_and_scales_have_no_weight_decay(optimizer, positions):
    model = build_model(num_registers=2, layer_scale=0.1, positions=positions)
    groups = groups_by_name(model, optimizer=optimizer, weight_decay=0.3)
    spared = {name for name, group in groups.items() if group["weight_decay"] == 0}
    shapes = {name: parameter for name, parameter in model.named_parameters() if parameter.ndim == 1}
    assert spared == (shapes.keys() | {"class_token", "registers", "positions"}) & groups.keys()
    decayed = {group["weight_decay"] for name, group in groups.items() if name not in spared}
    assert decayed == {0.3}
    assert "patch_embedding.projection.weight" not in spared


def test_weight_decay_shrinks_what_has_no_gradient_of_its_own():
    model = build_model(class_token=False, pooling="patches")
    optimizers = build_optimizers(model, OptimConfig(optimizer="adamw", lr=0.1, weight_decay=0.5))
    before = copied(model.state_dict())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(torch.amp.GradScaler("cpu", enabled=False), clip_grad=0)
    after = model.state_dict()
    torch.testing.assert_close(after["head.1.weight"], before["head.1.weight"] * 0.95)
    assert torch.equal(after["positions"], before["positions"])
    assert torch.equal(after["norm.weight"], before["norm.weight"])


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = build_model(num_registers=2, patch_embedding="linear", head_width=8)
    optimizers = build_optimizers(model, OptimConfig(optimizer="muon", lr=0.02, adamw_lr=0.003))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    muon, adamw = optimizers.all
    assert isinstance(muon, Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    matrices = {names[id(parameter)] for group in muon.param_groups for parameter in group["params"]}
    kinds = ["attention.qkv", "attention.projection", "mlp.fc1", "mlp.fc2"]
    assert matrices == {f"blocks.{layer}.{kind}.weight" for layer in range(2) for kind in kinds}
    assert {group["peak_lr"] for group in muon.param_groups} == {0.02}
    assert {group["peak_lr"] for group in adamw.param_groups} == {0.003}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_layer_decay_lowers_the_learning_rate_block_by_block_below_the_head(optimizer):
    model = build_model(depth=3)
    groups = groups_by_name(model, optimizer=optimizer, lr=0.02, adamw_lr=0.02, layer_decay=0.5)
    expected = {"head.1.weight": 1, "norm.bias": 1, "patch_embedding.projection.weight": 1 / 16, "positions": 1 / 16}
    expected |= {
        "blocks.2.mlp.fc1.weight": 1 / 2,
        "blocks.1.mlp_norm.bias": 1 / 4,
        "blocks.0.attention.qkv.bias": 1 / 8,
    }
    assert {name: groups[name]["lr"] / 0.02 for name in expected} == pytest.approx(expected)


def test_layer_decay_counts_from_the_head_even_when_only_blocks_are_trained():
    model = build_model()
    model.requires_grad_(requires_grad=False)
    model.blocks[1].requires_grad_(requires_grad=True)
    optimizers = build_optimizers(model, OptimConfig(optimizer="adamw", lr=0.02, layer_decay=0.5))
    assert {group["lr"] for group in optimizers.groups} == {0.01}


def test_the_factor_scales_every_group_from_its_own_peak():
    optimizers = build_optimizers(build_model(), OptimConfig(optimizer="muon", lr=0.02, adamw_lr=0.004))
    for factor in (0.5, 0.1):
        optimizers.set_factor(factor)
        assert sorted({group["lr"] for group in optimizers.groups}) == pytest.approx([0.004 * factor, 0.02 * factor])


def test_betas_and_momentum_reach_their_optimisers():
    adamw = build_optimizers(build_model(), OptimConfig(optimizer="adamw", betas=(0.8, 0.9)))
    assert {group["betas"] for group in adamw.groups} == {(0.8, 0.9)}
    sgd = build_optimizers(build_model(), OptimConfig(optimizer="sgd", momentum=0.7))
    assert {group["momentum"] for group in sgd.groups} == {0.7}


# evaluation


def test_evaluation_covers_every_image_in_order_and_restores_the_mode():
    model = build_model(dropout=0.5)
    batches = Batches(size=10, batch_size=4)
    counts = []
    precision = Precision(CPU, amp="off", dtype="bfloat16")
    logits, labels = predict_logits(model.train(), batches, precision, counts.append)
    assert model.training
    assert counts == [4, 4, 2]
    assert torch.equal(labels, batches.labels)
    torch.testing.assert_close(logits, model.eval()(batches.images), atol=1e-6, rtol=0)
    predict_logits(model, batches, precision)
    assert not model.training


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_head_may_learn_at_a_rate_of_its_own(optimizer):
    groups = groups_by_name(build_model(), optimizer=optimizer, lr=0.02, adamw_lr=0.02, head_lr=0.3, layer_decay=0.5)
    assert groups["head.1.weight"]["lr"] == groups["head.1.bias"]["lr"] == pytest.approx(0.3)
    assert groups["norm.bias"]["lr"] == pytest.approx(0.02)
    assert groups["blocks.1.mlp.fc1.weight"]["lr"] == pytest.approx(0.01)
