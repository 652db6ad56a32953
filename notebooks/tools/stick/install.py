"""Installs the course from this folder, without a network. Needs nothing but Python.

    python install.py [FOLDER]     default: embkit, in your own folder

Each file is checked first. What is installed lies in FOLDER, and the models in the cache
(EMBKIT_CACHE names another).
"""

import ctypes
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = "from embkit.session import paths; print(paths().cache)"


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def damaged(folder):
    """The files of the manifest that are missing, cut off or changed."""
    files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    wrong = []
    for name, digest in files.items():
        try:
            with open(folder / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    wrong.append(name)
        except OSError:
            wrong.append(name)
    return wrong


def numbers(version):
    """Three numbers of a version, to be compared; those that it does not name are 0."""
    found = [int(part) for part in re.findall(r"\d+", version)]
    return (*found, 0, 0, 0)[:3]


def unfit(told, target):
    """Why this machine is none that the folder is for, or nothing."""
    python = "{}.{}".format(*sys.version_info)
    systems = {"linux": "linux", "win32": "windows", "darwin": "macos"}
    system = systems.get(sys.platform, sys.platform)
    if (system, python) != (told["platform"], told["python"]):
        return (
            f"this is Python {python} on {system}; the folder is for Python "
            f"{told['python']} on {told['platform']}: install that, or ask for another folder"
        )
    machine = platform.machine()
    if system == "windows":  # what Python was built for, whatever the processor is
        built = sysconfig.get_platform()
        machine = "AMD64" if built == "win-amd64" else built
    if machine != told["machine"]:
        return f"this Python is for {machine}; the folder is for {told['machine']}"
    oldest = told["oldest"]
    if sys.version_info[:3] < numbers(oldest["python"]):
        return f"this is Python {platform.python_version()}: {oldest['python']} or newer is needed"
    if system == "macos" and numbers(platform.mac_ver()[0]) < numbers(oldest["system"]):
        return f"this is macOS {platform.mac_ver()[0]}: {oldest['system']} or newer is needed"
    if system == "linux":
        name, version = platform.libc_ver()
        if name != "glibc" or numbers(version) < numbers(oldest["system"]):
            found = f"{name or 'another C library'} {version}".strip()
            return f"this Linux has {found}: glibc {oldest['system']} or newer is needed"
    room = 259 - told["longest"] - len("\\.venv\\Lib\\site-packages\\")
    if system == "windows" and len(str(target)) > room:
        return f"{target} is too long for Windows: name a folder of at most {room} characters"
    return ""


def runtime_missing():
    """Whether a Windows machine lacks the C++ runtime that torch needs."""
    if sys.platform != "win32":
        return False
    try:
        ctypes.WinDLL("msvcp140_atomic_wait.dll")
        return False
    except OSError:
        return True


def main(target):
    """Checks and installs; returns the exit status."""
    told = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    if why := unfit(told, target):
        say(why)
        return 1
    say("checking the files")
    if wrong := damaged(HERE):
        say("\n".join(f"missing, cut off or changed: {name}" for name in wrong))
        say("copy the folder again")
        return 1
    if target.exists() and any(target.iterdir()):
        say(f"{target} is not empty: name another folder, python install.py FOLDER")
        return 1
    say(f"the project: {target}")
    shutil.copytree(HERE / "project", target, dirs_exist_ok=True)
    say("the packages")
    try:
        venv.create(target / ".venv", with_pip=True)
    except subprocess.CalledProcessError:
        say(f"{sys.executable} cannot make environments: install its venv (python3-venv on Debian)")
        say(f"then delete {target}, and begin again")
        return 1
    at = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    own = str(target / ".venv" / at)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHONPATH"))}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PYTHONUTF8": "1"}  # no other index, no other wheels
    project = f"{target}[{','.join(told['extras'])}]"
    pip = [
        own,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--find-links",
        str(HERE / "wheels"),
        "--quiet",
    ]
    done = subprocess.run([*pip, "-c", str(target / "constraints.txt"), "-e", project], env=clean)
    if done.returncode:
        say(f"the packages were not installed: delete {target} before you begin again")
        return done.returncode
    (target / ".venv" / "installed").write_text("cpu\n")  # make has nothing to set up then
    say("the models")
    cache = subprocess.run(
        [own, "-c", CACHE], env=clean, stdout=subprocess.PIPE, encoding="utf-8", cwd=target
    )
    if cache.returncode:
        say("the models were not copied: the package does not start")
        return cache.returncode
    shutil.copytree(HERE / "assets", Path(cache.stdout.strip()) / "assets", dirs_exist_ok=True)
    if runtime_missing():
        say("torch needs Microsoft's Visual C++ Redistributable (x64), which is not here: run")
        say(f"vc_redist.x64.exe, from {HERE} or from Microsoft. Then all is ready:")
    say(f'done. Now, in {target}:\n  "{own}" -m embkit preflight')
    say(f'  "{own}" -m jupyter lab notebooks/00_start_here.ipynb')
    return 0


if __name__ == "__main__":
    named = sys.argv[1].rstrip('"') if sys.argv[1:] else "~/embkit"  # cmd: "C:\a folder\" ends in "
    sys.exit(main(Path(named).expanduser().absolute()))
