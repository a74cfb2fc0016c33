#!/usr/bin/env bash
# A published butterfly tutorial, with its own settings: a new head on a frozen DeiT-tiny. The folder has train/, valid/ and
# test/ with one subfolder per species.
#   uv run bash examples/butterflies_classic.sh PATH/TO/butterflies [flags of `vit train`, except --output-dir]
set -euo pipefail
vit download deit-tiny
vit train "$@" --recipe butterflies-classic
vit eval
