#!/usr/bin/env bash
# A published CIFAR-10 tutorial, with its own settings: 100 epochs of the 119,098-parameter model.
#   uv run bash examples/cifar10_classic.sh [any flags of `vit train`, for example --epochs 2]
set -euo pipefail
vit download cifar10
vit train cifar10 --recipe cifar10-classic --save-every 20 "$@"
vit eval
