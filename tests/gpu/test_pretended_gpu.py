"""Steps on a GPU that is pretended: torch's fake tensors show on any machine what mixes devices, or waits for the GPU.

Fake tensors have a device and a shape, and no values: to look at one is an error, as it would be a wait on a GPU. What
draws on the CPU computes with real ones beside them. No gradients flow, so the backward pass leaves zeros.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.gpu.trainers import BATCH, CROPS, EVERYTHING, TURNS, build_model, build_trainer
from vitcli.data import loader
from vitcli.engine import muon

CUDA = torch.device("cuda:0")
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class PretendedGpu(TorchDispatchMode):
    """Computes with fake tensors where a CUDA device takes part; once ``watching``, copies to it must not wait."""

    def __init__(self):
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.watching = False

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        tensors = [each for each in tree_leaves((arguments, options)) if isinstance(each, torch.Tensor)]
        is_fake = [isinstance(each, FakeTensor) for each in tensors]
        if not any(is_fake) and torch.device(options.get("device") or "cpu").type == "cpu":
            return function(*arguments, **options)
        if self.watching and function in COPIES and not all(is_fake) and tensors[-1].ndim:
            assert options.get("non_blocking") or True in arguments[2:], f"a copy of {tensors[-1].shape} waits"
        with self.fake:
            return function(*arguments, **options)


@pytest.fixture
def pretended_gpu(monkeypatch):
    tensor = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda data, device=None, **how: tensor(data, **how).to(device or "cpu"))
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: None)
    monkeypatch.setattr(loader, "_placed", lambda images, device: images.to(device))
    monkeypatch.setattr(muon, "has_bfloat16", lambda device: True)
    return PretendedGpu()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which test_engine.py sees more")
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(("optimizer", "augment"), [("muon", CROPS), ("adamw", TURNS), ("schedule-free", EVERYTHING)])
def test_a_step_stays_on_the_device_and_does_not_wait(pretended_gpu, monkeypatch, optimizer, augment):
    with pretended_gpu:
        settings = {"optimizer": optimizer, "ema": optimizer != "schedule-free", "grad_accum_steps": 2}
        model = build_model(CUDA, depth=1)
        trainer = build_trainer(CUDA, model=model, augment=augment, mix=0.8, batch_size=2 * BATCH, **settings)
        weights = list(trainer.model.parameters())

        def backward(_loss):
            for weight in weights:
                weight.grad = torch.zeros_like(weight)

        monkeypatch.setattr(torch.Tensor, "backward", backward)
        batches = trainer.train.epoch(1)
        trainer.take_step(*next(batches))
        pretended_gpu.watching = True
        trainer.take_step(*next(batches))
    assert {tensor.device for tensor in (*weights, trainer.totals.loss, trainer.totals.grad_norm)} == {CUDA}
