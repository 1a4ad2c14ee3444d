"""Nothing that is read can run code, leave its folder, put markup into a page, or come from a stranger's cache."""

from __future__ import annotations

import ast
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from uadcli.cli.app import main
from uadcli.console import Reporter
from uadcli.errors import WeightsError
from uadcli.report.index import index_page
from uadcli.weights import cache as caches
from uadcli.weights import manage, registry, weights

PACKAGE = Path(__file__).parents[2] / "uadcli"
MODULES = sorted(PACKAGE.rglob("*.py"))
QUIET = Reporter(silent=True)
CODE_RUNNERS = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib", "cloudpickle", "tarfile"}
RUNNING = {"eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput", "np.load", "numpy.load"}


def calls(tree: ast.AST) -> Iterator[tuple[str, dict[str, object]]]:
    """Dotted name and constant keywords of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = {k.arg: k.value.value for k in node.keywords if k.arg and isinstance(k.value, ast.Constant)}
            yield ast.unparse(node.func), given


def faults(source: str) -> list[str]:
    """What in a module could run code that it reads."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split(".")[0] in CODE_RUNNERS]
    for name, given in calls(tree):
        if name == "torch.load" and given.get("weights_only") is not True:
            found.append("torch.load without weights_only")
        elif name in ("np.load", "numpy.load") and given.get("allow_pickle", False) is not False:
            found.append("np.load with pickles")
        elif (name in RUNNING and not name.endswith(".load")) or given.get("shell") is True:
            found.append(name)
    return found


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_no_module_can_run_what_it_reads(file: Path) -> None:
    assert not faults(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval(x)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(x, shell=True)",
        "os.system(x)",
    ],
)
def test_the_check_sees_each_kind(source: str) -> None:
    assert faults(source)


def entry(text: str, place: Path) -> None:
    (place / registry.FILE).write_text(text)


@pytest.mark.parametrize("name", ["../x", "/etc/x", ".x", "a/b", "a\\\\b", ""])
@pytest.mark.parametrize("field", ["name", "file"])
def test_names_of_a_registry_do_not_leave_its_folder(name: str, field: str, tmp_path: Path) -> None:
    values = {"name": "m", "file": "m.safetensors", field: name if field == "name" else f"{name}.safetensors"}
    lines = [f'{key} = "{value}"\n' for key, value in values.items()]
    entry(f'[[model]]\n{"".join(lines)}sha256 = "{"0" * 64}"\ncontrasts = ["FLAIR"]\n', tmp_path)
    if name == "" and field == "file":
        name = ".safetensors"  # hidden, and no name
    with pytest.raises(WeightsError, match="is damaged"):
        registry.read(tmp_path)


def test_a_card_that_names_another_folder_is_refused_on_import(
    exported: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    file = exported / "tiny 1.safetensors"
    with safe_open(file, "pt") as stream:
        text = stream.metadata()[weights.KEY].replace('"name": "tiny 1"', '"name": "../x"', 1)
    assert "../x" in text
    save_file(load_file(file), file, {weights.KEY: text})
    (exported / registry.FILE).unlink()
    assert main(["weights", "import", str(exported)]) == 4
    assert "is not a valid name" in capsys.readouterr().err
    assert not list(cache.rglob("*"))


def test_names_cannot_put_markup_into_a_page() -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    row = {
        "name": evil, "verdict": evil, "contrast": evil, "anomaly_volume_ml": 1.0, "components": 1, "error": evil,
        "links": {"map": evil, "page": 'javascript:alert("1")'},
    }  # fmt: skip
    page = index_page([row])
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert 'href="javascript:' not in page


@pytest.fixture
def imported(exported: Path, cache: Path) -> Path:
    manage.import_model(exported, False, QUIET)
    return cache / "weights" / "tiny 1"


def fault() -> str | None:
    (model,) = caches.models()
    return model.fault


def test_a_file_of_a_shared_cache_that_is_replaced_is_not_used(imported: Path) -> None:
    file = imported / "tiny 1.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="sha256 differs"):
        weights.load(*weights.find("tiny 1"))
    assert not file.exists()


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("name", ["", registry.FILE, "tiny 1.safetensors"])
def test_models_of_another_user_are_not_used(name: str, imported: Path) -> None:
    os.chown(imported / name, 12345, 12345)
    assert "belongs to another user" in str(fault())
    with pytest.raises(WeightsError, match="unknown weights"):
        weights.find("tiny 1")
    os.chown(caches.folder(), 12345, 12345)  # type: ignore[arg-type]  # the cache is theirs: what they put there counts
    assert fault() is None


@pytest.mark.parametrize("name", ["", registry.FILE, "tiny 1.safetensors"])
def test_models_that_anybody_can_change_are_not_used(name: str, imported: Path) -> None:
    place = imported / name
    place.chmod(place.stat().st_mode | stat.S_IWOTH)
    assert "is writable by everyone" in str(fault())


def test_a_link_in_the_cache_is_not_followed_on_import(exported: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "tiny 1").symlink_to(tmp_path / "theirs")
    with pytest.raises(WeightsError, match="symbolic link"):
        manage.import_model(exported, False, QUIET)
    assert not list((tmp_path / "theirs").iterdir())


def test_a_link_left_in_the_cache_is_removed_and_not_followed(exported: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").touch()
    place = cache / "weights" / "tiny 1"
    place.mkdir(parents=True)
    (place / ".part-0").symlink_to(tmp_path / "theirs")
    manage.import_model(exported, False, QUIET)
    assert (tmp_path / "theirs" / "file").exists()
    assert not (place / ".part-0").is_symlink()
