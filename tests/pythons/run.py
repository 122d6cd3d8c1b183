"""``make test-pythons``: the whole suite by each Python that Debian has, in a chroot. Needs root; fails, never skips.

Run with versions, ``3.14``, or none for all. What is tested is the last commit.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHROOTS = ROOT / ".venv" / "pythons"
SUITES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "sid", "3.15": "sid"}
"""The Debian that each Python is taken from. 3.12 is in none."""
WITHOUT_WHEELS = {"3.15": ("zstandard",)}
"""What has to be compiled, as its authors have no wheel for that Python yet."""
COMPILER = ("gcc", "g++", "libc6-dev", "libffi-dev")
MIRROR = 'Acquire::Check-Valid-Until "false";\n'
"""A mirror may stand still for a while: what it has is signed all the same."""
INSTALL = """
apt-get update --quiet --quiet &&
DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends "$0" "$@"
"""
AS_HERE = ("etc/resolv.conf", "etc/pip.conf", "etc/ssl/certs/ca-certificates.crt")
"""Files by which this machine reaches its package index, as far as there are any."""
FOREIGN = ("LAPSE_", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS", "TMPDIR")
ENTER = """
mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev"
exec chroot "$0" "$@"
"""


def main(chosen: Sequence[str]) -> int:
    """Run the suite by each of the Pythons; return 1 if any failed."""
    if unknown := set(chosen) - SUITES.keys():
        sys.stderr.write(f"no Python {', '.join(sorted(unknown))} in Debian: take of {', '.join(SUITES)}\n")
        return 2
    ended = {version: _tested(version) for version in chosen or SUITES}
    for version, failed in ended.items():
        sys.stdout.write(f"Python {version} of Debian {SUITES[version]}: {'FAILED' if failed else 'passed'}\n")
    return int(any(ended.values()))


def _tested(version: str) -> bool:
    root = _chroot(SUITES[version])
    packages = [f"python{version}-venv", "make", "git"]
    if version in WITHOUT_WHEELS:
        sys.stdout.write(f"Python {version}: {', '.join(WITHOUT_WHEELS[version])} has no wheel, and is compiled\n")
        packages += [f"python{version}-dev", *COMPILER]
    if _inside(root, "sh", "-c", INSTALL, *packages):
        return True
    tree = root / f"lapse-{version}"
    shutil.rmtree(tree, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, tree], check=True)
    venv = f"VENV=/venv-{version}"
    return bool(_inside(root, "make", "--directory", f"/{tree.name}", f"PYTHON=python{version}", venv, "test"))


def _chroot(suite: str) -> Path:
    """Return a Debian made of its packages, and kept for the next time."""
    root = CHROOTS / suite
    if not root.exists():
        CHROOTS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CHROOTS) as folder:
            made = Path(folder) / suite
            subprocess.run(["debootstrap", "--variant=minbase", "--include=ca-certificates", suite, made], check=True)
            (made / "etc/apt/apt.conf.d/99mirror").write_text(MIRROR)
            made.rename(root)
    for name in AS_HERE:
        if Path("/", name).exists():
            shutil.copyfile(Path("/", name), root / name)
    return root


def _inside(root: Path, *command: str) -> int:
    """Run a command in a chroot; its mounts end with it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environ |= {"HOME": "/root", "LANG": "C.UTF-8"}
    entered = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", ENTER, str(root), *command]
    return subprocess.run(entered, env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
