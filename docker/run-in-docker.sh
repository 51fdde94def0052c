#!/usr/bin/env bash
# Run a router in a container, in the foreground; Ctrl-C stops it, what it stored stays in a volume.
#
#   docker/run-in-docker.sh [arguments of `putter router`]
#
# REDIS_HOSTPORT=host:port   the Redis of a cluster; without it this container is a whole store
# DOCKER_NETWORK=name        Docker network to run in, where the Redis and the putters are
# DOCKER_NAME=name           of the container and of its volume; without it `data-putter`
set -euo pipefail

fail() {
  echo "error: $1" >&2
  echo "hint: $2" >&2
  exit 1
}

command -v docker > /dev/null || fail "there is no docker command" "install Docker, then run this again"
docker version > /dev/null 2>&1 || fail "no Docker engine answers" \
  "start Docker; see also: docker version"
docker image inspect data-putter > /dev/null 2>&1 || fail "there is no image data-putter" \
  "build it with docker/build-docker.sh"
name=${DOCKER_NAME:-data-putter}
if docker container inspect "$name" > /dev/null 2>&1; then
  fail "there is a container $name already" \
    "stop it with: docker stop $name, or remove it: docker rm $name"
fi

options=()
if [[ -n "${REDIS_HOSTPORT:-}" ]]; then
  options+=(--env REDIS_HOSTPORT)
fi
if [[ -n "${DOCKER_NETWORK:-}" ]]; then
  options+=(--network "$DOCKER_NETWORK")
fi

cat <<TEXT
Send the first bytes (from another terminal):
  echo hello | nc -N 127.0.0.1 5001

The web door asks for a token, as the router does not listen on loopback inside the container.
The token:
  docker exec $name python -m putter keys token
A file by name, in and out:
  TOKEN=\$(docker exec $name python -m putter keys token)
  curl -H "Authorization: Bearer \$TOKEN" -T README.md http://127.0.0.1:5004/file/docs/README.md
  curl -H "Authorization: Bearer \$TOKEN" http://127.0.0.1:5004/file/docs/README.md
Inside the container no token is needed:
  docker exec $name python -m putter ls objects

TEXT

exec docker run --rm --init --stop-timeout 20 --name "$name" \
  --publish 127.0.0.1:5001:5001 \
  --publish 127.0.0.1:5002:5002 \
  --publish 127.0.0.1:5003:5003 \
  --publish 127.0.0.1:5004:5004 \
  --volume "$name:/data" \
  ${options[@]+"${options[@]}"} \
  data-putter router --host 0.0.0.0 "$@"
