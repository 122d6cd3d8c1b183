"""The built distributions, and two environments that hold the wheel and nothing of this tree."""

import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import pytest

from support.distributions import Built, Environment, build, install


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build both distributions."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def full(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment that sees every dependency of this one, and of lapse only the wheel.

    A folder that a .pth file names is searched for modules, but its own .pth files, an editable lapse among them,
    are not read.
    """
    environment = install(built, tmp_path_factory.mktemp("full"))
    seen = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (environment.site / "dependencies.pth").write_text("".join(f"{folder}\n" for folder in seen))
    return environment


@pytest.fixture(scope="session")
def light(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with what an application installs: lapse and the Redis client."""
    environment = install(built, tmp_path_factory.mktemp("light"))
    redis = distribution("redis")
    for name in {path.parts[0] for path in redis.files or () if path.parts[0] not in {"..", "__pycache__"}}:
        (environment.site / name).symlink_to(Path(str(redis.locate_file(name))))
    return environment
