"""The package brings the files of ``conf/`` and ``sweeps/`` along, inside (`emo.core.home`)."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["emo*"]), "emo.conf", "emo.presets", "hydra_plugins"],
    package_dir={"emo.conf": "conf", "emo.presets": "sweeps"},
)
