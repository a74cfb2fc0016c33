#!/usr/bin/env bash
# A published MNIST tutorial, with its own settings: linear patches, post-norm encoder, Adam, 15 epochs.
#   uv run bash examples/mnist_classic.sh [any flags of `vit train`, for example --epochs 2]
set -euo pipefail
vit download mnist
vit train mnist --recipe mnist-classic "$@"
vit eval
