"""What rented machines are called and cost: the flavors of Hugging Face Jobs, and how long a job takes to start.

A price list ages. This one carries its date wherever it is shown, and the provider's own page is named beside it; a
`price_per_hour` in `hosts.toml` or `--price` on the command line is always believed instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UsageError, suggestion

PRICES_OF = "2026-08-21"
"""The day the list below was read from the provider's own documentation (hub-docs, jobs-pricing)."""
PRICE_PAGE = "`hf jobs hardware` prints today's"
BILLED_BY_S = 60.0
"""Jobs are billed by the minute, from the moment the machine starts."""
JOB_START_S = (90.0, 480.0)
"""From the start of the machine to the first step: image, five gigabytes of packages, the wheel. Least and most; a
guess until a job of one's own was measured."""


@dataclass(frozen=True, slots=True)
class Flavor:
    """One kind of machine. `price` is in US dollars an hour; memory in GB as the provider counts them."""

    name: str
    gpu: str | None
    gpus: int
    gpu_memory_gb: int
    cores: int
    memory_gb: int
    disk_gb: int
    price: float

    @property
    def words(self) -> str:
        """`a10g-small: 1 × A10G, 24 GB, 4 cores, $1.00/h`."""
        card = f"{self.gpus} × {self.gpu}, {self.gpu_memory_gb} GB, " if self.gpu else ""
        return f"{self.name}: {card}{self.cores} cores, ${self.price:.2f}/h"


FLAVORS = {
    flavor.name: flavor
    for flavor in (
        Flavor("cpu-basic", None, 0, 0, 2, 16, 50, 0.01),
        Flavor("cpu-upgrade", None, 0, 0, 8, 32, 50, 0.03),
        Flavor("cpu-xl", None, 0, 0, 16, 124, 1000, 1.00),
        Flavor("cpu-performance", None, 0, 0, 32, 256, 1024, 1.90),
        Flavor("t4-small", "T4", 1, 16, 4, 15, 50, 0.40),
        Flavor("t4-medium", "T4", 1, 16, 8, 30, 100, 0.60),
        Flavor("l4x1", "L4", 1, 24, 8, 30, 400, 0.80),
        Flavor("l4x4", "L4", 4, 96, 48, 186, 3200, 3.80),
        Flavor("l40sx1", "L40S", 1, 48, 8, 62, 380, 1.80),
        Flavor("l40sx4", "L40S", 4, 192, 48, 382, 3200, 8.30),
        Flavor("l40sx8", "L40S", 8, 384, 192, 1534, 6500, 23.50),
        Flavor("a10g-small", "A10G", 1, 24, 4, 15, 110, 1.00),
        Flavor("a10g-large", "A10G", 1, 24, 12, 46, 200, 1.50),
        Flavor("a10g-largex2", "A10G", 2, 48, 24, 92, 1000, 3.00),
        Flavor("a10g-largex4", "A10G", 4, 96, 48, 184, 2000, 5.00),
        Flavor("a100-large", "A100", 1, 80, 12, 142, 1000, 2.50),
        Flavor("a100x4", "A100", 4, 320, 48, 568, 4000, 10.00),
        Flavor("a100x8", "A100", 8, 640, 96, 1136, 8000, 20.00),
        Flavor("h200", "H200", 1, 141, 23, 256, 3000, 5.00),
        Flavor("h200x2", "H200", 2, 282, 46, 512, 6000, 10.00),
        Flavor("h200x4", "H200", 4, 564, 92, 1024, 12000, 20.00),
        Flavor("h200x8", "H200", 8, 1128, 184, 2048, 24000, 40.00),
        Flavor("rtx-pro-6000", "RTX PRO 6000", 1, 96, 23, 256, 475, 2.75),
        Flavor("rtx-pro-6000x2", "RTX PRO 6000", 2, 192, 46, 512, 950, 5.50),
        Flavor("rtx-pro-6000x4", "RTX PRO 6000", 4, 384, 92, 1024, 1900, 11.00),
        Flavor("rtx-pro-6000x8", "RTX PRO 6000", 8, 768, 184, 2048, 3800, 22.00),
    )
}
DEFAULT_FLAVOR = "a10g-small"
JOBS_PLATFORM = "hf_jobs_"
"""How the `platform` options that are meant for these machines begin; what follows names the GPU."""


def find_flavor(name: str) -> Flavor:
    """The flavor called `name`.

    Raises
    ------
    UsageError: there is none; the nearest are named.
    """
    flavor = FLAVORS.get(name)
    if flavor is None:
        hint = suggestion(name, FLAVORS) or f" There are {', '.join(FLAVORS)}."
        raise UsageError(f"there is no flavor {name!r} in the price list of {PRICES_OF}.{hint}")
    return flavor


def flavor_of_platform(platform: str | None) -> Flavor | None:
    """The cheapest flavor a `platform=hf_jobs_a10g` is meant for; None for a platform that is no job's."""
    if not platform or not platform.startswith(JOBS_PLATFORM):
        return None
    wanted = platform.removeprefix(JOBS_PLATFORM).replace("_", " ").lower()
    fitting = [flavor for flavor in FLAVORS.values() if flavor.gpu and flavor.gpu.lower() == wanted]
    return min(fitting, key=lambda flavor: flavor.price, default=None)
