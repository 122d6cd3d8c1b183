"""What users install: the built distributions, and environments that hold the wheel and nothing of this tree."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN = ("PYTHON", "PYTEST_", "COVERAGE_", "COV_", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Built:
    """The two distributions, the wheel built from the sdist, and the files of the package when they were built."""

    sdist: Path
    wheel: Path
    source: frozenset[str]


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment with the wheel in it."""

    folder: Path

    @property
    def site(self) -> Path:
        """Where the wheel was installed."""
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.folder), "platbase": str(self.folder)}))

    def run(
        self, program: str, *arguments: str, cwd: Path | None = None, seconds: float = 100
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment, by default in an empty place."""
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=cwd or self.folder,
            env={name: value for name, value in os.environ.items() if not name.startswith(OWN)},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


def must(command: Sequence[object]) -> None:
    """Run a command that has to succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def build(folder: Path) -> Built:
    """Build the sdist, and the wheel from it."""
    package = ROOT / "worker" / "lapse"
    files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    source = frozenset(path.relative_to(package.parent).as_posix() for path in files)
    must([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT])
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(sdist, wheel, source)


def install(built: Built, folder: Path) -> Environment:
    """Make an environment that holds the wheel alone. No index is asked: the caller puts beside it what it needs."""
    must([sys.executable, "-m", "venv", "--without-pip", folder])
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    must([*pip, "install", "--quiet", "--no-deps", "--no-index", built.wheel])
    return Environment(folder)
