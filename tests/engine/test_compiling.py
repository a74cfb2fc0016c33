import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitcli.core.errors import DeviceError, TrainingError
from vitcli.core.events import Note, Warned, ignore
from vitcli.core.model_config import ModelConfig
from vitcli.engine.autocast import Precision
from vitcli.engine.compiling import compiled as compile_model
from vitcli.engine.compiling import is_worth_compiling
from vitcli.engine.micro_batches import MicroBatches
from vitcli.models.layers import resampling
from vitcli.models.vit import VisionTransformer

CPU = torch.device("cpu")
FLOAT32 = Precision(CPU, amp="off", dtype="bfloat16")
IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _nothing_compiled_yet():
    torch.compiler.reset()


def build_model():
    fields = {"image_size": (8, 8), "patch_size": (4, 4), "num_classes": 4, "width": 16, "depth": 1, "num_heads": 2}
    torch.manual_seed(0)
    return VisionTransformer(ModelConfig(**fields, mlp_width=32, dropout=0.1))


def small_model():
    """A model that is traced in no time, for what does not depend on its layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Dropout(0.1))


def compiled(model, *examples, micro_batches=None, required=True, emit=ignore, **options):
    micro_batches = micro_batches or MicroBatches(1, emit=emit, training=True)
    options = {"micro_batches": micro_batches, "required": required, "constants": [resampling], "emit": emit, **options}
    return compile_model(model, examples, FLOAT32, **options)


def broken(_graph, _inputs):
    raise RuntimeError("no compiler\nand many\nlines\nabout it")


@pytest.mark.parametrize(
    ("device", "seconds", "expected"),
    [("cuda", 3600, True), ("cuda", 60, False), ("cpu", 86400, False), ("mps", 86400, False)],
)
def test_compiling_is_for_long_training_on_gpus(device, seconds, expected):
    assert is_worth_compiling(torch.device(device), seconds=seconds) is expected


def test_the_first_step_of_a_compiled_model_leaves_no_trace():
    model = small_model().eval()
    weights, stream = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    compiled(model, IMAGES, backend="eager")
    assert torch.equal(torch.get_rng_state(), stream)
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.state_dict().keys() == weights.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_gradients_of_a_compiled_model_reach_the_models_own_weights():
    plain, model = small_model().eval(), small_model().eval()
    forward = compiled(model, IMAGES, backend="eager")
    for function in (plain, forward):
        for images in (IMAGES, IMAGES[:3]):
            F.cross_entropy(function(images), torch.arange(len(images)) % 4).backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_batches_of_another_size_are_not_compiled_anew():
    compilations = []

    def counted(graph, _inputs):
        compilations.append(graph)
        return graph

    model = small_model().eval()
    forward = compiled(model, IMAGES, backend=counted)
    times = len(compilations)
    assert times > 0
    model.train()
    for images in (IMAGES, IMAGES[:3], IMAGES[:1], IMAGES):
        assert forward(images).shape == (len(images), 4)
    assert len(compilations) == times


def test_what_does_not_compile_is_said_in_one_line_and_training_goes_on_without():
    events = []
    model = small_model()
    assert compiled(model, IMAGES, required=False, emit=events.append, backend=broken) is None
    assert [type(event) for event in events] == [Note, Warned]
    assert "without it" in events[-1].text
    assert "no compiler" in events[-1].text
    assert "\n" not in events[-1].text
    assert model(IMAGES).shape == (6, 4)


def test_what_does_not_compile_but_was_asked_for_is_an_error():
    with pytest.raises(DeviceError, match="no compiler") as refusal:
        compiled(small_model(), IMAGES, backend=broken)
    assert "\n" not in refusal.value.message
    assert refusal.value.hint == "--compile off"


def test_what_the_compiler_remarks_is_not_passed_on():
    def remarks(graph, _inputs):
        place = {"filename": "compile_fx.py", "lineno": 1, "module": "torch._inductor.compile_fx"}
        warnings.warn_explicit("TensorFloat32 tensor cores available but not enabled", UserWarning, **place)
        return graph

    assert compiled(small_model(), IMAGES, backend=remarks)


# sizes, and memory


def test_every_size_of_images_is_compiled_before_training_and_none_in_it():
    compilations, events = [], []

    def counted(graph, _inputs):
        compilations.append(graph)
        return graph

    small = IMAGES[..., :4, :4]
    forward = compiled(build_model(), IMAGES, small, emit=events.append, backend=counted, fullgraph=True)
    times = len(compilations)
    assert times > 1
    assert [event.text for event in events] == ["compiling the model for 2 sizes of images"]
    for images in (small, IMAGES):
        forward(images).sum().backward()
    assert len(compilations) == times


def device_of(most, taken):
    """A backend with memory for so many images; the others are noted."""

    def backend(graph, _inputs):
        def compute(*inputs):
            (images,) = (len(each) for each in inputs if each.shape[1:] == IMAGES.shape[1:])
            if images > most:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            taken.append(images)
            return graph(*inputs)

        return compute

    return backend


def test_a_batch_that_does_not_fit_is_compiled_in_parts_that_do():
    events, taken = [], []
    micro_batches = MicroBatches(1, emit=events.append, training=True)
    with torch._dynamo.config.patch(recompile_limit=1):  # tries that failed do not count
        forward = compiled(
            small_model(), IMAGES, micro_batches=micro_batches, emit=events.append, backend=device_of(2, taken)
        )
    assert micro_batches.count == 4
    assert taken == [2]
    said = [event.text for event in events if isinstance(event, Warned)]
    assert said == [
        "not enough memory for 6 images at once: from here on 2; batch size and learning rate stay the same"
    ]
    forward(IMAGES[:2])
    forward(IMAGES[:1])
    assert taken == [2, 2]


@pytest.mark.parametrize(("together", "hint"), [(False, "--grad-checkpointing"), (True, "--grad-accum-steps 2")])
def test_a_lack_of_memory_is_not_blamed_on_the_compiler(together, hint):
    micro_batches = MicroBatches(1, emit=ignore, training=True, together=together)
    with pytest.raises(TrainingError, match="not enough memory") as refusal:
        compiled(small_model(), IMAGES[:1], micro_batches=micro_batches, backend=device_of(0, []))
    assert hint in refusal.value.hint
    events = []
    micro_batches = MicroBatches(1, emit=ignore, training=True, together=together)
    options = {"required": False, "emit": events.append, "backend": device_of(0, [])}
    assert compiled(small_model(), IMAGES[:1], micro_batches=micro_batches, **options) is None
    assert "without it" in events[-1].text
    assert "not enough memory" in events[-1].text


# faults


def one_way(graph, _inputs):
    class OneWay(torch.autograd.Function):
        @staticmethod
        def forward(_context, tensor):
            return tensor.clone()

        @staticmethod
        def backward(_context, _gradient):
            raise RuntimeError("no way back")

    return lambda *inputs: [OneWay.apply(output) for output in graph(*inputs)]


def test_what_fails_on_the_way_back_does_not_work_either():
    events = []
    assert compiled(small_model(), IMAGES, required=False, emit=events.append, backend=one_way) is None
    assert "no way back" in events[-1].text


def test_any_number_of_models_is_compiled_in_one_process():
    """Torch compiles few variants of one function, counts those of deleted models, and then runs others as they are."""
    computed = []

    def counting(graph, _inputs):
        def run(*arguments):
            computed.append(len(arguments))
            return graph(*arguments)

        return run

    with torch._dynamo.config.patch(recompile_limit=1):
        for number in range(1, 4):
            images = torch.randn(number, 3, 8, 8)
            forward = compiled(small_model(), images, backend=counting)
            computed.clear()
            forward(images)
            assert computed, number
