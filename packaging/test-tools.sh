#!/usr/bin/env bash
# Install the programs that some tests drive: a browser, a SLURM cluster of one node, shells, GNU parallel, Snakemake.
# Usage: test-tools.sh FOLDER   (FOLDER gets the virtual environment of Snakemake, whose pins differ from ours)
# What cannot be installed is named here, and its tests are skipped; with UAD_TESTS_COMPLETE=1 they fail instead.
set -uo pipefail

snakemake_folder=${1:?usage: test-tools.sh FOLDER}
snakemake_version=9.27.1

have() { PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null 2>&1; }

packages=()
have chromium || have chromium-browser || have google-chrome || packages+=(chromium)
have slurmctld && have slurmd && have sbatch || packages+=(slurm-wlm munge)
have zsh || packages+=(zsh)
have fish || packages+=(fish)
have parallel || packages+=(parallel)

install_packages() {
    local as_root=(env DEBIAN_FRONTEND=noninteractive)
    if ! have apt-get; then
        echo "apt-get is not there; install these with this system's own package manager" >&2
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || { echo "neither root nor sudo without a password" >&2; return 1; }
        as_root=(sudo -n "${as_root[@]}")
    fi
    "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

if [ ${#packages[@]} -gt 0 ]; then
    echo "test tools: installing ${packages[*]}"
    install_packages "${packages[@]}" || echo "test tools: NOT installed, their tests are left out: ${packages[*]}" >&2
fi

if ! [ -x "$snakemake_folder/bin/snakemake" ]; then
    echo "test tools: installing snakemake $snakemake_version in $snakemake_folder"
    { "${PYTHON:-python3}" -m venv "$snakemake_folder" \
        && "$snakemake_folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check "snakemake==$snakemake_version"; } \
        || { rm -rf "$snakemake_folder"; echo "test tools: NOT installed, its test is left out: snakemake" >&2; }
fi
exit 0
