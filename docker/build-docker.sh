#!/usr/bin/env bash
# Build the image `data-putter` from this source tree.
#
#   docker/build-docker.sh [arguments of docker build]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "error: $1" >&2
  echo "hint: $2" >&2
  exit 1
}

command -v docker > /dev/null || fail "there is no docker command" "install Docker, then run this again"
docker version > /dev/null 2>&1 || fail "no Docker engine answers" \
  "start Docker; see also: docker version"

docker build --file docker/Dockerfile --tag data-putter "$@" .

echo
echo "Built the image data-putter. Start a store with docker/run-in-docker.sh"
