#!/usr/bin/env bash
# Training on several machines of a Slurm cluster: one torchrun a machine, one process a GPU.
#   sbatch examples/slurm.sh photos/ --recipe photos --epochs 100
# The folder that this is started in, and $VIT_DATA_DIR, have to be on a disk that all machines see. A process that is lost
# has all of them started again, up to three times, from the last state. A job that Slurm ends or requeues (SIGTERM two
# minutes before) saves its state, and goes on where it was when it is started again.
#SBATCH --job-name=vit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --open-mode=append
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
name=vit-$SLURM_JOB_ID
what=("$@" --name "$name")
if [[ -e experiments/$name/split.json ]]; then
    what=(--resume "$name")
fi

export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=100 # seconds to save in, before what is left is killed
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / SLURM_GPUS_PER_NODE))
srun uv run torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$SLURM_GPUS_PER_NODE" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "$first:29500" --rdzv-id "$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
    -m vitcli train --device cuda --save-steps 500 "${what[@]}"
