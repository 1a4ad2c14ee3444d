"""Weights from the Hub: pinned, verified, fetched once, and never left half there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hub import Hub
from models import export

from uadcli.cli.app import main
from uadcli.config import DetectConfig, ModelConfig
from uadcli.console import Reporter
from uadcli.errors import OutputError, UsageError, WeightsError
from uadcli.weights import cache as caches
from uadcli.weights import hub as hubs
from uadcli.weights import manage, registry, transfer, weights

QUIET = Reporter(silent=True)
NOWHERE = "0" * 40


def stored(cache: Path) -> set[str]:
    """The names of all files in the cache but locks."""
    return {p.name for p in cache.rglob("*") if p.is_file() and p.name != ".lock"}


def test_what_is_pushed_is_what_is_fetched(published: str, hub: Hub, exported: Path, cache: Path) -> None:
    path, sha256 = weights.find(published)
    assert path.read_bytes() == (exported / "tiny 1.safetensors").read_bytes()
    assert path.is_relative_to(cache)
    loaded = weights.load(path, sha256)
    assert (loaded.card.name, loaded.sha256) == ("tiny 1", sha256)
    assert caches.origin(path) == published
    assert stored(cache) == {"tiny 1.safetensors", "tiny 1.md", "registry.toml"}
    assert hub.fetched("tiny 1.safetensors") == 1
    assert "lab/tiny" not in hub.private


def test_push_writes_card_and_manifest(published: str, hub: Hub, exported: Path) -> None:
    repo, commit = published.removeprefix("hf://").split("@")
    files = hub.commits[repo][commit]
    head, text = files["README.md"].decode().removeprefix("---\n").split("\n---\n\n")
    assert "license: cc-by-4.0" in head
    assert "library_name: uad" in head
    assert text.encode() == files["tiny 1.md"] == (exported / "tiny 1.md").read_bytes()
    assert b"card_sha256" in files["registry.toml"]


def test_a_second_push_is_a_second_commit_and_the_first_stays(published: str, exported: Path, cache: Path) -> None:
    (exported / "tiny 1.md").write_text("# tiny 1\n\nMore is known now.\n")
    again = manage.push(exported, "lab/tiny", True, "better card", QUIET)
    assert again != published
    for reference, words in ((published, "For tests"), (again, "More is known")):
        assert words in weights.find(reference)[0].with_name("tiny 1.md").read_text()
    assert weights.find("tiny 1")[1] == weights.find(again)[1]  # two commits, one file: the name is plain


def test_a_new_repository_can_be_private(hub: Hub, exported: Path) -> None:
    manage.push(exported, "lab/secret", True, None, QUIET)
    assert hub.private == {"lab/secret"}


def test_a_warm_cache_asks_the_hub_nothing(published: str, hub: Hub) -> None:
    first = weights.find(published)
    hub.requests.clear()
    assert weights.find(published) == first
    assert weights.find("tiny 1") == first
    assert manage.path_of(published) == first[0]
    assert hub.requests == []


@pytest.mark.parametrize("name", ["tiny 1.safetensors", "tiny 1.md", "registry.toml"])
def test_a_changed_byte_of_any_file_is_caught_and_nothing_kept(
    name: str, published: str, hub: Hub, cache: Path
) -> None:
    hub.spoiled.add(name)
    with pytest.raises(WeightsError) as caught:
        weights.find(published)
    assert caught.value.exit_code == 4
    assert published in str(caught.value)
    assert stored(cache) == set()
    hub.spoiled.clear()
    weights.load(*weights.find(published))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_lost_connection_is_continued(ranges: bool, published: str, hub: Hub, exported: Path, cache: Path) -> None:
    hub.cut.add("tiny 1.safetensors")
    hub.ranges = ranges
    path, _ = weights.find(published)
    assert path.read_bytes() == (exported / "tiny 1.safetensors").read_bytes()
    assert stored(cache) == {"tiny 1.safetensors", "tiny 1.md", "registry.toml"}
    half = path.stat().st_size // 2
    starts = [start for name, start in hub.starts if name == "tiny 1.safetensors"]
    assert starts == [0, 0, half if ranges else 0]  # the size, one half, and what is missing


@pytest.mark.parametrize("content", [b"rubbish", b"x" * 10**6])
def test_the_rubbish_of_an_earlier_attempt_is_caught_and_removed(
    content: bytes, published: str, cache: Path, exported: Path
) -> None:
    part = cache / "hub/lab/tiny" / published.split("@")[1] / caches.PARTIAL
    part.mkdir(parents=True)
    (part / "tiny 1.safetensors").write_bytes(content)
    longer = len(content) > (exported / "tiny 1.safetensors").stat().st_size
    if not longer:
        with pytest.raises(WeightsError, match="sha256"):
            weights.find(published)
        assert stored(cache) == set()
    weights.load(*weights.find(published))


def test_a_download_is_not_written_into_what_belongs_to_others(
    published: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = cache / "hub/lab/tiny" / published.split("@")[1]
    (place / caches.PARTIAL).mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    (place / caches.PARTIAL / "tiny 1.safetensors").symlink_to(tmp_path / "mine")
    with pytest.raises(WeightsError, match="link"):
        weights.find(published)
    assert (tmp_path / "mine").read_text() == "mine"
    (place / caches.PARTIAL / "tiny 1.safetensors").unlink()
    (place / caches.PARTIAL).chmod(0o777)
    with pytest.raises(WeightsError, match="writable by everyone"):
        weights.find(published)


def test_a_download_shows_how_far_it_is(published: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(transfer, "MB", 1)
    monkeypatch.setattr(Reporter, "progress", lambda _, done, total: told.append((done, total)))
    reporter = Reporter(silent=True)
    path, _ = weights.find(published, reporter=reporter)
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    assert told == sorted(told)
    assert "download, MB" in reporter.seconds


def test_a_cached_file_that_changed_is_removed_and_fetched_again(published: str, hub: Hub) -> None:
    path, sha256 = weights.find(published)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="removed") as caught:
        weights.load(path, sha256)
    assert f"uad weights download {published}" in caught.value.hint
    assert not path.exists()
    assert [row["source"] for row in manage.listing()] == ["bundled"] * len(registry.bundled())
    weights.load(*weights.find(published))
    assert hub.fetched("tiny 1.safetensors") == 2


def test_a_valid_file_is_not_removed_for_the_fault_of_its_predecessor(published: str) -> None:
    path, sha256 = weights.find(published)
    caches.refuse(path, str(sha256))
    weights.load(*weights.find(published, download=False))


def test_a_file_outside_the_cache_is_refused_but_never_removed(exported: Path) -> None:
    file = exported / "tiny 1.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="sha256"):
        weights.load(*weights.find(str(exported)))
    assert file.exists()


def test_a_registry_names_where_on_the_hub_its_file_is(
    published: str, hub: Hub, exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repo, commit = published.removeprefix("hf://").split("@")
    entry = registry.read(exported)[0]
    place = tmp_path / "bare"
    place.mkdir()
    registry.write(place, registry.Entry("base", "tiny 1.safetensors", entry.sha256, ("FLAIR",), None, repo, commit))
    monkeypatch.setenv("UAD_WEIGHTS_DIR", str(place))
    assert [row["path"] for row in manage.listing()] == [None]
    with pytest.raises(WeightsError, match="not in the cache"):
        manage.path_of("base")
    assert hub.fetched("tiny 1.safetensors") == 0
    for name in (None, "base"):
        loaded = weights.load(*weights.find(name, "FLAIR"))
        assert loaded.sha256 == entry.sha256
    assert hub.fetched("tiny 1.safetensors") == 1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert weights.find("base")[1] == entry.sha256


def test_the_registry_says_what_the_hub_must_hold(
    published: str, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repo, commit = published.removeprefix("hf://").split("@")
    registry.write(tmp_path, registry.Entry("base", "f.safetensors", "a" * 64, ("FLAIR",), None, repo, commit))
    monkeypatch.setenv("UAD_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(WeightsError, match="other weights"):
        weights.find("base")
    assert stored(cache) == set()
    weights.find(published)  # and what is there under that commit does not pass for it either
    with pytest.raises(WeightsError, match="other weights"):
        weights.find("base")


def test_a_path_comes_before_the_cache_before_the_bundled(
    published: str, exported: Path, tiny: ModelConfig, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cached = weights.find(published)[0]
    assert weights.find("tiny 1")[0] == Path("tiny 1/tiny 1.safetensors")  # a folder of this name is here
    monkeypatch.chdir(cache)
    assert weights.find("tiny 1")[0] == cached
    monkeypatch.setenv("UAD_WEIGHTS_DIR", str(exported))
    assert weights.find("tiny 1")[0] == cached  # by its digest
    other = export(tmp_path / "other" / "tiny 1", tiny, seed=2)
    monkeypatch.setenv("UAD_WEIGHTS_DIR", str(other))
    assert weights.find("tiny 1")[0] == other / "tiny 1.safetensors"  # a name that comes along means that file alone
    assert weights.find(None)[0] == other / "tiny 1.safetensors"


def test_two_models_of_one_name_are_not_guessed_between(
    published: str, tiny: ModelConfig, tmp_path: Path, cache: Path
) -> None:
    other = manage.push(export(tmp_path / "other" / "tiny 1", tiny, seed=2), "lab/other", False, None, QUIET)
    assert weights.find(published)[1] != weights.find(other)[1]
    with pytest.raises(WeightsError, match="2 cached models"):
        weights.find("tiny 1")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_model_is_not_downloaded_next_to_another(exported: Path, tmp_path: Path, overwrite: bool) -> None:
    """`--weights` takes a folder with one weight file only."""
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "other.safetensors").write_bytes(b"other")
    with pytest.raises(OutputError, match=r"already contains other weights \(other.safetensors\)"):
        manage.download(str(exported), tmp_path / "copy", overwrite, QUIET)
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["other.safetensors"]


@pytest.mark.parametrize(
    "text",
    ["hf://lab/tiny", "hf://lab/tiny@main", "hf://lab/tiny@abc123", f"hf://lab/tiny@{'A' * 40}"]
    + [f"hf://{repo}@{NOWHERE}" for repo in ("tiny", "../tiny", "lab/..", "lab/tiny/deep", "lab/", "")],
)
def test_only_a_repository_at_a_full_commit_is_taken(text: str, hub: Hub) -> None:
    with pytest.raises(UsageError, match=r"pinned|does not name a model"):
        weights.find(text)
    assert hub.requests == []


def test_download_looks_a_branch_up_and_says_the_commit(
    published: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for revision in ("", "@main"):
        assert main(["weights", "download", f"hf://lab/tiny{revision}", "-o", f"{tmp_path}/copy", "--overwrite"]) == 0
        out, err = capsys.readouterr()
        assert f"pinned: {published}" in err
        assert out == f"{tmp_path}/copy/tiny 1.safetensors\n"
    assert main(["weights", "download", published, "-o", f"{tmp_path}/copy"]) == 6
    assert weights.find(f"{tmp_path}/copy")[1] == weights.find(published)[1]  # verified by the registry beside it
    assert {p.name for p in (tmp_path / "copy").iterdir()} == {"tiny 1.safetensors", "tiny 1.md", "registry.toml"}


@pytest.mark.parametrize(
    ("reference", "words"),
    [(f"hf://lab/none@{NOWHERE}", "no such repository"), (f"hf://lab/tiny@{NOWHERE}", "no such commit")],
)
def test_what_is_not_there_is_said(reference: str, words: str, published: str, cache: Path) -> None:
    with pytest.raises(WeightsError, match=words):
        weights.find(reference)
    assert stored(cache) == set()


@pytest.mark.parametrize(
    "line",
    [
        'file = "../../up.safetensors"',
        'file = "/etc/up.safetensors"',
        'file = "model.pt"',
        'file = ".safetensors"',
        'name = "../up"',
        'name = "up\\n"',
        'sha256 = "abc"',
        "sha256 = 3",
        'card_sha256 = "abc"',
        'contrasts = ["CT"]',
        'repo = "lab/tiny"',
        'commit = "main"\nrepo = "lab/tiny"',
    ],
)
def test_a_manifest_cannot_name_other_places(line: str, hub: Hub, cache: Path) -> None:
    fields = {"name": '"m"', "file": '"m.safetensors"', "sha256": f'"{"a" * 64}"', "contrasts": '["FLAIR"]'}
    fields |= dict(part.split(" = ") for part in line.splitlines())
    manifest = "[[model]]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items())
    commit = hub.add("lab/odd", {"registry.toml": manifest.encode(), "m.safetensors": b"x"})
    with pytest.raises(WeightsError, match="is damaged"):
        weights.find(f"hf://lab/odd@{commit}")
    assert stored(cache) == set()


def test_a_repository_without_manifest_is_no_model(hub: Hub) -> None:
    commit = hub.add("lab/other", {"pytorch_model.bin": b"pickle"})
    with pytest.raises(WeightsError, match="missing there"):
        weights.find(f"hf://lab/other@{commit}")


def test_push_needs_the_right_a_card_and_the_network(hub: Hub, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(WeightsError, match="401") as caught:
        manage.push(exported, "lab/tiny", False, None, QUIET)
    assert "HF_TOKEN" in caught.value.hint
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    with pytest.raises(WeightsError, match="network"):
        manage.push(exported, "lab/tiny", False, None, QUIET)
    with pytest.raises(UsageError, match="not a repository"):
        manage.push(exported, "tiny", False, None, QUIET)
    with pytest.raises(WeightsError, match=r"other\.md: the model card"):
        manage.push(exported, "lab/tiny", False, None, QUIET, [exported / "other.md"])
    (exported / "tiny 1.md").unlink()
    with pytest.raises(WeightsError, match=r"tiny 1\.md: the model card"):
        manage.push(exported, "lab/tiny", False, None, QUIET)
    assert hub.requests == []


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_offline_is_what_the_client_takes_for_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert hubs.offline()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not hubs.offline()


def test_import_makes_a_name_of_a_path(
    exported: Path, cache: Path, tiny: ModelConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = exported / "tiny 1.safetensors"
    for source in (exported, file):
        assert main(["weights", "import", str(source)]) == 0
        assert capsys.readouterr().out == "tiny 1\n"
    path, sha256 = weights.find("tiny 1")
    assert path.read_bytes() == file.read_bytes()
    assert weights.load(path, sha256).card.name == "tiny 1"
    assert stored(cache) == {"tiny 1.safetensors", "tiny 1.md", "registry.toml"}
    other = export(tmp_path / "other" / "tiny 1", tiny, seed=2)
    assert main(["weights", "import", str(other)]) == 4
    assert weights.find("tiny 1")[1] == sha256
    assert main(["weights", "import", str(other), "--overwrite"]) == 0
    assert weights.find("tiny 1")[1] != sha256


def test_import_takes_only_models_that_can_be_verified(
    exported: Path, tmp_path: Path, cache: Path, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.pt").write_bytes(b"\x80\x04.")
    (tmp_path / "m.safetensors").write_bytes(b"nonsense" * 9)
    bundled = export(tmp_path / "other" / "tiny 1", tiny, seed=2)
    monkeypatch.setenv("UAD_WEIGHTS_DIR", str(bundled))
    for path, words in (
        (tmp_path / "m.pt", "not a .safetensors"),
        (tmp_path / "m.safetensors", "damaged"),
        (tmp_path / "none", "no such"),
        (exported, "a bundled model is called"),
    ):
        with pytest.raises(WeightsError, match=words):
            manage.import_model(path, False, QUIET)
    file = exported / "tiny 1.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="sha256"):
        manage.import_model(exported, False, QUIET)
    assert stored(cache) == set()


def test_list_show_path_and_verify(
    published: str, hub: Hub, exported: Path, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    path, sha256 = weights.find(published)
    manage.import_model(exported, False, QUIET)
    hub.requests.clear()

    def printed(*arguments: str, code: int = 0) -> str:
        assert main(["weights", *arguments]) == code
        return capsys.readouterr().out

    rows = json.loads(printed("list", "--json"))
    bundled = registry.bundled()
    assert [(r["source"], r["origin"], r["fault"]) for r in rows] == [
        *[("bundled", None, None)] * len(bundled),
        ("hub", published, None),
        ("imported", None, None),
    ]
    assert "tiny 1" in printed("list")
    shown = json.loads(printed("show", published, "--json"))
    assert (shown["sha256"], shown["origin"], shown["thresholds"]) == (sha256, published, {"bright": {"FLAIR": 0.2}})
    assert "0.2000 (default: FLAIR)" in printed("show", published)
    assert printed("path", published) == f"{path}\n"
    assert printed("verify").count("verified\n") == len(bundled) + 2
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "sha256 differs" in printed("verify", code=4)
    assert not path.exists()
    name = bundled[0].name
    assert json.loads(printed("verify", name, "--json")) == [
        {"name": name, "path": manage.listing()[0]["path"], "fault": None}
    ]
    assert hub.requests == []


def test_without_a_name_all_bundled_models_are_shown(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [entry.name for entry in registry.bundled()]
    assert main(["weights", "show", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == names
    assert main(["weights", "show"]) == 0
    told = capsys.readouterr().out
    assert all(one in told for one in names)
    assert main(["weights", "path"]) == 0
    assert [Path(line).stem for line in capsys.readouterr().out.splitlines()] == names


@pytest.mark.parametrize("look", ["--dry-run", "--status", "--collect"])
def test_what_only_looks_at_a_batch_downloads_nothing(
    look: str, published: str, hub: Hub, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a_FLAIR.nii").write_text("no scan")
    asked = ["batch", f"{tmp_path}/in", "-o", f"{tmp_path}/out", "--weights", published, look]
    before = len(hub.requests)
    assert main(asked) == 4
    assert f"uad weights download {published}" in capsys.readouterr().err
    assert len(hub.requests) == before


def test_a_cut_off_model_of_the_cache_is_removed_before_a_scan_is_prepared(
    published: str, cache: Path, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uadcli.detection import detect
    from uadcli.detection.options import DetectOptions
    from uadcli.detection.session import Session

    path = weights.find(published)[0]
    path.write_bytes(path.read_bytes()[:100])
    monkeypatch.setattr(detect, "prepare", lambda *_, **__: pytest.fail("it was prepared"))
    options = DetectOptions(weights=published)
    with pytest.raises(WeightsError, match="sha256 differs"):
        detect.ready_scan(example, Session(DetectConfig(), options, "cpu", Reporter(silent=True)))
    assert not path.exists()
    weights.load(*weights.find(published))  # fetched again


def test_a_damaged_model_of_the_cache_stops_no_other(published: str, cache: Path) -> None:
    (cache / "weights" / "broken").mkdir(parents=True)
    (cache / "weights" / "broken" / "registry.toml").write_text("[[model]]\n")
    weights.find(None, "FLAIR")
    assert [row["name"] for row in manage.listing() if row["fault"]] == ["broken"]
    with pytest.raises(WeightsError, match="damaged"):
        manage.refuse_faults(manage.verify([]))


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"UAD_CACHE": "/a"}, "/a"),
        ({"UAD_CACHE": "", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/uad"),
        ({"UAD_CACHE": "", "XDG_CACHE_HOME": "x", "HOME": "/h"}, "/h/.cache/uad"),
    ],
)
def test_where_the_cache_is(variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert caches.folder() == Path(place)


def test_without_a_home_folder_bundled_models_work(monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.setenv("UAD_CACHE", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert weights.find(None, "FLAIR")[0].exists()
    with pytest.raises(WeightsError, match="home") as caught:
        manage.import_model(exported, False, QUIET)
    assert "UAD_CACHE" in caught.value.hint
