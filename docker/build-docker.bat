@echo off
rem Build the image `data-putter` from this source tree.
rem
rem   docker\build-docker.bat [arguments of docker build]
setlocal
cd /d "%~dp0.." || exit /b 1

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

docker build --file docker/Dockerfile --tag data-putter %* .
if errorlevel 1 exit /b %errorlevel%

echo.
echo Built the image data-putter. Start a store with docker\run-in-docker.bat
