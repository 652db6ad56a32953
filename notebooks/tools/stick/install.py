"""Installs the course from this folder, without a network. Needs nothing but Python.

    python install.py [FOLDER]     default: embkit, in your own folder

Each file is checked first. What is installed lies in FOLDER, and the models in the cache
(EMBKIT_CACHE names another).
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
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


def main(target):
    """Checks and installs; returns the exit status."""
    told = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    python = "{}.{}".format(*sys.version_info)
    systems = {"linux": "linux", "win32": "windows", "darwin": "macos"}
    machine = systems.get(sys.platform, sys.platform)
    if (machine, python) != (told["platform"], told["python"]):
        say(
            f"this is Python {python} on {machine}; the folder is for Python "
            f"{told['python']} on {told['platform']}: install that, or ask for another folder"
        )
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
    venv.create(target / ".venv", with_pip=True)
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
        return done.returncode
    (target / ".venv" / "installed").write_text("cpu\n")  # make has nothing to set up then
    say("the models")
    cache = subprocess.run(
        [own, "-c", CACHE], env=clean, capture_output=True, text=True, cwd=target
    )
    shutil.copytree(HERE / "assets", Path(cache.stdout.strip()) / "assets", dirs_exist_ok=True)
    say(f'done. Now, in {target}:\n  "{own}" -m embkit preflight')
    say(f'  "{own}" -m jupyter lab notebooks/00_start_here.ipynb')
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if sys.argv[1:] else "~/embkit").expanduser().absolute()))
