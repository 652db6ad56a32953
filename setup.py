"""The one step of the build that pyproject cannot say: a wheel carries data/ as embkit/_data/."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = Path("data")


class BuildWithData(build_py):
    """Copies data/ beside the modules; an editable install reads it where it lies."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for source, target in self._carried().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode=True):
        carried = [] if self.editable_mode else list(self._carried().values())
        return super().get_outputs(include_bytecode) + carried

    def _carried(self):
        """File of data/ -> its place in the build; nothing hidden, nothing that was made here."""
        into = Path(self.build_lib, "embkit", "_data")
        found = {path: path.relative_to(DATA) for path in sorted(DATA.rglob("*")) if path.is_file()}
        return {
            str(path): str(into / place)
            for path, place in found.items()
            if "built" not in place.parts and not any(x.startswith(".") for x in place.parts)
        }


setup(cmdclass={"build_py": BuildWithData})
