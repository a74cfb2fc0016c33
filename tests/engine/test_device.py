import os
import random
import re

import numpy as np
import pytest
import torch
from torch import nn

from vitcli.core.errors import DeviceError, UsageError
from vitcli.core.launch import Place
from vitcli.core.model_config import ModelConfig
from vitcli.engine import autocast
from vitcli.engine.autocast import Precision, _can_pack, _PackedLinear
from vitcli.engine.device import choose_device, describe, seed_everything
from vitcli.engine.distributed import Processes
from vitcli.models.finetune import add_low_rank
from vitcli.models.vit import VisionTransformer

CPU = torch.device("cpu")


@pytest.fixture
def no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_cpu_is_the_cpu():
    assert choose_device("cpu") == CPU


@pytest.mark.usefixtures("no_accelerator")
def test_auto_is_the_cpu_where_there_is_nothing_better():
    assert choose_device("auto") == CPU


@pytest.mark.usefixtures("two_gpus")
def test_auto_is_the_gpu_where_there_is_one():
    assert choose_device("auto") == torch.device("cuda")


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_gpus_are_chosen_by_number(name):
    assert choose_device(name) == torch.device(name)


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_is_one_too_many_is_refused():
    with pytest.raises(DeviceError, match="there is no cuda:2") as refusal:
        choose_device("cuda:2")
    assert refusal.value.hint == "this machine has 2 CUDA device(s)"


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize(("name", "kind"), [("cuda", "cuda"), ("cuda:0", "cuda"), ("0", "cuda"), ("mps", "mps")])
def test_a_device_that_the_machine_lacks_is_refused_with_what_works(name, kind):
    with pytest.raises(DeviceError, match=f"this machine has no {kind} device") as refusal:
        choose_device(name)
    assert refusal.value.hint == "--device cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_is_refused_on_this_machine():
    with pytest.raises(DeviceError):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("cud", "cuda"), ("gpu", "cuda"), ("cpuu", "cpu"), ("CUDA", "cuda"), ("cpu:1", "cpu"), ("auot", "auto")],
)
def test_an_unknown_device_is_refused_with_the_nearest_name(name, suggestion):
    with pytest.raises(UsageError, match=f"unknown device '{name}'") as refusal:
        choose_device(name)
    assert refusal.value.hint == f"did you mean '{suggestion}'?"


@pytest.mark.parametrize("name", ["", "xyzzy", "0,1"])
def test_a_device_unlike_any_other_is_refused_with_all_names(name):
    with pytest.raises(UsageError, match="unknown device") as refusal:
        choose_device(name)
    assert refusal.value.hint == "auto, cpu, cuda, cuda:N or mps"


@pytest.mark.parametrize("name", ["cuda:x", "cuda:-1", "cuda:1.5", "mps:0", "cuda:0:1"])
def test_a_number_that_is_none_is_refused(name):
    with pytest.raises(UsageError, match="unknown device"):
        choose_device(name)


def test_the_cpu_is_described_with_its_threads():
    assert re.fullmatch(rf"cpu \({torch.get_num_threads()} threads?\)", describe(CPU))


def drawn():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002 - the global generator is meant


@pytest.mark.parametrize("seed", [0, 42, 2**32 + 5, 2**63 - 1])
def test_the_same_seed_gives_the_same_draws_everywhere(seed):
    seed_everything(seed)
    once = drawn()
    seed_everything(seed)
    assert drawn() == once
    seed_everything(seed - 1 if seed else 1)
    assert all(first != second for first, second in zip(once, drawn(), strict=True))


def test_determinism_is_asked_of_torch_only_when_wanted(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    seed_everything(1)
    assert not torch.are_deterministic_algorithms_enabled()
    try:
        seed_everything(1, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(mode=False)


def test_without_mixed_precision_all_is_float32():
    precision = Precision(CPU, amp="off", dtype="float16")
    with precision.autocast():
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32
    assert not precision.scaler.is_enabled()
    assert precision.name == "float32"


@pytest.mark.parametrize(("dtype", "scales"), [("bfloat16", False), ("float16", True)])
def test_mixed_precision_computes_in_the_chosen_type_and_scales_float16_alone(dtype, scales):
    precision = Precision(CPU, amp="on", dtype=dtype)
    with precision.autocast():
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == getattr(torch, dtype)
    assert precision.scaler.is_enabled() is scales
    assert precision.name == dtype


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_whose_matrices_are_converted_once_gives_the_same_answers(dtype):
    precision = Precision(CPU, amp="on", dtype=dtype)
    config = ModelConfig(image_size=(8, 8), patch_size=(4, 4), width=24, depth=2, mlp_width=32, layer_scale=0.1)
    model, images = VisionTransformer(config).eval(), torch.randn(3, 3, 8, 8)
    rounded = precision.rounded(model)
    with torch.inference_mode(), precision.autocast():
        torch.testing.assert_close(rounded(images), model(images), rtol=0.02, atol=0.02)
        if dtype == "float16" or not _can_pack():
            assert torch.equal(rounded(images), model(images))
        assert rounded(images[:0]).shape == (0, config.num_classes)
    matrices = {each.weight.dtype for each in rounded.modules() if isinstance(each, nn.Linear | nn.Conv2d)}
    assert matrices == {getattr(torch, dtype)}
    is_packed = {isinstance(each, _PackedLinear) for each in (rounded.blocks[0].mlp.fc1, rounded.head[-1])}
    assert is_packed == {dtype == "bfloat16" and _can_pack()}
    assert rounded.positions is model.positions
    assert rounded.norm.weight is model.norm.weight
    assert {each.dtype for each in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("bias", [False, True])
def test_packed_layers_compute_what_others_do(bias):
    if not _can_pack():
        pytest.skip("this processor has no kernels for bfloat16 with packed matrices")
    layer = nn.Linear(40, 30, bias=bias, dtype=torch.bfloat16)
    packed = _PackedLinear(layer.weight, layer.bias)
    with torch.inference_mode():
        for inputs in (torch.randn(40), torch.randn(7, 40), torch.randn(2, 5, 80)[..., ::2], torch.randn(40, 3).T):
            expected = layer(inputs.bfloat16())
            torch.testing.assert_close(packed(inputs), expected, rtol=0.02, atol=0.02)


def test_without_packed_kernels_matrices_are_converted_all_the_same(monkeypatch):
    monkeypatch.setattr(autocast, "_can_pack", lambda: False)
    model, inputs = nn.Sequential(nn.Linear(40, 30)), torch.randn(7, 40)
    precision = Precision(CPU, amp="on", dtype="bfloat16")
    with torch.inference_mode(), precision.autocast():
        assert torch.equal(precision.rounded(model)(inputs), model(inputs))


def test_low_rank_changes_of_a_matrix_are_not_lost():
    config = ModelConfig(image_size=(8, 8), patch_size=(4, 4), width=24, depth=2, mlp_width=32)
    model, images = VisionTransformer(config).eval(), torch.randn(3, 3, 8, 8)
    add_low_rank(model, 2)
    precision = Precision(CPU, amp="on", dtype="bfloat16")
    with torch.inference_mode(), precision.autocast():
        torch.testing.assert_close(precision.rounded(model)(images), model(images), rtol=0.02, atol=0.02)


def test_in_float32_nothing_is_converted_or_copied():
    layer = nn.Linear(2, 2)
    assert Precision(CPU, amp="off", dtype="bfloat16").rounded(layer) is layer


def test_no_weight_is_kept_in_half_precision():
    layer, ones = nn.Linear(2, 2), torch.ones(1, 2)
    with Precision(CPU, amp="on", dtype="bfloat16").autocast():
        before = layer(ones)
        with torch.no_grad():
            layer.weight.mul_(2), layer.bias.mul_(2)
        assert torch.equal(layer(ones), 2 * before)


@pytest.mark.parametrize("name", ["1", "cuda:1"])
def test_one_device_is_not_enough_for_several_processes(name):
    with pytest.raises(DeviceError, match=f"{name} is one device for 2 processes"):
        Processes(Place(rank=0, size=2)).device(name)
