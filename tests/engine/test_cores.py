"""A batch whose images are divided among the cores of a CPU."""

import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.trainers import Batches, build_model, build_trainer
from vitcli.engine.autocast import Precision
from vitcli.engine.cores import on_cores, shares_of_cores
from vitcli.engine.evaluate import predict_logits

CPU = torch.device("cpu")


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@given(images=st.integers(0, 1000), threads=st.integers(1, 40))
def test_shares_are_about_equal_and_cover_all_images(images: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        shares = shares_of_cores(images, CPU)
    finally:
        torch.set_num_threads(before)
    assert [at for share in shares for at in range(images)[share]] == list(range(images))
    sizes = [share.stop - share.start for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert len(shares) <= min(threads, 8)
    assert len(shares) == 1 or len(set(sizes)) == 1 or min(sizes) >= 4


@pytest.mark.usefixtures("three_threads")
def test_a_gpu_gets_all_images() -> None:
    assert shares_of_cores(30, torch.device("cuda")) == [slice(0, 30)]


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


@pytest.mark.parametrize("settings", [{}, {"optimizer": "muon", "lr": 0.01}, {"grad_accum_steps": 2, "clip_grad": 0.1}])
def test_a_step_is_the_same_with_any_number_of_cores(settings: dict[str, object]) -> None:
    found = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            batches = Batches(size=32, batch_size=12)
            batches.images = batches.images.double()
            trainer = build_trainer(build_model().double(), train=batches, epochs=2, **settings)
            assert trainer.stepper.uses_cores
            trainer.fit()
        finally:
            torch.set_num_threads(before)
        found.append((trainer.model.state_dict(), trainer.records))
    (alone, records), (divided, others) = found
    for name, weights in alone.items():
        torch.testing.assert_close(divided[name], weights, rtol=1e-9, atol=1e-9)
    for record, other in zip(records, others, strict=True):
        assert other.train_loss == pytest.approx(record.train_loss, rel=1e-6)
        assert other.train_accuracy == record.train_accuracy


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
def test_logits_are_the_same() -> None:
    model, batches = build_model(), Batches(size=31, batch_size=31)
    logits, labels = predict_logits(model, batches, Precision(CPU, amp="off", dtype="bfloat16"))
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(batches.images), rtol=1e-5, atol=1e-6)
    assert labels.tolist() == batches.labels.tolist()
