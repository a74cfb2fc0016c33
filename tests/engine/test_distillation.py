"""Learning from a teacher, against the formulas of its papers written out."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.builders.trainers import CPU, Batches, Disk, build_model, build_trainer, without_timings
from vitcli.core.errors import Interrupted
from vitcli.engine.autocast import Precision
from vitcli.engine.distillation import Distillation
from vitcli.engine.mixing import Mixing
from vitcli.engine.objective import Objective, Targets, answers
from vitcli.engine.state import copied, load_state
from vitcli.engine.timing import seconds_per_image

LABELS, PARTNERS = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 3, 0, 0, 2])
WEIGHTS = torch.tensor([0.5, 3.0, 1.0, 2.0])
KINDS = ["soft", "hard"]


def noise(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def distillation(kind="soft", teacher=None, **settings):
    return Distillation(**{"teacher": teacher or build_teacher(), "kind": kind, "alpha": 0.3, **settings})


def build_teacher():
    return build_model(seed=9).eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.5])
def test_the_soft_loss_is_hintons(temperature):
    student, teacher = noise(6, 4, seed=0), noise(6, 4, seed=1)

    def softened(logits):
        powers = np.exp(logits.double().numpy() / temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    p, q = softened(teacher), softened(student)
    ours = distillation(temperature=temperature).loss(student, teacher)
    assert ours.item() == pytest.approx(temperature**2 * (p * np.log(p / q)).sum(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_loss_is_deits_for_every_image(kind):
    """DeiT divides its soft loss by the number of logits; per image that is another factor: the number of classes."""
    logits, teacher, alpha, tau = noise(6, 2, 4, seed=0), noise(6, 4, seed=1), 0.3, 3.0
    of_labels, of_teacher = logits.unbind(dim=1)
    base = F.cross_entropy(of_labels, LABELS, label_smoothing=0.1)
    if kind == "hard":
        distilled = F.cross_entropy(of_teacher, teacher.argmax(dim=1))
    else:
        targets, inputs = (F.log_softmax(each / tau, dim=1) for each in (teacher, of_teacher))
        distilled = F.kl_div(inputs, targets, reduction="sum", log_target=True) * tau * tau / of_teacher.numel() * 4
    objective = Objective(label_smoothing=0.1, distillation=distillation(kind, alpha=alpha, temperature=tau))
    ours = objective(logits, Targets(LABELS, LABELS), teacher) / 6
    torch.testing.assert_close(ours, base * (1 - alpha) + distilled * alpha)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_second_head_the_one_there_is_learns_from_both(kind):
    logits, taught = noise(6, 4, seed=0), noise(6, 4, seed=1)
    objective = Objective(distillation=distillation(kind))
    twice = torch.stack([logits, logits], dim=1)
    targets = Targets(LABELS, LABELS)
    torch.testing.assert_close(objective(logits, targets, taught), objective(twice, targets, taught))


@pytest.mark.parametrize("kind", KINDS)
def test_class_weights_smoothing_and_mixed_labels_are_of_the_labels_part_alone(kind):
    logits, taught = noise(6, 4, seed=0), noise(6, 4, seed=1)
    lesson, targets = distillation(kind), Targets(LABELS, PARTNERS, 0.4)
    plain = Objective(label_smoothing=0.1, class_weights=WEIGHTS)
    taught_too = Objective(label_smoothing=0.1, class_weights=WEIGHTS, distillation=lesson)
    expected = 0.7 * plain(logits, targets) + 0.3 * lesson.loss(logits, taught)
    torch.testing.assert_close(taught_too(logits, targets, taught), expected)


def test_each_head_learns_from_its_own_source():
    logits = noise(6, 2, 4, seed=0).requires_grad_()
    Objective(distillation=distillation(alpha=1.0))(logits, Targets(LABELS, LABELS), noise(6, 4, seed=1)).backward()
    assert logits.grad[:, 0].eq(0).all()
    assert logits.grad[:, 1].ne(0).all()


def test_the_gradient_of_the_soft_loss_is_about_as_large_for_every_temperature():
    norms = []
    for temperature in (4.0, 16.0):
        logits = (noise(64, 4, seed=0) / 4).requires_grad_()
        distillation(temperature=temperature).loss(logits, noise(64, 4, seed=1)).backward()
        norms.append(logits.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.1)


# the model


def test_heads_stand_apart_in_training_only_and_only_when_asked_to():
    model, images = build_model(distillation="head"), Batches().images
    with torch.no_grad():
        mean = model.train()(images)
        model.heads_apart = True
        apart = model(images)
        judged = model.eval()(images)
    assert apart.shape == (len(images), 2, 4)
    torch.testing.assert_close(apart.mean(dim=1), mean)
    assert torch.equal(judged, mean)
    assert torch.equal(answers(apart), answers(mean))
    features = model.features(images)
    torch.testing.assert_close(apart[:, 0], model.head(features[:, 0]))
    torch.testing.assert_close(apart[:, 1], model.distillation_head(features[:, 1]))


def test_the_precision_of_a_model_with_two_heads_can_be_measured():
    model = build_model(distillation="head")
    model.heads_apart = True
    seconds = seconds_per_image(model, work="training", dtype="bfloat16", image_shape=(1, 8, 8), most_images=4)
    assert seconds.keys() == {"float32", "bfloat16"}


# training


def student_in(folder, *, stop_after=None, kind="hard", **settings):
    """A student with two heads, with all that is random."""
    model = build_model(distillation="head", dropout=0.2, drop_path=0.3)
    model.heads_apart = True
    trainer = build_trainer(
        model,
        train=Batches(size=10, batch_size=4),
        mixing=Mixing(mixup=0.8, cutmix=1.0, seed=5),
        distillation=distillation(kind, temperature=2.0),
        **{"ema": True, "grad_accum_steps": 2, "epochs": 2, **settings},
    )
    folder.mkdir(exist_ok=True)
    trainer.save_steps, trainer._saver = 1, Disk(folder, stop_after)
    return trainer


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_that_goes_on_ends_with_the_same_bits(tmp_path, kind):
    whole = student_in(tmp_path / "whole", kind=kind)
    whole.fit()
    cut = student_in(tmp_path / "cut", kind=kind, stop_after=(2, 2))
    with pytest.raises(Interrupted):
        cut.fit()
    again = student_in(tmp_path / "cut", kind=kind)
    again.load_state_dict(load_state(again.saver.path))
    again.fit()
    assert without_timings(again.state_dict()) == without_timings(whole.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_in_parts_is_taught_as_a_whole_one(kind):
    def train(parts):
        model = build_model(qkv_bias=False)
        options = {"optimizer": "sgd", "lr": 1e-2, "grad_accum_steps": parts}
        build_trainer(model, distillation=distillation(kind, temperature=2.0), **options).fit()
        return copied(model.state_dict())

    whole, cut = train(1), train(3)
    for name in whole:
        torch.testing.assert_close(cut[name], whole[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_comes_to_answer_as_its_teacher_does(kind):
    teach, student, train = build_teacher(), build_model(seed=3), Batches()
    lesson = distillation(kind, teach, alpha=1.0)
    build_trainer(student, train=train, distillation=lesson, epochs=12, lr=0.02).fit()
    assert torch.equal(student.eval()(train.images).argmax(dim=1), teach(train.images).argmax(dim=1))


@pytest.mark.usefixtures("one_thread")
def test_the_teacher_sees_the_images_that_the_student_sees():
    seen, shown = [], []
    teach, model = build_teacher(), build_model()
    model.register_forward_pre_hook(lambda module, given: seen.append(given[0]) if module.training else None)
    lesson = distillation(teacher=lambda images: (shown.append(images), teach(images))[1])
    build_trainer(
        model, mixing=Mixing(mixup=1, cutmix=1, seed=0), distillation=lesson, epochs=1, grad_accum_steps=2
    ).fit()
    assert len(shown) == 4
    assert all(torch.equal(one, other) for one, other in zip(seen, shown, strict=True))


@pytest.mark.parametrize("teacher", [False, True])
def test_losses_are_computed_in_float32_whatever_the_model_computes_in(monkeypatch, teacher):
    """On a GPU, cross-entropy would compute log-probabilities in the 16 bits of its input."""
    dtypes, objective = set(), Objective.__call__

    def watched(self, logits, *others):
        dtypes.add(logits.dtype)
        return objective(self, logits, *others)

    monkeypatch.setattr(Objective, "__call__", watched)
    half = Precision(CPU, amp="on", dtype="bfloat16")
    build_trainer(epochs=1, precision=half, distillation=distillation() if teacher else None).fit()
    assert dtypes == {torch.float32}
