"""What a file name says about the contrast: BIDS suffixes, vendors' series names, BraTS, and names that say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from uadcli.data.contrast import from_name, other_from_name

NAMES = {
    # BIDS: the suffix decides, entities never do
    "sub-01_T1w.nii.gz": "T1w",
    "sub-01_T2w.nii": "T2w",
    "sub-01_FLAIR.nii.gz": "FLAIR",
    "sub-01_acq-flair_T1w.nii.gz": "T1w",
    "sub-01_space-FLAIR_T1w.nii.gz": "T1w",
    "sub-01_space-T1w_FLAIR.nii.gz": "FLAIR",
    "sub-01_space-T1w_desc-preproc_T2w.nii.gz": "T2w",
    "sub-01_ses-02_acq-T2_rec-norm_run-1_FLAIR.nii.gz": "FLAIR",
    "sub-01_acq-se_T2w.nii": "T2w",
    "sub-01_desc-T1_T2w.mgz": "T2w",
    "sub-T1_ses-T2_FLAIR.nii.gz": "FLAIR",
    "sub-01_acq-T2starw_T1w.nii.gz": "T1w",
    "sub-01_acq-mp2rage_T1w.nii.gz": "T1w",
    "acq-flair_T1w.nii.gz": "T1w",
    "sub-01_T1w_brain.nii.gz": "T1w",
    "sub-01_t1w.nii.gz": "T1w",
    # Siemens
    "4_t1_mprage_sag.nii.gz": "T1w",
    "t1_mprage_sag_p2_iso_1.0_5.nii.gz": "T1w",
    "t1_mpr_ns_sag_p2.nii.gz": "T1w",
    "T1_MPRAGE_TRA_KM.nii.gz": "T1w",
    "t1_se_tra_320.nii.gz": "T1w",
    "t1_fl2d_tra.nii.gz": "T1w",
    "t1_tse_dark-fluid_tra.nii.gz": "T1w",
    "t1_tirm_tra_dark-fluid.nii.gz": "T1w",
    "MPRAGE_GRAPPA2.nii": "T1w",
    "MP-RAGE_sag.nii": "T1w",
    "3_t2_tse_tra.nii.gz": "T2w",
    "t2_space_sag_p2_iso.nii.gz": "T2w",
    "t2_blade_tra.nii.gz": "T2w",
    "t2_tirm_tra_dark-fluid_5mm.nii.gz": "FLAIR",
    "t2_tirm_tra.nii.gz": "FLAIR",
    "TIRM_tra.nii.gz": "FLAIR",
    "t2_space_dark-fluid_sag_p3_iso.nii.gz": "FLAIR",
    "DarkFluid_tra.nii.gz": "FLAIR",
    "dark-fluid.nii.gz": "FLAIR",
    "501_t2_flair_tra.nii.gz": "FLAIR",
    # GE
    "AX_T1_FLAIR.nii.gz": "T1w",
    "SAG_T1_FLAIR.nii.gz": "T1w",
    "Sag T1 FSE FLAIR.nii.gz": "T1w",
    "T1FLAIR.nii.gz": "T1w",
    "Ax T2 FLAIR.nii.gz": "FLAIR",
    "Sag_CUBE_T2_FLAIR.nii.gz": "FLAIR",
    "AxT2FLAIR_8.nii.gz": "FLAIR",
    "AX_T2_PROPELLER.nii.gz": "T2w",
    "Ax_T2_FRFSE_fs.nii.gz": "T2w",
    "Ax_FSPGR_3D.nii.gz": "T1w",
    "3D_BRAVO_5.nii.gz": "T1w",
    "AXT1_post.nii.gz": "T1w",
    "AX T1 +C.nii.gz": "T1w",
    # Philips
    "sT1W_3D_TFE.nii.gz": "T1w",
    "WIP_sT1W_3D_TFE_SENSE_4_1.nii.gz": "T1w",
    "T1W_3D_FFE.nii.gz": "T1w",
    "T1W3D.nii.gz": "T1w",
    "3DT1.nii.gz": "T1w",
    "3D_T1W_TFE.nii": "T1w",
    "T2W_TSE.nii.gz": "T2w",
    "T2W_FLAIR.nii.gz": "FLAIR",
    "FLAIR_longTR.nii.gz": "FLAIR",
    "3DFLAIR.nii.gz": "FLAIR",
    "eFLAIR_3D.nii.gz": "FLAIR",
    "rT1.nii": "T1w",
    "rFLAIR.nii": "FLAIR",
    # BraTS and other collections
    "BraTS-GLI-00000-000-t1n.nii.gz": "T1w",
    "BraTS-GLI-00000-000-t1c.nii.gz": "T1w",
    "BraTS-GLI-00000-000-t2w.nii.gz": "T2w",
    "BraTS-GLI-00000-000-t2f.nii.gz": "FLAIR",
    "BraTS20_Training_001_t1ce.nii.gz": "T1w",
    "BraTS20_Training_001_t1.nii.gz": "T1w",
    "BraTS20_Training_001_flair.nii.gz": "FLAIR",
    "patient1_T1Gd.nii.gz": "T1w",
    "T1.nii.gz": "T1w",
    "t2.nii": "T2w",
    "FLAIR.nii.gz": "FLAIR",
    "IXI002-Guys-0828-T1.nii.gz": "T1w",
    "IXI002-Guys-0828-T2.nii.gz": "T2w",
    "T1_to_MNI.nii.gz": "T1w",
    "flair2mni.nii.gz": "FLAIR",
    # contradictory names, and names of nothing, decide nothing
    "flair_reg_to_T1.nii.gz": None,
    "T1_in_FLAIR_space.nii.gz": None,
    "FLAIR_to_T2.nii.gz": None,
    "flair2t1.nii.gz": None,
    "T1_T2_ratio.nii.gz": None,
    "T1w_T2w.nii.gz": None,
    "bold_to_T1.nii.gz": None,
    "PD_T2_tse.nii.gz": None,
    "PD_017.nii.gz": None,  # proton density, or a patient with Parkinson's disease
    "PD_017_T1.nii.gz": "T1w",
    "CT_reg_T1.nii.gz": None,
    "st1ff.nii.gz": None,
    "pat1.nii.gz": None,
    "post1.nii.gz": None,
    "test2.nii.gz": None,
    "T10.nii.gz": None,
    "T12.nii.gz": None,
    "pet12.nii": None,
    "scan.nii.gz": None,
    "flairy.nii.gz": None,
    "MPR_sag.nii.gz": None,  # a reformatted plane of anything
    "STIR_cor.nii.gz": None,
    "t2_swi3d_tra.nii.gz": None,
    "t1_mp2rage_sag_INV1.nii.gz": None,
    "t2_ciss_3d.nii.gz": None,
    "T2_relaxometry.nii.gz": None,
    "UNIT1.nii.gz": None,
    "mp2rage_UNI_Images.nii.gz": None,
    "sub-01_UNIT1.nii.gz": None,
}
OTHER = {
    "sub-01_T2starw.nii.gz": "T2starw",
    "sub-01_space-T1w_bold.nii.gz": "bold",
    "sub-01_acq-T1w_dwi.nii.gz": "dwi",
    "sub-01_acq-T2w_sbref.nii.gz": "sbref",
    "sub-01_PDw.nii.gz": "PDw",
    "sub-01_PDT2.nii.gz": "PDT2",
    "sub-01_T1map.nii.gz": "T1map",
    "sub-01_T2map.nii.gz": "T2map",
    "sub-01_inplaneT2.nii.gz": "inplaneT2",
    "sub-01_inplaneT1.nii.gz": "inplaneT1",
    "sub-01_acq-T1_swi.nii.gz": "swi",
    "sub-01_inv-1_MP2RAGE.nii.gz": "MP2RAGE",
    "T2_star.nii.gz": "t2star",
    "T2starw.nii.gz": "t2starw",
    "T2Star_3D.nii.gz": "t2star",
    "AX_T2*_GRE.nii.gz": "t2star",
    "AX_T2_GRE.nii.gz": "t2gre",
    "T2W_FFE.nii.gz": "t2ffe",
    "t2_fl2d_tra_hemo.nii.gz": "t2fl2d",
    "SWI_Images.nii.gz": "swi",
    "Ax_SWAN.nii.gz": "swan",
    "sSWIp.nii.gz": "swip",
    "ADC.nii.gz": "adc",
    "dADC_Map.nii.gz": "adc",
    "ep2d_diff_3scan_trace_p2_ADC.nii.gz": "ep2d",
    "T1map.nii.gz": "t1map",
    "T1_Map.nii.gz": "t1map",
    "T2_mapping.nii.gz": "t2mapping",
    "qT1.nii.gz": "qt1",
    "bold.nii.gz": "bold",
    "ep2d_bold_moco.nii.gz": "ep2d",
    "DWI_b1000.nii.gz": "dwi",
    "inplaneT2.nii.gz": "inplanet2",
    "tof_fl3d_tra.nii.gz": "tof",
    "PDw.nii.gz": "pdw",
    "proton_density.nii.gz": "protondensity",
    "QSM.nii.gz": "qsm",
    "asl_cbf.nii.gz": "asl",
    "R2star.nii.gz": "r2star",
    "localizer.nii.gz": "localizer",
    "SWI3D.nii.gz": "swi3d",
    "SWISS_001.nii.gz": None,
    "study_SWI001.nii.gz": None,
    "Swinburne.nii.gz": None,
    "MIP_Images_SW.nii.gz": "mip",
    "mp2rage_INV2.nii.gz": "inv2",
    "T2prep.nii.gz": "t2prep",
    "FIESTA.nii.gz": "fiesta",
    "b0.nii.gz": "b0",
    "trace_b1000.nii.gz": "trace",
    "Tmax.nii.gz": "tmax",
    "PET_FDG.nii.gz": "pet",
}


def test_the_table_is_large() -> None:
    assert len(NAMES) + len(OTHER) >= 80


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
def test_a_name_says_a_contrast_or_nothing(name: str, expected: str | None) -> None:
    assert from_name(Path("t1/flair") / name) == expected
    assert other_from_name(Path(name)) is None


@pytest.mark.parametrize(("name", "expected"), OTHER.items())
def test_a_name_says_what_no_model_covers(name: str, expected: str) -> None:
    assert from_name(Path("t1/flair") / name) is None
    assert other_from_name(Path("t1/flair") / name) == expected


@pytest.mark.parametrize(
    "name", ["Subject1_T1.nii.gz", "patient-1-t2.nii.gz", "scan 1 flair.nii.gz", "a.FLAIR.nii.gz", "(T1w).nii.gz"]
)
@pytest.mark.parametrize("change", [str, str.upper, str.lower])
def test_case_and_separators_do_not_matter(name: str, change: type[str]) -> None:
    stem = name.removesuffix(".nii.gz")
    said = from_name(Path(change(stem) + ".nii.gz"))
    assert said is not None
    assert said.lower().rstrip("w") in name.lower()
