"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import own_cores  # noqa: F401
import pytest
from hub import Hub, running
from models import export
from stand import Stand

from uadcli.config import EncoderConfig, ModelConfig, UNetConfig

os.environ["HF_HUB_DISABLE_XET"] = "1"  # read when the client is imported; the tests' Hub is a plain server
gc.set_threshold(10_000, 10, 10)  # thousands of tests live to the end: looking through them for cycles took a sixth
EXAMPLE = Path(__file__).parents[1] / "packaging" / "example" / "sub-FG6692_FLAIR.nii.gz"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are not part of a test's id: gzip writes the time into them, but all processes must collect the same."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True, scope="session")
def _hear_ctrl_c() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C; the tests of it, and what they start, must hear it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all caches: pytest looks through all folders beside a new one, which takes ever longer."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(autouse=True)
def cache(caches: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of each test's own; `--offline`, which sets a variable, ends with the test."""
    folder = Path(tempfile.mkdtemp(dir=caches))
    monkeypatch.setenv("UAD_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return folder


@pytest.fixture
def data() -> Path:
    """The folder of development data; the test is skipped where it is not there."""
    folder = os.environ.get("UAD_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no development data (set UAD_DATA)")
    return Path(folder)


@pytest.fixture(scope="session")
def example() -> Path:
    """The committed clinical FLAIR."""
    return EXAMPLE


@pytest.fixture
def tiny() -> ModelConfig:
    """A model small enough to train in a test."""
    return ModelConfig(
        unet=UNetConfig(channels=8, multipliers=(1, 2), blocks=1, unshuffle=2, head_channels=8, embedding=16),
        encoder=EncoderConfig(blocks=(1, 1), width=4, condition=16, norm="group", unshuffle=2),
    )


@pytest.fixture
def exported(tmp_path: Path, tiny: ModelConfig) -> Path:
    """A folder as `uad export` makes it, with a tiny model called `tiny 1`."""
    return export(tmp_path / "tiny 1", tiny)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub on loopback that writes ask a token of, and a home of the client's own."""
    with running("secret") as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_TOKEN", "secret")
        monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield made


@pytest.fixture
def published(hub: Hub, exported: Path) -> str:
    """The model of `exported` on the Hub, as `--weights` takes it."""
    from uadcli.console import Reporter
    from uadcli.weights import manage

    return manage.push(exported, "lab/tiny", False, None, Reporter(silent=True))


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the picture of a detection empty: of a small one, drawing it takes half the time."""
    from uadcli.detection import write

    monkeypatch.setattr(write, "_picture", lambda path, *_: path.touch())


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Both halves of a detection replaced."""
    return Stand(monkeypatch)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of three files that stand for scans."""
    folder = tmp_path / "in"
    for name in ("a.nii", "deep er/b.nii", "deep er/ü/c.nii.gz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder
