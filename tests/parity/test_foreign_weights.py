"""Weights in other libraries' own files: recognised, read, and computing the same logits; all are random and tiny."""

import argparse
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from timm.data import resolve_model_data_config
from timm.models import save_for_hf
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionViT

from vitcli.core.errors import ModelError
from vitcli.data.preprocess import to_array
from vitcli.models.adapt import adapt_weights
from vitcli.models.capture import capture_attention
from vitcli.models.formats import TIMM, TORCHVISION, TRANSFORMERS, TUTORIAL, to_ours, to_theirs
from vitcli.models.pretrained import Traits
from vitcli.models.vit import VisionTransformer
from vitcli.models.weights import imagenet_classes, read_foreign

logging.getLogger("transformers").setLevel(logging.ERROR)

TINY = {"img_size": 32, "embed_dim": 128, "depth": 2, "num_heads": 2}
SMALL = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 96, "image_size": 32}
"""A model of transformers."""
TIMM_MODELS = {
    "augreg": ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", {}),
    "without head": ("vit_tiny_patch16_224", {"num_classes": 0}),
    "deit": ("deit_tiny_patch16_224", {"num_classes": 7}),
    "deit distilled": ("deit_tiny_distilled_patch16_224", {"num_classes": 7}),
    "deit3": ("deit3_small_patch16_224", {}),
    "dinov2": ("vit_small_patch14_dinov2", {"img_size": 42}),
    "dinov2 with registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 42}),
    "clip": ("vit_base_patch16_clip_224.openai", {"num_classes": 5}),
    "clip with quick gelu": ("vit_base_patch16_clip_quickgelu_224.openai", {"num_classes": 5}),
    "mean of the patches": ("vit_base_patch16_224", {"global_pool": "avg", "class_token": False, "num_classes": 3}),
    "mean beside a class token": ("vit_base_patch16_224", {"global_pool": "avg", "num_classes": 3}),
    "without qkv bias": ("vit_base_patch16_224", {"qkv_bias": False, "num_classes": 3}),
    "rectangular": ("vit_base_patch16_224", {"img_size": (32, 64), "num_classes": 3}),
    "one channel": ("vit_base_patch16_224", {"in_chans": 1, "num_classes": 3}),
}


def stirred(model: nn.Module) -> nn.Module:
    """No weight stays at a value (0, 1, 1e-6) that would hide a fault."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def ours(foreign):
    model = VisionTransformer(foreign.config).eval()
    model.load_state_dict(foreign.weights)  # strict: each key has its place
    return model


def images_for(config, batch=2):
    torch.manual_seed(1)
    return torch.randn(batch, config.in_channels, *config.image_size)


@torch.no_grad()
def assert_same_logits(foreign, theirs):
    images = images_for(foreign.config)
    torch.testing.assert_close(ours(foreign)(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=TIMM_MODELS)
def timm_model(request):
    name, changes = TIMM_MODELS[request.param]
    return stirred(timm.create_model(name, **{**TINY, **changes}))


def test_folders_that_timm_writes(timm_model, tmp_path):
    save_for_hf(timm_model, tmp_path)
    foreign = read_foreign(tmp_path)
    assert foreign.format == "timm"
    assert foreign.left_over == ()
    assert_same_logits(foreign, timm_model)
    wanted = resolve_model_data_config(timm_model)
    assert foreign.preprocessing.mean == pytest.approx(wanted["mean"][: foreign.config.in_channels])
    assert foreign.preprocessing.std == pytest.approx(wanted["std"][: foreign.config.in_channels])
    assert foreign.preprocessing.geometry.interpolation == wanted["interpolation"]
    height, _ = foreign.preprocessing.image_size
    assert foreign.preprocessing.image_size == theirs_size(timm_model)
    assert foreign.preprocessing.geometry.crop_fraction == height / (height // wanted["crop_pct"])


def theirs_size(model):
    return tuple(model.patch_embed.img_size)


def test_attention_is_that_of_timm(timm_model, tmp_path):
    save_for_hf(timm_model, tmp_path)
    foreign = read_foreign(tmp_path)
    images = images_for(foreign.config)
    seen = {}
    for layer, block in enumerate(timm_model.blocks):
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _m, _i, output, layer=layer: seen.update({layer: output}))
    model = ours(foreign)
    with torch.no_grad(), capture_attention(model) as probabilities:
        timm_model(images)
        model(images)
    assert probabilities.keys() == seen.keys()
    for layer, wanted in seen.items():
        torch.testing.assert_close(probabilities[layer], wanted, rtol=1e-5, atol=1e-5)


def test_what_is_loaded_from_timm_goes_back_bit_for_bit(timm_model, tmp_path):
    save_for_hf(timm_model, tmp_path)
    before = timm_model.state_dict()
    back = to_theirs(read_foreign(tmp_path).weights, TIMM.names, before)
    assert back.keys() == before.keys()
    assert all(torch.equal(back[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
        lambda state: {"model": {key: value * 0 for key, value in state.items()}, "model_ema": state},
        lambda state: {
            "model": {f"_orig_mod.{key}": value for key, value in state.items()},
            "args": argparse.Namespace(lr=1),
        },
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".bin"])
def test_what_training_scripts_wrap_around_weights(tmp_path, wrap, suffix):
    theirs = stirred(timm.create_model("deit_tiny_patch16_224", **TINY))
    torch.save(wrap(theirs.state_dict()), tmp_path / f"checkpoint{suffix}")
    foreign = read_foreign(tmp_path / f"checkpoint{suffix}")
    assert_same_logits(foreign, theirs)
    assert foreign.classes == imagenet_classes()


def test_deits_own_file_is_known_by_its_name(tmp_path):
    theirs = stirred(timm.create_model("deit_tiny_distilled_patch16_224", **TINY))
    file = tmp_path / "deit_tiny_distilled_patch16_224-b40b3cf7.pth"
    torch.save({"model": theirs.state_dict()}, file)
    foreign = read_foreign(file)
    assert_same_logits(foreign, theirs)
    assert foreign.guesses == ()
    assert foreign.preprocessing.mean == (0.485, 0.456, 0.406)
    fetched = read_foreign(file, traits=Traits())  # from an address, of which nothing else is known
    assert (fetched.config, fetched.preprocessing, fetched.guesses) == (foreign.config, foreign.preprocessing, ())


def test_a_file_from_an_address_is_known_by_its_name(tmp_path):
    file = tmp_path / "vit_tiny_patch16_rpn_224.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224", **TINY).state_dict(), file)
    for traits in (None, Traits()):
        with pytest.raises(ModelError, match="rpn"):
            read_foreign(file, traits=traits)


@pytest.mark.parametrize("old", [False, True])
def test_torchvision(tmp_path, old):
    theirs = stirred(TorchvisionViT(32, 16, 2, 2, 128, 256, num_classes=6))
    state = theirs.state_dict()
    if old:
        state = {
            key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v for key, v in state.items()
        }
    torch.save(state, tmp_path / "vit_b_16.pth")
    foreign = read_foreign(tmp_path / "vit_b_16.pth")
    assert foreign.format == "torchvision"
    assert foreign.preprocessing.geometry.interpolation == "bilinear"
    assert_same_logits(foreign, theirs)
    back = to_theirs(foreign.weights, TORCHVISION.names, state)
    assert all(torch.equal(back[key], value) for key, value in state.items())


HUGGING_FACE = {
    "vit": (transformers.ViTForImageClassification, transformers.ViTConfig, {}),
    "vit with relu": (transformers.ViTForImageClassification, transformers.ViTConfig, {"hidden_act": "relu"}),
    "deit": (transformers.DeiTForImageClassification, transformers.DeiTConfig, {"hidden_act": "gelu_pytorch_tanh"}),
    "deit with teacher": (transformers.DeiTForImageClassificationWithTeacher, transformers.DeiTConfig, {}),
}


@pytest.fixture(scope="module", params=HUGGING_FACE)
def hugging_face(request):
    build, configure, changes = HUGGING_FACE[request.param]
    config = configure(**{**SMALL, "num_hidden_layers": 2}, id2label={0: "cat", 1: "dog", 2: "eel"}, **changes)
    return stirred(build(config))


def test_folders_that_transformers_writes(hugging_face, tmp_path):
    hugging_face.save_pretrained(tmp_path)
    foreign = read_foreign(tmp_path)
    assert foreign.format == "transformers"
    assert foreign.classes == ("cat", "dog", "eel")
    assert_same_logits(foreign, lambda images: hugging_face(images).logits)


def test_keys_of_transformers_as_they_are_in_memory(hugging_face, tmp_path):
    state = hugging_face.state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "model.safetensors")
    hugging_face.config.save_pretrained(tmp_path)
    foreign = read_foreign(tmp_path)
    assert_same_logits(foreign, lambda images: hugging_face(images).logits)
    named = {key: value for key, value in state.items() if not key.endswith("mask_token")}
    back = to_theirs(foreign.weights, TRANSFORMERS.names, named)
    assert all(torch.equal(back[key], value) for key, value in named.items())


def test_old_keys_of_transformers(tmp_path):
    """As releases before 5 wrote them."""
    config = transformers.ViTConfig(**{**SMALL, "num_hidden_layers": 2})
    theirs = stirred(transformers.ViTForImageClassification(config))
    renames = {
        "vit.layers.": "vit.encoder.layer.",
        "attention.q_proj": "attention.attention.query",
        "attention.k_proj": "attention.attention.key",
        "attention.v_proj": "attention.attention.value",
        "attention.o_proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    state = {}
    for key, value in theirs.state_dict().items():
        for new, old in renames.items():
            key = key.replace(new, old)  # noqa: PLW2901 - rewritten step by step
        state[key] = value
    assert "vit.encoder.layer.1.attention.attention.query.weight" in state
    torch.save(state, tmp_path / "pytorch_model.bin")
    config.save_pretrained(tmp_path)
    assert_same_logits(read_foreign(tmp_path), lambda images: theirs(images).logits)


@pytest.mark.parametrize("folder", ["mine", "models--facebook--deit-tiny-patch16-224/snapshots/1"])
def test_the_preprocessor_of_transformers(tmp_path, folder):
    """The published files of DeiT say 0.5, although it was trained with ImageNet's values; anyone else's say what is so."""
    config = transformers.DeiTConfig(**{**SMALL, "image_size": 224})
    folder = tmp_path / folder
    transformers.DeiTForImageClassification(config).save_pretrained(folder)
    processor = {
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "size": {"height": 256, "width": 256},
        "resample": 3,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    preprocessing = read_foreign(folder).preprocessing
    assert preprocessing.mean == ((0.5,) * 3 if folder.name == "mine" else (0.485, 0.456, 0.406))
    assert preprocessing.geometry.resize == ("squash-crop" if folder.name == "mine" else "crop")
    assert preprocessing.geometry.crop_fraction == pytest.approx(224 / 256)
    assert preprocessing.geometry.interpolation == "bicubic"


@pytest.mark.parametrize(
    ("entries", "cause"),
    [
        ({"rescale_factor": 1 / 127.5}, "rescale_factor 0.007843"),
        ({"do_rescale": False}, "do_rescale false"),
        ({"do_resize": False}, "do_resize false"),
        ({"resample": 1}, "resample 1"),
        ({"size": {"shortest_edge": 32}}, "the shortest edge alone"),
        ({"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.875}, "the processor ConvNextImageProcessor"),
    ],
)
def test_a_way_of_preparing_images_that_vit_does_not_have_is_refused(tmp_path, entries, cause):
    transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL)).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    with pytest.raises(ModelError, match=f"says {cause}, and vit prepares images only with") as caught:
        read_foreign(tmp_path)
    assert "move this file" in caught.value.hint
    file.unlink()
    assert any("mean and standard deviation" in guess for guess in read_foreign(tmp_path).guesses)


@pytest.mark.parametrize("entries", [{"crop_mode": "border", "crop_pct": 0.9}, {"interpolation": "lanczos"}])
def test_a_way_of_preparing_images_of_timm_that_vit_does_not_have_is_refused(tmp_path, entries):
    theirs = timm.create_model("vit_tiny_patch16_224", **TINY, pretrained_cfg_overlay=entries)
    save_for_hf(theirs, tmp_path)
    with pytest.raises(ModelError, match="prepares images only with"):
        read_foreign(tmp_path)


@pytest.mark.parametrize("kind", ["DeiT", "Bit", "CLIP", "Beit", "ViT"])
def test_entries_that_a_file_lacks_are_those_of_its_processor(tmp_path, kind):
    transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL)).save_pretrained(tmp_path)
    sizes = {"height": 40, "width": 40} if kind in {"DeiT", "Beit"} else {"shortest_edge": 40}
    entries = {"size": sizes, "crop_size": {"height": 32, "width": 32}}
    if kind == "ViT":
        entries = {"size": {"height": 32, "width": 32}}
    if kind == "Beit":
        entries["do_center_crop"] = True
    name = f"{kind}ImageProcessor"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": name, **entries}))
    theirs, ours = getattr(transformers, name)(**entries), read_foreign(tmp_path).preprocessing
    assert (ours.mean, ours.std) == (tuple(theirs.image_mean), tuple(theirs.image_std))
    assert ours.geometry.interpolation == {2: "bilinear", 3: "bicubic"}[int(theirs.resample)]
    assert ours.geometry.crop_fraction == pytest.approx(0.8 if getattr(theirs, "do_center_crop", None) else 1)
    assert ours.geometry.resize == {"DeiT": "squash-crop", "Beit": "squash-crop", "ViT": "squash"}.get(kind, "crop")


def test_names_of_other_classes_are_not_taken(tmp_path):
    config = transformers.ViTConfig(**SMALL, id2label={0: "cat", 1: "dog", 2: "cow"})
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    right = json.loads(file.read_text())
    file.write_text(json.dumps(right | {"id2label": {"0": "cat", "1": "dog"}}))
    foreign = read_foreign(tmp_path)
    assert foreign.classes == ("class 0", "class 1", "class 2")
    assert "the 2 names beside the weights are not those of its 3 classes" in foreign.guesses
    file.write_text(json.dumps(right | {"id2label": {"1": "cat", "2": "dog", "3": "cow"}}))
    with pytest.raises(ModelError, match="does not number the classes from 0 to 2"):
        read_foreign(tmp_path)


def test_that_1000_classes_are_those_of_imagenet_is_a_guess(tmp_path):
    config = transformers.ViTConfig(**SMALL, num_labels=1000)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    assert "its 1,000 classes are those of ImageNet, in the usual order" in read_foreign(tmp_path).guesses


def largest_difference(preprocessing, prepare):
    """Between the pixels that two libraries make of a photo, in grey levels; only one sees what lies beside the crop."""
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)).resize((320, 180))
    mean, std = (np.reshape(each, (3, 1, 1)) for each in (preprocessing.mean, preprocessing.std))
    theirs = 255 * (prepare(photo).numpy() * std + mean)
    return np.abs(to_array(photo, preprocessing.geometry) - theirs)[:, 2:-2, 2:-2].max()


def test_photos_that_transformers_squashes_before_it_crops_them(tmp_path):
    transformers.DeiTForImageClassification(transformers.DeiTConfig(**SMALL)).save_pretrained(tmp_path)
    processor = transformers.DeiTImageProcessor(
        size={"height": 40, "width": 40},
        crop_size={"height": 32, "width": 32},
        image_mean=[0.4] * 3,
        image_std=[0.2] * 3,
    )
    processor.save_pretrained(tmp_path)
    preprocessing = read_foreign(tmp_path).preprocessing
    assert preprocessing.geometry.resize == "squash-crop"
    assert (
        largest_difference(preprocessing, lambda photo: processor(photo, return_tensors="pt")["pixel_values"][0]) <= 1.5
    )


def test_photos_that_timm_squashes_before_it_crops_them(tmp_path):
    config = {"input_size": (3, 32, 32), "crop_pct": 0.8, "crop_mode": "squash", "mean": (0.4,) * 3, "std": (0.2,) * 3}
    theirs = timm.create_model("vit_tiny_patch16_224", **TINY, pretrained_cfg_overlay=config)
    save_for_hf(theirs, tmp_path)
    foreign = read_foreign(tmp_path)
    assert foreign.guesses == ("its 1,000 classes are those of ImageNet, in the usual order",)
    transform = timm.data.create_transform(**resolve_model_data_config(theirs))
    assert largest_difference(foreign.preprocessing, transform) <= 1.5


def test_classes_of_one_name_stay_apart(tmp_path):
    config = transformers.ViTConfig(**SMALL, id2label={0: "crane", 1: "dog", 2: "crane"})
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    foreign = read_foreign(tmp_path)
    assert foreign.classes == ("crane (0)", "dog", "crane (2)")
    assert foreign.notes == ("several classes have the same name, so their numbers are added to it: crane",)


class TutorialAttention(nn.Module):
    """A head of its own per linear layer, or all in one."""

    def __init__(self, width, heads, merged):
        super().__init__()
        self.size, self.merged = width // heads, merged
        if merged:
            self.qkv_projection = nn.Linear(width, 3 * width)
        else:
            self.heads = nn.ModuleList(
                nn.ModuleDict({name: nn.Linear(width, self.size) for name in ("query", "key", "value")})
                for _ in range(heads)
            )
        self.output_projection = nn.Linear(width, width)

    def forward(self, x):
        if self.merged:
            parts = zip(
                *(part.split(self.size, dim=-1) for part in self.qkv_projection(x).chunk(3, dim=-1)), strict=True
            )
        else:
            parts = [(head["query"](x), head["key"](x), head["value"](x)) for head in self.heads]
        mixed = [(q @ k.mT / self.size**0.5).softmax(-1) @ v for q, k, v in parts]
        return self.output_projection(torch.cat(mixed, dim=-1))


class TutorialBlock(nn.Module):
    def __init__(self, width, heads, merged):
        super().__init__()
        self.attention = TutorialAttention(width, heads, merged)
        self.layernorm_1, self.layernorm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"dense_1": nn.Linear(width, 4 * width), "dense_2": nn.Linear(4 * width, width)})

    def forward(self, x):
        x = x + self.attention(self.layernorm_1(x))
        hidden = nn.functional.gelu(self.mlp["dense_1"](self.layernorm_2(x)), approximate="tanh")
        return x + self.mlp["dense_2"](hidden)


class TutorialViT(nn.Module):
    """The published tutorial's architecture, and its names."""

    def __init__(self, merged, width=48, heads=4):
        super().__init__()
        self.embedding = nn.Module()
        self.embedding.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(3, width, 4, stride=4)})
        self.embedding.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.embedding.position_embeddings = nn.Parameter(torch.randn(1, 65, width))
        self.encoder = nn.ModuleDict({"blocks": nn.ModuleList(TutorialBlock(width, heads, merged) for _ in range(2))})
        self.classifier = nn.Linear(width, 10)

    def forward(self, images):
        x = self.embedding.patch_embeddings["projection"](images).flatten(2).mT
        x = torch.cat([self.embedding.cls_token.expand(len(x), -1, -1), x], dim=1) + self.embedding.position_embeddings
        for block in self.encoder["blocks"]:
            x = block(x)
        return self.classifier(x[:, 0])


@pytest.mark.parametrize("merged", [True, False])
def test_the_cifar10_tutorial(tmp_path, merged):
    theirs = stirred(TutorialViT(merged))
    torch.save(theirs.state_dict(), tmp_path / "model_final.pt")
    foreign = read_foreign(tmp_path)
    assert foreign.format == "CIFAR-10 tutorial"
    assert_same_logits(foreign, theirs)


def test_the_cifar10_tutorials_configuration_says_how_many_heads(tmp_path):
    theirs = stirred(TutorialViT(merged=True, heads=6))
    torch.save(theirs.state_dict(), tmp_path / "model_final.pt")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 6}))
    assert_same_logits(read_foreign(tmp_path), theirs)


def test_every_head_of_its_own_is_found_in_order():
    weights = {
        f"encoder.blocks.0.attention.heads.{head}.{word}.bias": torch.tensor([float(100 * part + head)])
        for part, word in enumerate(("query", "key", "value"))
        for head in (11, 2, 0, 10, 1, 3, 4, 5, 6, 7, 8, 9)
    }
    joined, left_over = to_ours(weights, TUTORIAL.names)
    assert left_over == []
    assert joined["blocks.0.attention.qkv.bias"].tolist() == [
        100 * part + head for part in range(3) for head in range(12)
    ]


@pytest.mark.parametrize("name", ["deit", "deit distilled", "deit3", "dinov2 with registers", "clip"])
def test_at_another_image_size_logits_are_those_of_timm(name, tmp_path):
    model, changes = TIMM_MODELS[name]
    theirs = stirred(timm.create_model(model, **{**TINY, **changes}))
    save_for_hf(theirs, tmp_path, safe_serialization=True)
    foreign = read_foreign(tmp_path)
    patch = foreign.config.patch_size[0]
    size = (5 * patch, 3 * patch)
    target = replace(foreign.config, image_size=size)
    fresh = VisionTransformer(target)
    classes = (foreign.classes, foreign.classes)
    adapted = adapt_weights(foreign.weights, foreign.config, target, fresh=fresh.state_dict(), classes=classes)
    assert {key for key, _ in adapted.changed} == {"positions"}
    fresh.load_state_dict(adapted.weights)
    wanted = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, img_size=size).eval()
    images = images_for(target)
    with torch.no_grad():
        torch.testing.assert_close(fresh.eval()(images), wanted(images), rtol=1e-5, atol=1e-5)


def test_without_a_configuration_transformers_models_have_its_usual_epsilon(tmp_path):
    theirs = transformers.ViTForImageClassification(
        transformers.ViTConfig(hidden_size=64, num_hidden_layers=1, intermediate_size=96, image_size=32, num_labels=3)
    )
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    foreign = read_foreign(tmp_path / "weights.pth")
    assert foreign.config.norm_eps == theirs.config.layer_norm_eps == 1e-12
    assert foreign.preprocessing.mean == (0.5, 0.5, 0.5)
    assert foreign.preprocessing.geometry.resize == "squash"
