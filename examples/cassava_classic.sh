#!/usr/bin/env bash
# A published Cassava tutorial, with its own settings: ViT-B/16 at 384 pixels from scratch. The folder has one subfolder of photos
# per class.
#   uv run bash examples/cassava_classic.sh PATH/TO/cassava [any flags of `vit train`, for example --device cuda]
set -euo pipefail
vit train "$@" --recipe cassava-classic
vit eval
