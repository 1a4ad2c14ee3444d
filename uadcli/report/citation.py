"""The works behind a result."""

BIBTEX = r"""@article{behrendt2025guided,
  title = {Guided Reconstruction with Conditioned Diffusion Models for Unsupervised Anomaly Detection in Brain {MRIs}},
  author = {Behrendt, Finn and Bhattacharya, Debayan and Mieling, Robin and Maack, Lennart and Kr{\"u}ger, Julia and
            Opfer, Roland and Schlaefer, Alexander},
  journal = {Computers in Biology and Medicine}, volume = {186}, pages = {109660}, year = {2025},
  note = {arXiv:2312.04215}
}
@inproceedings{behrendt2024combining,
  title = {Combining Reconstruction-based Unsupervised Anomaly Detection with Supervised Segmentation for Brain {MRIs}},
  author = {Behrendt, Finn and others}, booktitle = {Medical Imaging with Deep Learning}, year = {2024}
}
@inproceedings{behrendt2024leveraging,
  title = {Leveraging the {Mahalanobis} Distance to Enhance Unsupervised Brain {MRI} Anomaly Detection},
  author = {Behrendt, Finn and others}, booktitle = {MICCAI}, year = {2024}, note = {arXiv:2407.12474}
}
@inproceedings{behrendt2024ensembled,
  title = {Diffusion Models with Ensembled Structure-Based Anomaly Scoring for Unsupervised Anomaly Detection},
  author = {Behrendt, Finn and others}, booktitle = {ISBI}, year = {2024}
}
@inproceedings{marimont2024disyre,
  title = {{DISYRE}: Diffusion-Inspired {SYnthetic} {REstoration} for Unsupervised Anomaly Detection},
  author = {Naval Marimont, Sergio and others}, booktitle = {ISBI}, year = {2024}
}
@article{billot2023synthseg,
  title = {{SynthSeg}: Segmentation of brain {MRI} scans of any contrast and resolution without retraining},
  author = {Billot, Benjamin and others}, journal = {Medical Image Analysis}, volume = {86}, pages = {102789},
  year = {2023}
}
@article{isensee2019automated,
  title = {Automated brain extraction of multisequence {MRI} using artificial neural networks},
  author = {Isensee, Fabian and others}, journal = {Human Brain Mapping}, volume = {40}, number = {17},
  pages = {4952--4964}, year = {2019}
}
@article{avants2011reproducible,
  title = {A reproducible evaluation of {ANTs} similarity metric performance in brain image registration},
  author = {Avants, Brian B. and others}, journal = {NeuroImage}, volume = {54}, number = {3}, pages = {2033--2044},
  year = {2011}
}
@article{tustison2010n4itk,
  title = {{N4ITK}: improved {N3} bias correction}, author = {Tustison, Nicholas J. and others},
  journal = {IEEE Transactions on Medical Imaging}, volume = {29}, number = {6}, pages = {1310--1320}, year = {2010}
}
@article{fonov2011unbiased,
  title = {Unbiased average age-appropriate atlases for pediatric studies}, author = {Fonov, Vladimir and others},
  journal = {NeuroImage}, volume = {54}, number = {1}, pages = {313--327}, year = {2011}
}"""
