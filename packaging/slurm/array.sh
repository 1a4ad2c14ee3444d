#!/bin/bash
# Anomaly maps of all scans of a folder by a SLURM job array, without submitit:
#
#   sbatch --array=0-7 --partition=gpu --gpus-per-node=1 array.sh SCANS MAPS
#   uad batch SCANS -o MAPS --collect        # afterwards, or at any time: the tables of all parts together
#
# Each task does a part of its own (--shard auto). Further options of `uad batch` go at the end. A task that is
# pre-empted, or whose node fails, is queued again and skips what is done; after one that ran out of time submit again.
#SBATCH --job-name=uad
#SBATCH --cpus-per-task=4
#SBATCH --mem=12G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=uad_%A_%a.log
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: sbatch --array=0-7 array.sh SCANS MAPS [OPTION...]" >&2
    exit 2
fi
scans=$1
maps=$2
shift 2
cpus=${SLURM_CPUS_PER_TASK:-1}
exec srun --cpus-per-task="$cpus" \
    uad batch "$scans" --output "$maps" --shard auto --threads "$cpus" --workers 1 "$@"
