"""The wheel holds configs/ too, as libra_umop/_configs; all else stands in setup.cfg."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """An editable install reads configs/ of its checkout; a copy would not follow it."""

    def run(self):
        """Same interface as the parent's; copies ``configs/`` besides."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "libra_umop", "_configs")
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            shutil.copytree(Path(__file__).parent / "configs", target)


setup(cmdclass={"build_py": BuildWithConfigs})
