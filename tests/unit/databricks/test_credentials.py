"""A database credential is kept, renewed in time, and asked for once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, TransientError
from lakebase_operator.domain.instance import Credential
from lakebase_operator.external.databricks.credentials import CredentialCache, SingleFlight

START = datetime(2026, 11, 22, tzinfo=UTC)


class Mint:
    """A clock that is moved by hand, and a mint whose credentials live for ``lifetime`` seconds."""

    def __init__(self, lifetime: float | None) -> None:
        self.lifetime = lifetime
        self.time = START
        self.minted = 0
        self.error: LakebaseError | None = None
        self.cache = CredentialCache(self.mint, now=lambda: self.time)

    async def mint(self) -> Credential:
        await asyncio.sleep(0)
        self.minted += 1
        if self.error is not None:
            raise self.error
        expires = None if self.lifetime is None else self.time + timedelta(seconds=self.lifetime)
        return Credential("app", f"token-{self.minted}", expires)

    def pass_time(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    async def token(self, *, fresh: bool = False) -> str:
        return (await self.cache.get(fresh=fresh)).password


@pytest.mark.requirement("R-40")
@pytest.mark.parametrize(
    ("lifetime", "kept_until"),
    [(3600, 3000), (1200, 600), (600, 300), (60, 30), (2, 1)],
)
async def test_a_credential_is_kept_until_ten_minutes_or_half_its_life_are_left(
    lifetime: float, kept_until: float
) -> None:
    mint = Mint(lifetime)
    assert await mint.token() == "token-1"
    mint.pass_time(kept_until - 0.1)
    assert await mint.token() == "token-1"
    mint.pass_time(0.1)
    assert await mint.token() == "token-2"
    assert mint.minted == 2


@pytest.mark.requirement("R-40")
async def test_for_two_hours_of_one_minute_tokens_none_handed_out_is_ever_expired() -> None:
    mint = Mint(60)
    for _ in range(2 * 60 * 60 // 7):
        credential = await mint.cache.get()
        assert credential.expires_at is not None
        assert credential.expires_at - mint.time > timedelta(seconds=29)
        mint.pass_time(7)
    assert 2 * 60 <= mint.minted <= 2 * 60 * 2


async def test_a_token_that_comes_expired_is_not_kept() -> None:
    mint = Mint(-5)
    assert [await mint.token(), await mint.token()] == ["token-1", "token-2"]


async def test_a_credential_without_expiry_is_kept() -> None:
    mint = Mint(None)
    assert await mint.token() == "token-1"
    mint.pass_time(10**8)
    assert await mint.token() == "token-1"


@pytest.mark.requirement("R-40")
async def test_callers_at_the_same_time_share_one_request() -> None:
    mint = Mint(3600)
    assert set(await asyncio.gather(*(mint.token() for _ in range(50)))) == {"token-1"}
    assert set(await asyncio.gather(*(mint.token(fresh=True) for _ in range(50)))) == {"token-2"}
    assert mint.minted == 2


@pytest.mark.requirement("R-41")
async def test_a_fresh_one_is_new_and_is_kept_from_then_on() -> None:
    mint = Mint(3600)
    assert await mint.token() == "token-1"
    assert await mint.token(fresh=True) == "token-2"
    assert await mint.token() == "token-2"


@pytest.mark.requirement("R-41")
async def test_a_fresh_one_that_cannot_be_had_is_an_error() -> None:
    mint = Mint(3600)
    await mint.token()
    mint.error = TransientError(Reason.CONTROL_PLANE_ERROR, "down")
    with pytest.raises(TransientError):
        await mint.token(fresh=True)


@pytest.mark.requirement("R-40")
async def test_while_renewing_fails_the_old_one_is_used_as_long_as_it_is_valid() -> None:
    mint = Mint(3600)
    await mint.token()
    mint.error = TransientError(Reason.CONTROL_PLANE_UNREACHABLE, "down")
    mint.pass_time(3001)
    assert await mint.token() == "token-1"
    tries = mint.minted
    assert await mint.token() == "token-1"
    assert mint.minted == tries, "asked again at once"
    mint.pass_time(31)
    assert await mint.token() == "token-1"
    assert mint.minted == tries + 1
    mint.pass_time(600)
    with pytest.raises(TransientError):
        await mint.token()
    mint.error = None
    assert (await mint.token()).startswith("token-")


async def test_a_withdrawn_right_is_not_hidden_by_the_old_one() -> None:
    mint = Mint(3600)
    await mint.token()
    mint.error = InvalidError(Reason.CONTROL_PLANE_DENIED, "no right")
    mint.pass_time(3001)
    with pytest.raises(InvalidError):
        await mint.token()


async def test_a_caller_that_gives_up_does_not_spoil_it_for_the_others() -> None:
    go = asyncio.Event()

    async def work() -> str:
        await go.wait()
        return "done"

    flight = SingleFlight(work)
    impatient, patient = asyncio.create_task(flight()), asyncio.create_task(flight())
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    go.set()
    assert await patient == "done"


async def test_an_error_is_shared_but_not_kept() -> None:
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        if runs == 1:
            raise TransientError(Reason.CONTROL_PLANE_ERROR, "down")
        return runs

    flight = SingleFlight(work)
    first = await asyncio.gather(flight(), flight(), return_exceptions=True)
    assert [type(result) for result in first] == [TransientError, TransientError]
    assert await flight() == 2


@pytest.mark.requirement("R-40")
def test_a_credential_shows_no_password() -> None:
    assert "token-1" not in repr(Credential("app", "token-1", START))
