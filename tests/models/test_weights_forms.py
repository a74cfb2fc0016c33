"""Weights in unusual forms: behind prefixes, in shards, quantised, incomplete, or beside other models."""

import json

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from tests.models.test_weights import saved, timm_weights
from vitcli.core.errors import ModelError
from vitcli.models.vit import VisionTransformer
from vitcli.models.weights import read_foreign


def logits_of(foreign, images):
    model = VisionTransformer(foreign.config).eval()
    model.load_state_dict(foreign.weights)
    with torch.no_grad():
        return model(images)


PREFIXES = (
    *("backbone.", "encoder.", "net.", "model.backbone.", "student.", "visual.", "trunk.", "visual.trunk."),
    *("image_encoder.", "feature_extractor.", "0.", "base_model.model."),
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_comes_off_and_that_is_said(tmp_path, prefix):
    plain = timm_weights()
    expected = read_foreign(saved(tmp_path, plain, "plain.pth"))
    foreign = read_foreign(saved(tmp_path, {prefix + key: value for key, value in plain.items()}, "plain.pth"))
    assert foreign.weights.keys() == expected.weights.keys()
    assert foreign.left_over == ()
    shown = prefix.removeprefix("model.").removesuffix(".")
    assert foreign.notes == (f"its model is the one below {shown!r}",)


def test_a_head_beside_the_backbone_is_kept(tmp_path):
    plain = timm_weights()
    content = {key if key.startswith("head") else f"model.backbone.{key}": value for key, value in plain.items()}
    assert read_foreign(saved(tmp_path, content)).config.num_classes == 4


def test_of_teacher_and_student_the_teachers_backbone_is_taken(tmp_path):
    teacher, student = timm_weights(), timm_weights()
    dino = {
        "student": {f"module.backbone.{key}": value for key, value in student.items()},
        "teacher": {f"backbone.{key}": value for key, value in teacher.items()}
        | {"head.mlp.0.weight": torch.zeros(3, 3)},
        "epoch": 3,
    }
    dinov2 = {
        "model": {
            **{f"student.backbone.{key}": value for key, value in student.items()},
            **{f"teacher.backbone.{key}": value for key, value in teacher.items()},
            "student.dino_head.mlp.0.weight": torch.zeros(3, 3),
        }
    }
    for content in (dino, dinov2):
        foreign = read_foreign(saved(tmp_path, content))
        assert torch.equal(foreign.weights["patch_embedding.projection.weight"], teacher["patch_embed.proj.weight"])
        assert any("teacher" in note for note in foreign.notes)


def test_the_encoder_of_a_masked_autoencoder_is_taken(tmp_path):
    decoder = {
        "decoder_pos_embed": torch.zeros(1, 5, 64),
        "decoder_blocks.0.attn.qkv.weight": torch.zeros(192, 64),
        "mask_token": torch.zeros(1, 1, 64),
    }
    plain = {key: value for key, value in timm_weights().items() if not key.startswith("head")}
    foreign = read_foreign(saved(tmp_path, {"model": plain | decoder}))
    assert foreign.config.depth == 1
    assert sorted(foreign.left_over) == sorted(decoder)


def small(build, configure, **changes):
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    model = build(configure(**sizes, image_size=32, patch_size=16, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def test_masked_autoencoders_of_transformers(tmp_path):
    decoder = {"decoder_num_attention_heads": 2, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1}
    theirs = small(
        transformers.ViTMAEForPreTraining,
        transformers.ViTMAEConfig,
        mask_ratio=0.0,
        decoder_intermediate_size=32,
        **decoder,
    )
    theirs.save_pretrained(tmp_path)
    foreign = read_foreign(tmp_path)
    images = torch.randn(2, 3, 32, 32)
    noise = torch.arange(4.0)[None].expand(2, -1)  # keeps the patches in their order
    with torch.no_grad():
        expected = theirs.vit(images, noise=noise).last_hidden_state[:, 0]
    torch.testing.assert_close(logits_of(foreign, images), expected, rtol=1e-5, atol=1e-5)
    assert all(key.startswith("decoder") for key in foreign.left_over)


@pytest.mark.parametrize("registers", [0, 2])
def test_dinov2_of_transformers(tmp_path, registers):
    if registers:
        build, configure = transformers.Dinov2WithRegistersModel, transformers.Dinov2WithRegistersConfig
        theirs = small(build, configure, mlp_ratio=2, num_register_tokens=registers)
    else:
        theirs = small(transformers.Dinov2Model, transformers.Dinov2Config, mlp_ratio=2)
    theirs.save_pretrained(tmp_path)
    foreign = read_foreign(tmp_path)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs(images).pooler_output
    torch.testing.assert_close(logits_of(foreign, images), expected, rtol=1e-5, atol=1e-5)


def test_a_classifier_of_dinov2_reads_more_than_one_token_and_is_left_out(tmp_path):
    small(transformers.Dinov2ForImageClassification, transformers.Dinov2Config, mlp_ratio=2).save_pretrained(tmp_path)
    foreign = read_foreign(tmp_path)
    assert foreign.config.num_classes == 0
    assert any("head reads 96 features" in guess for guess in foreign.guesses)


class OpenClipTower(nn.Module):
    """The image tower of OpenCLIP, with its names."""

    def __init__(self, width=64, heads=1, depth=2):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 16, 16, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(5, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList()
        for _ in range(depth):
            block = nn.Module()
            block.ln_1, block.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            block.attn = nn.MultiheadAttention(width, heads, batch_first=True)
            block.mlp = nn.Module()
            block.mlp.c_fc, block.mlp.c_proj = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
            self.transformer.resblocks.append(block)
        self.proj = nn.Parameter(torch.randn(width, 8))

    def forward(self, images):
        x = self.conv1(images).flatten(2).mT
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer.resblocks:
            y = block.ln_1(x)
            x = x + block.attn(y, y, y, need_weights=False)[0]
            x = x + block.mlp.c_proj(nn.functional.gelu(block.mlp.c_fc(block.ln_2(x))))
        return self.ln_post(x)[:, 0]


def test_the_image_tower_of_openclip(tmp_path):
    torch.manual_seed(0)
    tower = OpenClipTower().eval()
    text = {"transformer.resblocks.0.attn.in_proj_weight": torch.zeros(3, 3), "positional_embedding": torch.zeros(7, 3)}
    content = {f"visual.{key}": value for key, value in tower.state_dict().items()} | text
    foreign = read_foreign(saved(tmp_path, content))
    assert foreign.format == "OpenCLIP"
    assert foreign.preprocessing.mean == pytest.approx((0.481, 0.458, 0.408), abs=1e-3)
    assert foreign.preprocessing.geometry.resize == "crop"
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(foreign, images), tower(images), rtol=1e-5, atol=1e-5)
    assert set(foreign.left_over) == {"proj", *text}


def in_shards(folder, weights, count=2):
    names = sorted(weights)
    index = {}
    for number in range(count):
        file = f"model-{number + 1:05}-of-{count:05}.safetensors"
        part = {name: weights[name] for name in names[number::count]}
        save_file(part, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


@pytest.mark.parametrize("name", ["europe.pth", "property.pth", "student_of_resnet50.pth"])
def test_names_of_files_that_are_not_timms_say_nothing(tmp_path, name):
    assert read_foreign(saved(tmp_path, timm_weights(), name)).config.depth == 1


def test_all_shards_are_read(tmp_path):
    weights = timm_weights()
    in_shards(tmp_path, weights, 3)
    foreign = read_foreign(tmp_path)
    assert foreign.config.name == tmp_path.name
    expected = read_foreign(saved(tmp_path, weights, "plain.pth"))
    assert all(torch.equal(foreign.weights[key], value) for key, value in expected.weights.items())


def test_a_shard_that_is_missing_is_named_and_one_alone_is_refused(tmp_path):
    in_shards(tmp_path, timm_weights())
    first, second = sorted(tmp_path.glob("*.safetensors"))
    with pytest.raises(ModelError, match="is one of 2 shards of a model") as refusal:
        read_foreign(first)
    assert str(tmp_path) in refusal.value.hint
    second.unlink()
    with pytest.raises(ModelError, match=f"1 of 2 shards are missing: {second.name}"):
        read_foreign(tmp_path)


def test_a_block_that_is_incomplete_or_missing_is_named(tmp_path):
    weights = timm_weights()
    more = {key.replace("blocks.0.", "blocks.2."): value for key, value in weights.items()}
    with pytest.raises(ModelError, match=r"block 1 lacks attention\.projection\.bias"):
        read_foreign(saved(tmp_path, weights | more))
    del weights["blocks.0.norm1.bias"]
    with pytest.raises(ModelError, match=r"block 0 lacks attention_norm\.bias") as refusal:
        read_foreign(saved(tmp_path, weights))
    assert "RMSNorm" in refusal.value.hint


def test_fewer_blocks_than_the_configuration_says_are_refused(tmp_path):
    save_file(timm_weights(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 2}})
    )
    with pytest.raises(ModelError, match="has 1 blocks, but its configuration says 2"):
        read_foreign(tmp_path)


def test_quantised_weights_and_those_with_nan_are_refused_with_the_tensor(tmp_path):
    weights = timm_weights()
    key = "blocks.0.mlp.fc1.weight"
    with pytest.raises(ModelError, match=r"quantised: blocks\.0\.mlp\.fc1\.weight is of int8 numbers"):
        read_foreign(saved(tmp_path, weights | {key: weights[key].to(torch.int8)}))
    for number, dtype in (
        (float("nan"), torch.float32),
        (float("-inf"), torch.float16),
        (float("inf"), torch.float8_e5m2),
    ):
        weights[key] = weights[key].to(torch.float32)
        weights[key][3, 4] = number
        with pytest.raises(ModelError, match=r"NaN or infinity in blocks\.0\.mlp\.fc1\.weight"):
            read_foreign(saved(tmp_path, weights | {key: weights[key].to(dtype)}))


@pytest.mark.parametrize(("name", "library"), [("a.npz", "NumPy or JAX"), ("a.h5", "Keras"), ("a.msgpack", "Flax")])
def test_files_of_other_libraries_are_called_what_they_are(tmp_path, name, library):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=f"is a file of {library}"):
        read_foreign(tmp_path / name)


def test_other_architectures_are_not_called_damaged(tmp_path):
    swin = timm.create_model("swin_tiny_patch4_window7_224", embed_dim=12, depths=(1, 1), num_heads=(1, 1))
    with pytest.raises(
        ModelError, match=r"not a plain Vision Transformer: it has no place for patch_embed\.norm.*layers\.0"
    ):
        read_foreign(saved(tmp_path, swin.state_dict()))
    stem = timm_weights() | {"patch_embed.backbone.stem.conv.weight": torch.zeros(3)}
    with pytest.raises(ModelError, match=r"no place for patch_embed\.backbone"):
        read_foreign(saved(tmp_path, stem))


@pytest.mark.parametrize(
    ("kind", "cause"),
    [("beit", "relative positions"), ("vit_hybrid", "a convolutional stem"), ("ijepa", "no class token")],
)
def test_model_types_of_transformers_that_compute_something_else_are_refused(tmp_path, kind, cause):
    weights = {
        "embeddings.patch_embeddings.projection.weight": torch.zeros(4, 3, 2, 2),
        "layers.0.attention.q_proj.weight": torch.zeros(4, 4),
    }
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ModelError, match=f"{kind} of transformers has {cause}"):
        read_foreign(tmp_path)


@pytest.mark.parametrize("pooling", ["max", "avgmax", "map"])
def test_poolings_that_our_model_has_not_are_refused(tmp_path, pooling):
    save_file(timm_weights(), tmp_path / "model.safetensors")
    config = {"architecture": "vit_tiny_patch16_224", "global_pool": pooling}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="pools its tokens by"):
        read_foreign(tmp_path)


def test_a_class_token_behind_a_norm_of_its_own(tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, embed_dim=128, depth=1, num_heads=2, num_classes=3, fc_norm=True
    ).eval()
    timm.models.save_for_hf(theirs, tmp_path)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(read_foreign(tmp_path), images), theirs(images), rtol=1e-5, atol=1e-5)


def test_a_thousand_classes_without_names_are_said_to_be_taken_for_those_of_imagenet(tmp_path):
    head = {"head.weight": torch.randn(1000, 128), "head.bias": torch.randn(1000)}
    assert any(
        "1,000 classes are those of ImageNet" in each
        for each in read_foreign(saved(tmp_path, timm_weights(**head))).guesses
    )
