"""`uad doctor`: what is installed, and whether `uad detect` can run."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from uadcli import __version__, device
from uadcli.errors import DeviceError, UadError, WeightsError
from uadcli.report import viewer
from uadcli.running.faults import DETECT_MB

if TYPE_CHECKING:
    from uadcli.weights.registry import Entry

EXTRAS = ("", "cluster", "train")  # what a user installs
LONGEST = 60  # of a licence's name; longer ones are the text of the licence


def examine() -> dict[str, Any]:
    """Check everything that a detection needs: packages, a device, and weights with the right sha256. Offline.

    A weight file that is only on the Hub is a fault, and sets `network_needed`. `problem` is the first reason why
    `detect` cannot run, or None; `exit_code` is 0, 4 (weights) or 5 (packages, devices). `fault` is None for a correct
    weight file.
    """
    needed, unknown = needed_by_detect()
    versions = {"uadcli": __version__, "python": platform.python_version(), **{n: _version(n) for n in needed}}
    faults: list[tuple[str, type[UadError]]] = [
        (f"the package {n} is not installed", DeviceError) for n, v in versions.items() if v is None
    ]
    if unknown:
        faults.append((unknown, DeviceError))
    devices, chosen, device_fault = _devices()
    folder, cache_folder, states, weight_fault = _weights()
    if device_fault:
        faults.append((device_fault, DeviceError))
    if weight_fault:
        faults.append((weight_fault, WeightsError))
    return {
        "versions": versions,
        "devices": devices,
        "auto_device": chosen,
        "cores": device.cores(),
        "free_memory_mb": device.free_memory_mb(),
        "weights_folder": folder,
        "cache_folder": cache_folder,
        "weights": states,
        "network_needed": any(state["on_hub"] for state in states),
        "problem": faults[0][0] if faults else None,
        "exit_code": faults[0][1].exit_code if faults else 0,
    }


def in_words(report: dict[str, Any]) -> str:
    """The report of `examine` as text, without the problem."""
    free = report["free_memory_mb"]
    memory = f"{free:.0f} MB free"
    if free < DETECT_MB:
        memory += f"; a detection may need {DETECT_MB:.0f} MB"
    rows = [(name, version or "missing") for name, version in report["versions"].items()]
    rows += [("device", one) for one in report["devices"]]
    rows += [("--device auto", report["auto_device"] or "none works"), ("cores", report["cores"]), ("memory", memory)]
    rows += [("cache", report["cache_folder"] or "none: no home folder, and UAD_CACHE is not set")]
    rows += [("weights folder", report["weights_folder"])]
    rows += [(f"  {w['name']}", f"{', '.join(w['contrasts'])}: {w['fault'] or 'verified'}") for w in report["weights"]]
    rows += [("network needed", "yes" if report["network_needed"] else "no")]
    return "\n".join(f"{key:<17} {value}" for key, value in rows)


def needed_by_detect() -> tuple[list[str], str]:
    """The packages that a detection needs, as the installed package states them; why they are unknown, else empty."""
    try:
        return list(_requirements(metadata.distribution("uadcli"), EXTRAS[:1])), ""
    except metadata.PackageNotFoundError:
        return [], "uadcli is not installed as a package, so what it needs is unknown"
    except ImportError as error:  # of `packaging`, which reads the list
        return [], f"the packages that are needed are unknown: {error}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> tuple[list[str], str | None, str | None]:
    """Every device in words, the choice of `auto` with its reason, and a fault if torch cannot be loaded."""
    try:
        name, why = device.choose("auto")
        return [device.describe(one) for one in device.available()], f"{name} ({why})", None
    except (ImportError, OSError, UadError) as error:
        return [], None, f"torch does not work: {error}"


def _weights() -> tuple[str, str | None, list[dict[str, Any]], str | None]:
    """The folder, the cache, the state of each model in the folder's registry, and the first fault."""
    try:
        from uadcli.weights import cache, registry
    except (ImportError, OSError) as error:
        return "unknown", None, [], f"the weights cannot be checked: {error}"
    place = cache.folder()
    folder, cache_folder = str(registry.folder()), str(place) if place else None
    try:
        entries = registry.bundled()
    except UadError as error:
        return folder, cache_folder, [], str(error)
    states = []
    for entry in entries:
        fault, on_hub = _fault(entry)
        state = {"name": entry.name, "contrasts": entry.contrasts, "sha256": entry.sha256}
        states.append(state | {"fault": fault, "on_hub": on_hub})
    faults = [str(state["fault"]) for state in states if state["fault"]]
    nothing = None if states else f"{folder}: the registry names no weights"
    return folder, cache_folder, states, faults[0] if faults else nothing


def _fault(entry: Entry) -> tuple[str | None, bool]:
    """What is wrong with a model, and whether its file is only on the Hub."""
    from uadcli.weights import weights

    try:
        path, sha256 = weights.find(entry.name, download=False)
    except UadError as error:
        return str(error), entry.reference is not None
    try:
        weights.load(path, sha256)
    except UadError as error:
        return str(error), False
    return None, False


def licences() -> list[dict[str, str]]:
    """Name, version and licence of `uadcli`, of every installed package that it needs, directly or not, and of the
    script that its pages contain, by name."""
    rows = [
        {"name": one.metadata["Name"], "version": one.version, "licence": _licence(one.metadata) or "not stated"}
        for one in _needed("uadcli", {}).values()
    ]
    rows.append({"name": viewer.NAME, "version": viewer.VERSION, "licence": viewer.LICENCE})
    return sorted(rows, key=lambda row: row["name"].lower())


def licences_in_words(rows: list[dict[str, str]]) -> str:
    """One line for each package."""
    width = max(len(row["name"]) for row in rows)
    return "\n".join(f"{row['name']:<{width}}  {row['version']:<14}  {row['licence']}" for row in rows)


def _needed(name: str, known: dict[str, metadata.Distribution]) -> dict[str, metadata.Distribution]:
    """`known`, and a package with all that it needs; what is not installed is left out."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return known
    if found.metadata["Name"] not in known:
        known[found.metadata["Name"]] = found
        extras = EXTRAS if found.metadata["Name"] == "uadcli" else EXTRAS[:1]
        for other in _requirements(found, extras):
            _needed(other, known)
    return known


def _requirements(found: metadata.Distribution, extras: Sequence[str]) -> Iterator[str]:
    """The names of the packages that one asks for on this machine, with these of its extras."""
    from packaging.requirements import Requirement

    for text in found.requires or []:
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras):
            yield one.name


def _licence(described: metadata.PackageMetadata) -> str:
    """The licence as the package states it: by identifier, in its own words if they are few, or by classifier."""
    texts = described.get_all("License-Expression") or described.get_all("License") or []
    short = [text for text in texts if len(text) <= LONGEST or "License-Expression" in described]
    kinds = [kind for kind in described.get_all("Classifier") or [] if kind.startswith("License ::")]
    return " ".join(", ".join(short or [kind.split("::")[-1].strip() for kind in kinds]).split())
