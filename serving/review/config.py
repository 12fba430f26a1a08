"""How the review desk works: section `review` of `configs/serve.yaml`. Everything has a default."""

from __future__ import annotations

from pydantic import Field

from pipeline.config import Config
from serving.security.rates import RateConfig


class SignInConfig(Config):
    """How long a session lasts, and what guessing passwords may cost."""

    idle_minutes: float = Field(default=60, gt=0, description="after the last request")
    hours: float = Field(default=12, gt=0, description="after the sign-in, whatever happens")
    threads: int = Field(default=2, ge=1, description="argon2 runs at a time, 19 MiB each")
    waiting: int = Field(default=16, ge=1, description="argon2 runs that may wait or run")
    attempts: RateConfig = Field(
        default=RateConfig(per_second=0.05, burst=10, callers=4096), description="wrong passwords, of one address"
    )
    attempts_on: RateConfig = Field(
        default=RateConfig(per_second=0.05, burst=10, callers=4096), description="wrong passwords, for one name"
    )


class SamplingConfig(Config):
    """Which conversations are looked at so that precision and recall can be estimated; shares are of a day's."""

    flagged: float = Field(default=0.2, ge=0, le=1, description="of those that were flagged")
    random: float = Field(default=0.01, ge=0, le=1, description="of those that were not")
    uncertain: float = Field(
        default=0.2, ge=0, le=1, description="of those that were nearly flagged; the calmer, the less"
    )
    settle_hours: float = Field(default=24, ge=0, description="after its end a day is drawn from")
    salt: str = Field(default="", max_length=100, description="another one draws other conversations")
    every_s: float = Field(default=600, gt=0)


class ReviewConfig(Config):
    """The desk."""

    second_share: float = Field(default=0.1, ge=0, le=1, description="of first verdicts that a second is asked for")
    sign_in: SignInConfig = SignInConfig()
    sampling: SamplingConfig = SamplingConfig()
