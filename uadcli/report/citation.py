"""The works behind the methods and the scores, as BibTeX; each method and score names its own by their keys."""

from __future__ import annotations

from collections.abc import Iterable

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
@inproceedings{he2024diad,
  title = {A Diffusion-Based Framework for Multi-Class Anomaly Detection},
  author = {He, Haoyang and Zhang, Jiangning and Chen, Hongxu and Chen, Xuhai and Li, Zhishan and Chen, Xu and
            Wang, Yabiao and Wang, Chengjie and Xie, Lei},
  booktitle = {AAAI Conference on Artificial Intelligence}, volume = {38}, year = {2024}, note = {arXiv:2312.06607}
}
@inproceedings{marimont2024disyre,
  title = {{DISYRE}: Diffusion-Inspired {SYnthetic} {REstoration} for Unsupervised Anomaly Detection},
  author = {Naval Marimont, Sergio and others}, booktitle = {ISBI}, year = {2024}
}
@article{wang2004image,
  title = {Image Quality Assessment: From Error Visibility to Structural Similarity},
  author = {Wang, Zhou and Bovik, Alan C. and Sheikh, Hamid R. and Simoncelli, Eero P.},
  journal = {IEEE Transactions on Image Processing}, volume = {13}, number = {4}, pages = {600--612}, year = {2004}
}
@book{fisher1932statistical,
  title = {Statistical Methods for Research Workers}, author = {Fisher, Ronald A.}, edition = {Fourth},
  publisher = {Oliver and Boyd}, address = {Edinburgh}, year = {1932}
}
@article{good1955weighted,
  title = {On the Weighted Combination of Significance Tests}, author = {Good, I. J.},
  journal = {Journal of the Royal Statistical Society: Series B}, volume = {17}, number = {2}, pages = {264--265},
  year = {1955}
}
@inproceedings{ho2020denoising,
  title = {Denoising Diffusion Probabilistic Models}, author = {Ho, Jonathan and Jain, Ajay and Abbeel, Pieter},
  booktitle = {Advances in Neural Information Processing Systems}, volume = {33}, year = {2020},
  note = {arXiv:2006.11239}
}
@inproceedings{wyatt2022anoddpm,
  title = {{AnoDDPM}: Anomaly Detection with Denoising Diffusion Probabilistic Models using Simplex Noise},
  author = {Wyatt, Julian and Leach, Adam and Schmon, Sebastian M. and Willcocks, Chris G.},
  booktitle = {CVPR Workshops}, year = {2022}
}
@inproceedings{behrendt2023patched,
  title = {Patched Diffusion Models for Unsupervised Anomaly Detection in Brain {MRI}},
  author = {Behrendt, Finn and Bhattacharya, Debayan and Kr{\"u}ger, Julia and Opfer, Roland and Schlaefer, Alexander},
  booktitle = {Medical Imaging with Deep Learning}, year = {2023}, note = {arXiv:2303.03758}
}
@inproceedings{kascenas2022denoising,
  title = {Denoising Autoencoders for Unsupervised Anomaly Detection in Brain {MRI}},
  author = {Kascenas, Antanas and Pugeault, Nicolas and O'Neil, Alison Q.},
  booktitle = {Medical Imaging with Deep Learning}, year = {2022}
}
@article{kascenas2023role,
  title = {The role of noise in denoising models for anomaly detection in medical images},
  author = {Kascenas, Antanas and others}, journal = {Medical Image Analysis}, volume = {90}, pages = {102963},
  year = {2023}, note = {arXiv:2301.08330}
}
@misc{xu2024maediff,
  title = {{MAEDiff}: Masked Autoencoder-enhanced Diffusion Models for Unsupervised Anomaly Detection in Brain Images},
  author = {Xu, Rui and Wang, Yunke and Du, Bo}, year = {2024}, note = {arXiv:2401.10561}
}
@misc{bi2024synomaly,
  title = {Synomaly Noise and Multi-Stage Diffusion: A Novel Approach for Unsupervised Anomaly Detection in Medical
           Images},
  author = {Bi, Yuan and Huang, Lucie and Clarenbach, Ricarda and Ghotbi, Reza and Karlas, Angelos and Navab, Nassir and
            Jiang, Zhongliang},
  year = {2024}, note = {arXiv:2411.04004}
}
@article{fontanella2024diffusion,
  title = {Diffusion Models for Counterfactual Generation and Anomaly Detection in Brain Images},
  author = {Fontanella, Alessandro and Mair, Grant and Wardlaw, Joanna and Trucco, Emanuele and Storkey, Amos},
  journal = {IEEE Transactions on Medical Imaging}, year = {2024}, note = {arXiv:2308.02062}
}
@inproceedings{song2021denoising,
  title = {Denoising Diffusion Implicit Models}, author = {Song, Jiaming and Meng, Chenlin and Ermon, Stefano},
  booktitle = {International Conference on Learning Representations}, year = {2021}, note = {arXiv:2010.02502}
}
@inproceedings{du2023arsdm,
  title = {{ArSDM}: Colonoscopy Images Synthesis with Adaptive Refinement Semantic Diffusion Models},
  author = {Du, Yuhao and Jiang, Yuncheng and Tan, Shuangyi and Wu, Xusheng and Dou, Qi and Li, Zhen and Li, Guanbin and
            Wan, Xiang},
  booktitle = {MICCAI}, year = {2023}, note = {arXiv:2309.01111}
}
@inproceedings{han2024instabilities,
  title = {On Instabilities of Unsupervised Denoising Diffusion Models in Magnetic Resonance Imaging Reconstruction},
  author = {Han, Tianyu and Nebelung, Sven and Khader, Firas and Kather, Jakob Nikolas and Truhn, Daniel},
  booktitle = {MICCAI}, year = {2024}, note = {arXiv:2406.16983}
}
@inproceedings{yeganeh2025latent,
  title = {Latent Drifting in Diffusion Models for Counterfactual Medical Image Synthesis},
  author = {Yeganeh, Yousef and Farshad, Azade and Charisiadis, Ioannis and Hasny, Marta and Hartenberger, Martin and
            Ommer, Bj{\"o}rn and Navab, Nassir and Adeli, Ehsan},
  booktitle = {CVPR}, year = {2025}, note = {arXiv:2412.20651}
}
@article{barbano2025steerable,
  title = {Steerable Conditional Diffusion for Out-of-Distribution Adaptation in Medical Image Reconstruction},
  author = {Barbano, Riccardo and Denker, Alexander and Chung, Hyungjin and Roh, Tae Hoon and Arridge, Simon and
            Maass, Peter and Jin, Bangti and Ye, Jong Chul},
  journal = {IEEE Transactions on Medical Imaging}, year = {2025}, note = {arXiv:2308.14409}
}
@misc{shubin2021variance,
  title = {About Explicit Variance Minimization: Training Neural Networks for Medical Imaging With Limited Data
           Annotations},
  author = {Shubin, Dmitrii and Eytan, Danny and Goodfellow, Sebastian D.}, year = {2021}, note = {arXiv:2105.14117}
}
@misc{zhang2024hand,
  title = {Unsupervised Hybrid framework for {ANomaly} Detection ({HAND}) -- applied to Screening Mammogram},
  author = {Zhang, Zhemin and Patel, Bhavika and Patel, Bhavik and Banerjee, Imon}, year = {2024},
  note = {arXiv:2409.11534}
}
@inproceedings{kingma2014auto,
  title = {Auto-Encoding Variational {Bayes}}, author = {Kingma, Diederik P. and Welling, Max},
  booktitle = {International Conference on Learning Representations}, year = {2014}, note = {arXiv:1312.6114}
}
@article{baur2021autoencoders,
  title = {Autoencoders for unsupervised anomaly segmentation in brain {MR} images: A comparative study},
  author = {Baur, Christoph and others}, journal = {Medical Image Analysis}, volume = {69}, pages = {101952},
  year = {2021}
}
@misc{albu2020improved,
  title = {Improved Slice-wise Tumour Detection in Brain {MRIs} by Computing Dissimilarities between Latent
           Representations},
  author = {Albu, Alexandra and Enescu, Alina and Malag{\`o}, Luigi}, year = {2020}, note = {arXiv:2007.12528}
}
@article{billot2023synthseg,
  title = {{SynthSeg}: Segmentation of brain {MRI} scans of any contrast and resolution without retraining},
  author = {Billot, Benjamin and others}, journal = {Medical Image Analysis}, volume = {86}, pages = {102789},
  year = {2023}
}
@article{he2013guided,
  title = {Guided Image Filtering}, author = {He, Kaiming and Sun, Jian and Tang, Xiaoou},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence}, volume = {35}, number = {6},
  pages = {1397--1409}, year = {2013}
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


def bibtex(works: Iterable[str] | None = None, behind: str = "it") -> str:
    """All works as BibTeX, or those with the given keys, each once; a comment that names `behind` if there are none."""
    if works is None:
        return BIBTEX
    entries = {entry.split("{", 1)[1].split(",", 1)[0]: entry for entry in BIBTEX.split("\n@")}
    found = "\n".join("@" + entries[key].lstrip("@") for key in dict.fromkeys(works))
    return found or f"% No work but this project is behind {behind}."
