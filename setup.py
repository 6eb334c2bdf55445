"""The repository root is the package: list its subpackages by looking, so that no new one is forgotten in a wheel."""

from setuptools import find_packages, setup

ROOMS = ("app", "engine", "remote", "widgets", "recipes")
PACKAGES = ["wavedeck", "wavedeck.assets"]
PACKAGES += [f"wavedeck.{name}" for name in find_packages(".") if name.split(".")[0] in ROOMS]

setup(
    package_dir={"wavedeck": "."},
    packages=PACKAGES,
    include_package_data=False,
    package_data={
        "wavedeck": ["py.typed"],
        "wavedeck.assets": ["*.tcss", "*.lock", "*.css", "*.js"],
        "wavedeck.remote.payload": ["*.sh"],
        **{name: ["*.csv", "*.md"] for name in PACKAGES if name.startswith("wavedeck.recipes.")},
    },
)
