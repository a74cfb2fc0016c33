"""MixUp and CutMix against timm's, given the same share and the same rectangle."""

import pytest
import timm.data.mixup as timm_mixup
import torch
from timm.loss import SoftTargetCrossEntropy

from vitcli.engine.mixing import Mixing
from vitcli.engine.objective import Objective, Targets

CLASSES = 7
ALPHAS = {"mixup": {"mixup": 0.8, "cutmix": 0}, "cutmix": {"mixup": 0, "cutmix": 1.0}}


def rectangle(mixing, shape, step):
    """Top, bottom, left and right of what is pasted."""
    height, width = shape[-2:]
    numbered = torch.arange(2.0)[:, None, None, None].expand(2, 1, height, width).clone()
    pasted = mixing(numbered, epoch=1, step=step)[0][0, 0] == 1
    rows, columns = (pasted.any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
    return (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if rows else (0, 0, 0, 0)


@pytest.mark.parametrize("kind", ALPHAS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_images_and_loss_are_timms(monkeypatch, kind, smoothing):
    mixing = Mixing(**ALPHAS[kind], seed=3)
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randn(6, 3, 12, 9, generator=draws), torch.tensor([0, 1, 2, 3, 4, 0])
    logits = torch.randn(6, CLASSES, generator=draws)
    for step in range(10):
        mixed, share = mixing(images, epoch=1, step=step)
        theirs = timm_mixup.Mixup(**_alphas(kind), label_smoothing=smoothing, num_classes=CLASSES)
        monkeypatch.setattr(theirs, "_params_per_batch", lambda share=share: (share, kind == "cutmix"))
        if kind == "cutmix":
            box = rectangle(mixing, images.shape, step)
            monkeypatch.setattr(timm_mixup, "rand_bbox", lambda *_arguments, box=box, **_more: box)
        their_images, their_targets = theirs(images.clone(), labels)
        torch.testing.assert_close(mixed, their_images, atol=1e-6, rtol=0)
        ours = Objective(label_smoothing=smoothing)(logits, Targets(labels, labels.flip(0), share)) / 6
        torch.testing.assert_close(ours, SoftTargetCrossEntropy()(logits, their_targets), atol=1e-6, rtol=1e-6)


def _alphas(kind):
    return {f"{name}_alpha": alpha for name, alpha in ALPHAS[kind].items()}
