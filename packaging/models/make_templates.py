"""Build the small templates in `uadcli/imaging/templates` from the MNI152NLin2009cAsym files.

    python packaging/models/make_templates.py FOLDER

FOLDER contains the template files with their TemplateFlow names (T1w and tissue probabilities at 2 mm, brain mask at
1 mm).
"""

from __future__ import annotations

import argparse
import lzma
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from uadcli.imaging.geometry import resample
from uadcli.imaging.template import packed

OUT = Path(__file__).parents[2] / "uadcli" / "imaging" / "templates"
# for labels, of which the one before tells more than their place
PACKED = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 1, "lp": 0, "pb": 0, "depth": 1000}]
PREFIX = "tpl-MNI152NLin2009cAsym_res-"


def save(name: str, data: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(data.astype(np.uint8), affine)
    image.set_sform(affine, 4)
    image.set_qform(affine, 4)
    image.header["descrip"] = b"(c) 1993-2009 Louis Collins, MNI, McGill"
    write_packed(OUT / name, image)


def write_packed(path: Path, image: nib.Nifti1Image) -> None:
    """Write labels as `uadcli.imaging.template` reads them."""
    path.write_bytes(lzma.compress(image.to_bytes(), check=lzma.CHECK_CRC32, filters=PACKED))


def write_picture(path: Path, head: np.ndarray) -> None:
    """Write a head (X, Y, Z) as `uadcli.imaging.template` reads it; lossless by default."""
    planes = packed(head)
    Image.fromarray(planes.reshape(-1, planes.shape[-1])).save(path, codeblock_size=(16, 256), num_resolutions=7)


def main(folder: Path) -> None:
    head = nib.load(folder / f"{PREFIX}02_T1w.nii.gz")
    data, affine = head.get_fdata(), head.affine
    grey = np.clip(data / np.percentile(data, 99.9) * 255, 0, 255).round().astype(np.uint8)
    write_picture(OUT / "mni_head_T1w.jp2", grey)
    mask = nib.load(folder / f"{PREFIX}01_desc-brain_mask.nii.gz")
    coarse = resample((mask.get_fdata() > 0).astype(np.float32), mask.affine, data.shape, affine, antialias=True)
    save("mni_brain_mask.nii.xz", coarse >= 0.5, affine)
    tissues = [nib.load(folder / f"{PREFIX}02_label-{t}_probseg.nii.gz").get_fdata() for t in ("CSF", "GM", "WM")]
    label = np.argmax(tissues, axis=0) + 1
    save("mni_tissue_dseg.nii.xz", np.where(np.max(tissues, axis=0) > 0.8, label, 0) * (coarse >= 0.5), affine)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)
