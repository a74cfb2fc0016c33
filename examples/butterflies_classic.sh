#!/usr/bin/env bash
# A published butterfly tutorial, with its own settings: a new head on a frozen DeiT-tiny. It needs Kaggle credentials.
#   uv run bash examples/butterflies_classic.sh [flags of `vit train`, except --output-dir; for example --device cuda]
set -euo pipefail
vit download butterflies
vit download deit-tiny
vit train butterflies --recipe butterflies-classic "$@"
vit eval
