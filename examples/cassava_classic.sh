#!/usr/bin/env bash
# A published Cassava tutorial, with its own settings: ViT-B/16 at 384 pixels from scratch, evaluated on the images that chose
# the best epoch, as in the tutorial. It needs Kaggle credentials, and accepted rules of the competition.
#   uv run bash examples/cassava_classic.sh [flags of `vit train`, except --output-dir; for example --device cuda]
set -euo pipefail
vit download cassava
vit train cassava --recipe cassava-classic "$@"
vit eval
