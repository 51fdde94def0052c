@echo off
rem Make the cluster key for compose.yaml: docker\secrets\cluster.key. An existing one is kept.
rem The image makes it, so that nothing else is needed: build it first.
setlocal
cd /d "%~dp0" || exit /b 1

if exist secrets\cluster.key (
  echo docker\secrets\cluster.key is there already: kept
  exit /b 0
)
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
if not exist secrets mkdir secrets
docker run --rm --entrypoint python data-putter -c "import secrets; print(secrets.token_hex(32))" > secrets\cluster.new
if errorlevel 1 (
  del secrets\cluster.new
  echo error: no key was made 1>&2
  exit /b 1
)
rem 64 hex digits and the end of the line.
for %%F in (secrets\cluster.new) do if not "%%~zF"=="65" (
  del secrets\cluster.new
  echo error: the image gave no 32 bytes 1>&2
  exit /b 1
)
move secrets\cluster.new secrets\cluster.key >nul || exit /b 1
echo Made docker\secrets\cluster.key. Keep a copy: without the key the data cannot be read.
