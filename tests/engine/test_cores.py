"""A batch whose images are divided among the cores of a CPU."""

import _thread
import signal
import threading
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.trainers import CPU, FLOAT32, Batches, build_model, build_trainer
from vitcli.engine import cores
from vitcli.engine.autocast import Precision
from vitcli.engine.cores import may_divide_steps, on_cores, shares_of_cores
from vitcli.engine.distillation import Distillation
from vitcli.engine.evaluate import predict_logits
from vitcli.engine.mixing import Mixing


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@given(images=st.integers(0, 1000), threads=st.integers(1, 40), widest=st.integers(0, 10_000_000))
def test_shares_are_about_equal_and_cover_all_images(images: int, threads: int, widest: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        shares = shares_of_cores(images, CPU, SimpleNamespace(widest_bytes=widest))
    finally:
        torch.set_num_threads(before)
    assert [at for pieces in shares for piece in pieces for at in range(images)[piece]] == list(range(images))
    sizes = [sum(len(range(images)[piece]) for piece in pieces) for pieces in shares]
    assert max(sizes) - min(sizes) <= 1
    assert len(shares) <= 8
    assert threads % len(shares) == 0, "all cores are used"
    assert len(shares) == 1 or len(set(sizes)) == 1 or min(sizes) >= 4
    for pieces in shares:
        sizes = [len(range(images)[piece]) for piece in pieces]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= 1 or max(sizes) * widest <= 4 * 2**20 * (threads // len(shares)), "fits into the cache"
        assert len(pieces) == 1 or 2 * min(sizes) * widest * 2 > 4 * 2**20, "not in more pieces than needed"


def test_images_of_models_with_large_matrices_stay_together() -> None:
    """A core would read the matrices anew for each piece."""
    model, small = (SimpleNamespace(widest_bytes=2**21, matrix_bytes=size) for size in (2**23, 2**10))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert [len(shares_of_cores(32, CPU, each)[0]) for each in (model, small)] == [1, 16]
        assert len(shares_of_cores(64, CPU, model)[0]) == 2
    finally:
        torch.set_num_threads(before)


def test_the_largest_output_of_a_layer() -> None:
    model, sizes = build_model(class_token=True, num_registers=2).eval(), []
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _module, _given, output: sizes.append(output.nbytes))
    model(torch.randn(3, 1, 8, 8))
    assert max(sizes) == 3 * model.widest_bytes
    assert max(weight.nbytes for weight in model.blocks.parameters()) == model.matrix_bytes


@pytest.mark.usefixtures("three_threads")
def test_a_gpu_gets_all_images() -> None:
    wide = SimpleNamespace(widest_bytes=2**30)
    assert shares_of_cores(30, torch.device("cuda"), wide) == [[slice(0, 30)]]


@pytest.mark.usefixtures("three_threads")
def test_shares_are_computed_at_once_with_one_core_each_and_the_callers_gradient_mode() -> None:
    together = threading.Barrier(3, timeout=60)

    def compute(share: int) -> tuple[int, int, bool, bool]:
        together.wait()
        return share, torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    assert on_cores(compute, [5, 3, 4]) == [(5, 1, True, False), (3, 1, True, False), (4, 1, True, False)]
    with torch.no_grad():
        assert on_cores(compute, [0, 1, 2])[0] == (0, 1, False, False)
    with torch.inference_mode():
        assert on_cores(compute, [0, 1, 2])[0] == (0, 1, False, True)
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_an_error_is_raised_when_all_threads_have_ended() -> None:
    ended = []

    def compute(share: int) -> None:
        if share == 1:
            raise MemoryError(str(share))
        threading.Event().wait(0.05)
        ended.append(share)

    with pytest.raises(MemoryError, match="1"):
        on_cores(compute, [0, 1, 2])
    assert sorted(ended) == [0, 2]
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "muon", "lr": 0.01},
        {"grad_accum_steps": 2, "clip_grad": 0.1},
        {"distillation": Distillation(teacher=build_model(seed=1).double().eval(), kind="soft", alpha=0.3)},
        {"mixing": Mixing(mixup=0.8, cutmix=1.0, seed=3)},
        {"recomputes": True},
    ],
)
def test_a_step_is_the_same_with_any_number_of_cores_and_pieces(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recomputes = settings.pop("recomputes", False)
    found = []
    before = torch.get_num_threads()
    for threads, in_cache in ((1, 2**20), (1, 2**12), (3, 2**20), (3, 2**12)):
        monkeypatch.setattr(cores, "_IN_CACHE", in_cache)
        monkeypatch.setattr(cores, "_TIMES_MATRIX", 0)
        torch.set_num_threads(threads)
        try:
            batches = Batches(size=32, batch_size=12)
            batches.images = batches.images.double()
            model = build_model().double()
            model.grad_checkpointing = recomputes
            assert all((len(pieces) > 1) == (in_cache == 2**12) for pieces in shares_of_cores(12, CPU, model))
            trainer = build_trainer(model, train=batches, epochs=1, **settings)
            assert trainer.stepper.uses_cores
            trainer.fit()
        finally:
            torch.set_num_threads(before)
        found.append((trainer.model.state_dict(), trainer.records))
    (alone, records), *rest = found
    for divided, others in rest:
        for name, weights in alone.items():
            torch.testing.assert_close(divided[name], weights, rtol=1e-9, atol=1e-9)
        for record, other in zip(records, others, strict=True):
            assert other.train_loss == pytest.approx(record.train_loss, rel=1e-6)
            assert other.train_accuracy == record.train_accuracy


@pytest.mark.usefixtures("three_threads")
def test_a_step_in_bfloat16_is_about_that_of_one_core() -> None:
    model = build_model()
    images, labels = torch.randn(12, 1, 8, 8), torch.arange(12) % 4
    found = []
    for shares in ([slice(0, 12)], [piece for pieces in shares_of_cores(12, CPU) for piece in pieces]):

        def gradients(share: slice) -> list[torch.Tensor]:
            with Precision(CPU, amp="on", dtype="bfloat16").autocast():
                loss = torch.nn.functional.cross_entropy(model(images[share]), labels[share], reduction="sum")
            return list(torch.autograd.grad(loss, list(model.parameters())))

        found.append([sum(each) for each in zip(*on_cores(gradients, shares), strict=True)])
    assert len(shares) == 3
    for one, three in zip(*found, strict=True):
        torch.testing.assert_close(three, one, rtol=0.05, atol=0.05)


@pytest.mark.usefixtures("three_threads")
def test_a_share_is_not_divided_again() -> None:
    """Otherwise each thread of the pool could wait for others that have no thread."""
    assert on_cores(lambda _: len(shares_of_cores(30, CPU)), [0, 1, 2]) == [1, 1, 1]


def test_processes_that_train_together_are_not_divided() -> None:
    """A sharded model exchanges its weights in every forward pass, in the same order in all processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert len(shares_of_cores(8, CPU)) == 2
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        assert shares_of_cores(8, CPU, SimpleNamespace(widest_bytes=2**30)) == [[slice(0, 8)]]
    finally:
        torch.distributed.destroy_process_group()
        torch.set_num_threads(before)


def test_a_large_model_is_trained_undivided(monkeypatch: pytest.MonkeyPatch) -> None:
    assert may_divide_steps(model := build_model(), FLOAT32)
    monkeypatch.setattr(cores, "_MOST_WEIGHTS", 1000)
    assert not may_divide_steps(model, FLOAT32)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("last", [0, 2])
def test_an_interrupt_waits_for_the_threads(last: int) -> None:
    """As the first of them begins, before the others have, and when all compute."""
    began, ended = [], []

    def compute(share: int) -> None:
        began.append(share)
        if share == last:
            _thread.interrupt_main()
        threading.Event().wait(0.2)
        ended.append(share)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            on_cores(compute, [0, 1, 2])
    finally:
        signal.signal(signal.SIGINT, before)
    assert began
    assert sorted(ended) == sorted(began)
    assert cores._pool is None  # a thread that it does not know of would keep the process from ending
    assert on_cores(abs, [-1, -2, -3]) == [1, 2, 3]


def test_gradients_of_a_piece_are_freed_before_those_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a share would hold the gradients of several pieces, for which a large model has no memory."""
    model = build_model()
    monkeypatch.setattr(cores, "_IN_CACHE", 2 * model.widest_bytes)
    monkeypatch.setattr(cores, "_TIMES_MATRIX", 0)
    compute, found = torch.autograd.grad, list[weakref.ref[torch.Tensor]]()

    def watched(*given: Any, **options: Any) -> tuple[torch.Tensor, ...]:
        assert not [each for each in found if each() is not None]
        gradients = compute(*given, **options)
        found[:] = [weakref.ref(each) for each in gradients if each is not None]
        return gradients

    monkeypatch.setattr(torch.autograd, "grad", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer = build_trainer(model, train=Batches(size=12, batch_size=12))
        trainer.take_step(*next(iter(trainer.train.epoch(1))))
    finally:
        torch.set_num_threads(before)
    assert found


@pytest.mark.usefixtures("three_threads")
def test_gradients_lie_in_memory_as_the_parameters_do() -> None:
    trainer = build_trainer(build_model(class_token=True), train=Batches(size=12, batch_size=12))
    trainer.take_step(*next(iter(trainer.train.epoch(1))))
    gradients = [parameter.grad for parameter in trainer.model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    for parameter in trainer.model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()
    assert len({gradient.data_ptr() for gradient in gradients if gradient is not None}) == len(gradients)


@pytest.mark.parametrize("rate", ["dropout", "embedding_dropout", "attention_dropout", "head_dropout", "drop_path"])
def test_a_model_that_draws_random_numbers_is_not_divided(rate: str) -> None:
    assert not build_trainer(build_model(**{rate: 0.1})).stepper.uses_cores


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("in_cache", [2**20, 2**11])
def test_logits_are_the_same(in_cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_IN_CACHE", in_cache)
    model, batches = build_model(), Batches(size=31, batch_size=31)
    monkeypatch.setattr(cores, "_TIMES_MATRIX", 0)
    logits, labels = predict_logits(model, batches, FLOAT32)
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(batches.images), rtol=1e-5, atol=1e-6)
    assert labels.tolist() == batches.labels.tolist()


@pytest.mark.usefixtures("three_threads")
def test_the_images_of_a_core_are_computed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both in training and in inference, so that the memory that a step takes does not grow with the batch."""
    model, sizes = build_model(), []
    model.register_forward_pre_hook(lambda _module, given: sizes.append(len(given[0])))
    monkeypatch.setattr(cores, "_IN_CACHE", 2 * model.widest_bytes)
    monkeypatch.setattr(cores, "_TIMES_MATRIX", 0)
    trainer = build_trainer(model, train=Batches(size=18, batch_size=18))
    trainer.take_step(*next(iter(trainer.train.epoch(1))))
    predict_logits(model, Batches(size=18, batch_size=18), FLOAT32)
    assert sizes == [2] * 18
