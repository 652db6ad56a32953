@echo off
rem install.bat [FOLDER]: installs the course from this folder, without a network
set PYTHONUTF8=1
py "%~dp0install.py" %*
