import copy
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.trainers import device_of
from vitcli.core.errors import DeviceError
from vitcli.core.model_config import ModelConfig
from vitcli.engine.device import fingerprint, has_bfloat16
from vitcli.engine.timing import clearly_faster, mixed_dtype, seconds_per_image
from vitcli.models.finetune import add_low_rank, train_only
from vitcli.models.vit import VisionTransformer

CPU = torch.device("cpu")
SECONDS = st.floats(1e-9, 1e3)


def build_model(**changes):
    fields = {"image_size": (8, 8), "patch_size": (4, 4), "num_classes": 4, "width": 16, "num_heads": 2}
    torch.manual_seed(0)
    return VisionTransformer(ModelConfig(**{**fields, "depth": 3, "mlp_width": 32, "dropout": 0.5, **changes}))


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    """What a measurement does to a model shows in its first rounds."""
    monkeypatch.setattr("vitcli.engine.timing._MOST_ROUNDS", 3)


# the decision


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"),
    [
        (1 / 61, 1 / 172, "bfloat16"),  # DeiT-tiny, on a processor with instructions for it
        (1 / 5.2, 1 / 19.8, "bfloat16"),  # ViT-B
        (1 / 1465, 1 / 727, "float32"),  # 119k parameters at 32 pixels
        (1.0, 1.0, "float32"),
        (1.0, 0.95, "float32"),  # faster, but not clearly so
        (1.1, 1.0, "bfloat16"),
    ],
)
def test_another_precision_is_taken_where_it_is_clearly_faster(float32, bfloat16, chosen):
    assert clearly_faster({"float32": float32, "bfloat16": bfloat16}) == chosen


@given(SECONDS, SECONDS)
def test_what_is_taken_is_never_slower_than_float32_and_float32_never_a_tenth_slower(float32, float16):
    seconds = {"float32": float32, "float16": float16}
    chosen = clearly_faster(seconds)
    assert seconds[chosen] <= float32
    assert chosen == "float16" or float32 < 1.1 * float16


@pytest.mark.parametrize(
    ("kind", "asked", "has", "expected"),
    [
        ("cuda", "bfloat16", True, "bfloat16"),
        ("cuda", "float16", True, "float16"),
        ("cuda", "bfloat16", False, "float16"),  # which trains with a gradient scaler
        ("cpu", "bfloat16", True, "bfloat16"),
        ("cpu", "bfloat16", False, None),
        ("cpu", "float16", True, None),
        ("mps", "bfloat16", True, None),
    ],
)
def test_only_what_a_device_really_computes_in_is_measured(kind, asked, has, expected):
    assert mixed_dtype(kind, asked, has_bfloat16=has) == expected


# the measurement


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


def measured(model, work="training", **options):
    return seconds_per_image(
        model, work=work, dtype="bfloat16", image_shape=(3, *model.config.image_size), most_images=8, **options
    )


@pytest.mark.parametrize("work", ["training", "inference"])
@pytest.mark.parametrize("mode", [True, False])
def test_measuring_leaves_no_trace_in_the_model_and_in_what_is_random(work, mode):
    model = build_model(positions="sincos", drop_path=0.2).train(mode)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    weights = copy.deepcopy(model.state_dict())
    buffers = copy.deepcopy(dict(model.named_buffers()))
    before = states()
    seconds = measured(model, work)
    assert set(seconds) == {"float32", "bfloat16"}
    assert min(seconds.values()) > 0
    assert states() == before
    assert {module.training for module in model.modules()} == {mode}
    for old, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, old, rtol=0, atol=0)
    for old, new in ((weights, model.state_dict()), (buffers, dict(model.named_buffers()))):
        assert old.keys() == new.keys()
        for name, tensor in old.items():
            torch.testing.assert_close(new[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("prepare", [lambda m: add_low_rank(m, 2), lambda m: train_only(m, "last:1"), lambda m: None])
@pytest.mark.parametrize("changes", [{}, {"distillation": "head"}, {"class_token": False, "pooling": "patches"}])
def test_every_kind_of_training_can_be_measured_with_blocks_left_out(prepare, changes):
    model = build_model(depth=6, **changes)
    prepare(model)
    seconds = measured(model, left_out=model.blocks[1:-1])
    assert min(seconds.values()) > 0
    assert len([block for block in model.blocks if type(block).__name__ == "Block"]) == 6


def test_blocks_that_are_left_out_are_not_computed():
    model, computed = build_model(depth=6), set()
    for number, block in enumerate(model.blocks):  # the copy that is timed calls the same hooks
        block.register_forward_hook(lambda *_, number=number: computed.add(number))
    measured(model, left_out=model.blocks[1:-1])
    assert computed == {0, 5}


@pytest.mark.parametrize("work", ["training", "inference"])
def test_a_batch_that_does_not_fit_is_measured_with_the_images_that_do(work, monkeypatch):
    monkeypatch.setattr("vitcli.engine.timing._LONG_ENOUGH", math.inf)  # on a busy machine, one image takes long
    model, taken = build_model(), []
    model.blocks[0].register_forward_hook(lambda _module, given, _output: taken.append(len(given[0])))
    with device_of(3):
        assert min(measured(model, work).values()) > 0
    assert max(taken) == 2
    with device_of(0), pytest.raises(torch.OutOfMemoryError):
        measured(model, work)


def test_a_model_without_a_head_can_be_measured():
    assert min(measured(build_model(num_classes=0), "inference").values()) > 0


# the machine


def test_the_fingerprint_changes_with_the_number_of_threads():
    before, threads = fingerprint(CPU), torch.get_num_threads()
    assert before == fingerprint(CPU)
    try:
        torch.set_num_threads(threads + 1)
        assert fingerprint(CPU) != before
    finally:
        torch.set_num_threads(threads)
    assert before["torch"] == torch.__version__
    assert len(str(before["device"])) > len("cpu ")


def test_what_torch_cannot_tell_is_no_bfloat16(monkeypatch):
    monkeypatch.delenv("VIT_BFLOAT16", raising=False)
    for name in ("get_capabilities", "_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not has_bfloat16(CPU)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"bf16": True}, True),
        ({"avx512_f": True, "bf16": False}, False),
    ],
)
def test_bfloat16_is_told_by_the_processors_instructions(monkeypatch, capabilities, expected):
    monkeypatch.delenv("VIT_BFLOAT16", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert has_bfloat16(CPU) is expected


@pytest.mark.parametrize(("told", "expected"), [("yes", True), ("no", False)])
def test_a_variable_overrides_what_torch_knows_of_the_processor(monkeypatch, told, expected):
    monkeypatch.delenv("VIT_BFLOAT16", raising=False)
    unsaid = fingerprint(CPU)
    monkeypatch.setenv("VIT_BFLOAT16", told)
    assert has_bfloat16(CPU) is expected
    assert fingerprint(CPU) != unsaid  # so that what a run chose without it does not count
    assert not has_bfloat16(torch.device("mps"))


def test_another_value_of_the_variable_is_refused(monkeypatch):
    monkeypatch.setenv("VIT_BFLOAT16", "maybe")
    with pytest.raises(DeviceError, match="VIT_BFLOAT16 = 'maybe' is neither yes nor no"):
        has_bfloat16(CPU)
