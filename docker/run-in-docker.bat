@echo off
rem Run a router in a container, in the foreground; Ctrl-C stops it, what it stored stays in a volume.
rem
rem   docker\run-in-docker.bat [arguments of `putter router`]
rem
rem REDIS_HOSTPORT=host:port   the Redis of a cluster; without it this container is a whole store
rem DOCKER_NETWORK=name        Docker network to run in, where the Redis and the putters are
rem DOCKER_NAME=name           of the container and of its volume; without it `data-putter`
setlocal

where docker >nul 2>&1
if errorlevel 1 (
  echo error: there is no docker command 1>&2
  echo hint: install Docker, then run this again 1>&2
  exit /b 1
)
docker version >nul 2>&1
if errorlevel 1 (
  echo error: no Docker engine answers 1>&2
  echo hint: start Docker; see also: docker version 1>&2
  exit /b 1
)
docker image inspect data-putter >nul 2>&1
if errorlevel 1 (
  echo error: there is no image data-putter 1>&2
  echo hint: build it with docker\build-docker.bat 1>&2
  exit /b 1
)
set NAME=data-putter
if not "%DOCKER_NAME%"=="" set NAME=%DOCKER_NAME%
docker container inspect "%NAME%" >nul 2>&1
if not errorlevel 1 (
  echo error: there is a container %NAME% already 1>&2
  echo hint: stop it with: docker stop %NAME%, or remove it: docker rm %NAME% 1>&2
  exit /b 1
)

set OPTIONS=
if not "%REDIS_HOSTPORT%"=="" set OPTIONS=%OPTIONS% --env REDIS_HOSTPORT
if not "%DOCKER_NETWORK%"=="" set OPTIONS=%OPTIONS% --network "%DOCKER_NETWORK%"

echo Send the first bytes (from another terminal; ncat comes with Nmap):
echo   echo hello ^| ncat 127.0.0.1 5001
echo.
echo The web door asks for a token, as the router does not listen on loopback inside the container.
echo The token:
echo   docker exec %NAME% python -m putter keys token
echo A file by name, in and out, with that token in place of TOKEN:
echo   curl -H "Authorization: Bearer TOKEN" -T README.md http://127.0.0.1:5004/file/docs/README.md
echo   curl -H "Authorization: Bearer TOKEN" http://127.0.0.1:5004/file/docs/README.md
echo Inside the container no token is needed:
echo   docker exec %NAME% python -m putter ls objects
echo.

docker run --rm --init --stop-timeout 20 --name "%NAME%" ^
  --publish 127.0.0.1:5001:5001 ^
  --publish 127.0.0.1:5002:5002 ^
  --publish 127.0.0.1:5003:5003 ^
  --publish 127.0.0.1:5004:5004 ^
  --volume "%NAME%:/data" ^
  %OPTIONS% ^
  data-putter router --host 0.0.0.0 %*
exit /b %errorlevel%
