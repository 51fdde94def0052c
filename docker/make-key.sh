#!/usr/bin/env bash
# Make the cluster key for compose.yaml: docker/secrets/cluster.key. An existing one is kept.
#
# Compose hands the file to the containers as it is, and they do not run as its owner: so the file
# is readable, and the folder around it is closed to everybody else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [[ -e secrets/cluster.key ]]; then
  echo "docker/secrets/cluster.key is there already: kept"
  exit 0
fi
mkdir -p secrets
chmod 700 secrets
key=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n')
[[ ${#key} -eq 64 ]] || { echo "error: /dev/urandom gave no 32 bytes" >&2; exit 1; }
(umask 022 && printf '%s\n' "$key" > secrets/cluster.key)
echo "Made docker/secrets/cluster.key. Keep a copy: without the key the data cannot be read."
