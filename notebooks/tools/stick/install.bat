@echo off
rem install.bat [FOLDER]: installs the course from this folder, without a network
setlocal
set "PYTHONUTF8=1"
if defined PYTHON goto named
py -@PYTHON@ -c "" >nul 2>nul
if not errorlevel 1 goto launcher
set "PYTHON=python"
:named
"%PYTHON%" "%~dp0install.py" %*
goto ended
:launcher
py -@PYTHON@ "%~dp0install.py" %*
:ended
set "STATUS=%ERRORLEVEL%"
if "%STATUS%"=="9009" echo There is no Python here: install Python @PYTHON@, 64 bit, or set PYTHON=C:\path\to\python.exe
rem a window that a double click opened stays until it was read
echo "%CMDCMDLINE:"=%" | "%SystemRoot%\System32\find.exe" /i "%~nx0" >nul && pause
exit /b %STATUS%
