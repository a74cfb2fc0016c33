"""What is measured, in which order, and what counts; nothing here depends on how fast this machine is."""

import copy

import pytest
import torch
from torch.overrides import TorchFunctionMode

from tests.builders.trainers import CPU, FLOAT32, build_model, device_of
from vitcli.engine.alternation import alternate, ratio
from vitcli.engine.benchmark import (
    Measured,
    measure_in_turn,
    our_inference,
    our_training,
    usual_inference,
    usual_training,
)
from vitcli.engine.cores import shares_of_cores
from vitcli.engine.hardware import matmul_peak

IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(6) % 4


# in turn


def test_the_order_is_reversed_in_every_second_round_and_the_first_round_does_not_count():
    taken = []

    def measure(name):
        taken.append(name)
        return float(len(taken))

    measured = alternate({name: lambda name=name: measure(name) for name in "abc"}, rounds=3)
    assert "".join(taken) == "abc" + "cba" + "abc" + "cba"
    assert measured == {"a": [6, 7, 12], "b": [5, 8, 11], "c": [4, 9, 10]}


def test_a_ratio_is_that_of_the_medians_with_those_within_the_rounds():
    found = ratio([2.0, 9.0, 4.0], [1.0, 2.0, 4.0])
    assert (found.of_medians, found.least, found.most, found.rounds) == (2.0, 1.0, 4.5, 3)
    assert str(found) == "2.00 (3 rounds: 1.00 to 4.50)"


class Work:
    """A step that counts its calls, and runs out of memory from one of them on."""

    def __init__(self, fails_at=None, fault=None):
        self.calls, self.fails_at = 0, fails_at
        self.fault = fault or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    def __call__(self):
        self.calls += 1
        if self.calls == self.fails_at:
            raise self.fault


def measured_in_turn(works, **options):
    builds = {name: lambda work=work: work for name, work in works.items()}
    return measure_in_turn(builds, device=CPU, **{"one_by_one": True, "rounds": 3, "seconds": 1e-9, **options})


@pytest.mark.parametrize("one_by_one", [True, False])
def test_each_is_warmed_up_and_then_measured_in_every_round(one_by_one):
    works, parts = {"ours": Work(), "theirs": Work()}, []
    measured = measured_in_turn(works, one_by_one=one_by_one, on_progress=lambda *part: parts.append(part))
    assert {name: work.calls for name, work in works.items()} == {"ours": 6, "theirs": 6}  # 2 + 1 to warm up, 3 rounds
    assert [(len(each.rounds), len(each.calls), each.error) for each in measured.values()] == [(3, 3, "")] * 2
    assert parts == [(done, 10) for done in range(11)]


@pytest.mark.parametrize(("one_by_one", "calls"), [(True, [1, 1, 7]), (False, [3])])
def test_a_round_is_the_mean_of_its_steps(one_by_one, calls, monkeypatch):
    clock, durations = [0.0], iter([1, 1, *([1, 1, 7] * 4)])
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def step():
        clock[0] += next(durations)

    (measured,) = measured_in_turn({"ours": step}, one_by_one=one_by_one, seconds=9).values()
    assert measured.rounds == [3, 3, 3]
    assert measured.calls == calls * 3


def test_a_round_has_as_many_steps_as_the_time_allows():
    work = Work()
    (measured,) = measured_in_turn({"ours": work}, seconds=0.01).values()
    per_round, rest = divmod(work.calls - 2, 4)
    assert rest == 0
    assert len(measured.calls) == 3 * per_round


@pytest.mark.parametrize(
    ("fails_at", "error", "calls"),
    [(1, "out of memory", 6), (2, "out of memory", 6), (5, "out of memory beside the others", 6)],
)
def test_what_does_not_fit_into_memory_is_an_error_of_its_own(fails_at, error, calls):
    works = {"large": Work(fails_at), "small": Work()}
    measured = measured_in_turn(works)
    assert works["small"].calls == calls
    assert (measured["large"].error, measured["large"].rounds, measured["large"].calls) == (error, [], [])
    assert (measured["small"].error, len(measured["small"].rounds)) == ("", 3)


def test_another_fault_is_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="shapes"):
        measured_in_turn({"ours": Work(2, RuntimeError("shapes do not fit"))})


@pytest.mark.parametrize(
    ("calls", "p90", "p99"),
    [(9, None, None), (10, 9.0, None), (99, 90.0, None), (100, 90.0, 99.0), (200, 180.0, 198.0)],
)
def test_percentiles_are_given_if_there_are_calls_beyond_them(calls, p90, p99):
    latency = Measured(calls=[float(value) for value in range(calls, 0, -1)]).latency
    assert (latency.calls, latency.p50, latency.p90, latency.p99) == (calls, (calls + 1) / 2, p90, p99)


# the peak of the device


class Products(TorchFunctionMode):
    """Matrix products that take, on a clock of their own, so many operations per second, and each a time of waiting."""

    def __init__(self, rate, waits):
        super().__init__()
        self.rate, self.waits, self.now, self.sizes = rate, waits, 0.0, []

    def __torch_function__(self, function, types, given=(), named=None):
        if function.__name__ != "matmul":
            return function(*given, **(named or {}))
        self.sizes.append(len(given[0]))
        self.now += 2 * len(given[0]) ** 3 / self.rate + self.waits
        return given[0]


@pytest.mark.parametrize(("rate", "waits", "size"), [(5e8, 0, 256), (2e9, 0, 512), (1e12, 0, 1024), (1e12, 0.03, 1024)])
def test_the_peak_is_measured_with_the_largest_product_that_is_not_too_slow(rate, waits, size, monkeypatch):
    with Products(rate, waits) as products:
        monkeypatch.setattr("time.perf_counter", lambda: products.now)
        peak = matmul_peak(CPU, torch.float32)
    assert products.sizes[-1] == size
    assert peak == pytest.approx(2 * size**3 / (2 * size**3 / rate + waits))
    assert products.now < 3


# the steps


def test_a_step_of_ours_and_a_usual_one_are_the_same_work():
    """Both compute the same gradients, clip them, and take a step of AdamW from there."""
    ours, usual = build_model(), build_model()
    before = copy.deepcopy(ours.state_dict())
    our_training(ours, IMAGES, LABELS, FLOAT32)()
    usual_training(usual, IMAGES, LABELS, FLOAT32)()
    for name, parameter in usual.named_parameters():
        mine = ours.get_parameter(name)
        torch.testing.assert_close(mine.grad, parameter.grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(mine - before[name], parameter - before[name], rtol=0, atol=2e-7)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in ours.parameters()])
    assert norm <= 1.0001


def test_many_steps_hardly_change_the_weights_so_that_their_time_stays_the_same():
    model = build_model()
    before, step = copy.deepcopy(model.state_dict()), our_training(model, IMAGES, LABELS, FLOAT32)
    for _ in range(20):
        step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize("infer", [our_inference, usual_inference])
def test_inference_is_in_evaluation_mode_and_keeps_no_graph(infer):
    model, seen = build_model(dropout=0.5), []
    model.register_forward_hook(lambda module, _given, output: seen.append((module.training, output.requires_grad)))
    infer(model, IMAGES, FLOAT32)()
    passes = sum(map(len, shares_of_cores(len(IMAGES), IMAGES.device, model))) if infer is our_inference else 1
    assert seen == [(False, False)] * passes


@pytest.mark.parametrize("images", [0, 3])
def test_a_batch_that_training_would_cut_counts_as_one_that_does_not_fit(images):
    for build in (
        lambda: our_training(build_model(), IMAGES, LABELS, FLOAT32),
        lambda: our_inference(build_model(), IMAGES, FLOAT32),
    ):
        step = build()
        with device_of(images), pytest.raises(MemoryError):
            step()
        with device_of(6):
            build()()
