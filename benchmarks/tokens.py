"""The cost of verifying a token: by PyJWT alone, the first time, and from the cache."""

import asyncio
import time
from argparse import ArgumentParser
from collections.abc import Callable
from statistics import median

import jwt

from tests.support.tokens import AUDIENCE, ISSUER, make_token, private_key, public_jwk
from tornado_members.auth.key_set import parse_key_set
from tornado_members.auth.keys import FixedKeys
from tornado_members.auth.tokens import TokenVerifier
from tornado_members.settings import Auth

ALGORITHMS = ("RS256", "ES256", "EdDSA")
TOKENS = 500
ROUNDS = 7


def microseconds(work: Callable[[], None], count: int) -> float:
    """Return the median time of one of `count` steps of `work`, over some rounds."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) / count * 1e6)
    return median(times)


def measure(algorithm: str) -> tuple[float, float, float]:
    """Return microseconds per token: PyJWT, the first time, from the cache."""
    auth = Auth.model_validate({"issuers": [{"issuer": ISSUER, "audience": AUDIENCE}]})
    keys = FixedKeys(parse_key_set([public_jwk(algorithm)], ISSUER))
    tokens = [make_token(algorithm, access_rights=1) for _ in range(TOKENS)]
    public = private_key(algorithm).public_key()

    def by_pyjwt() -> None:
        for token in tokens:
            jwt.decode(token, public, [algorithm], audience=AUDIENCE, issuer=ISSUER)

    async def verify(verifier: TokenVerifier, times: int) -> None:
        for token in tokens:
            for _ in range(times):
                await verifier.verify(token)

    def first() -> None:
        asyncio.run(verify(TokenVerifier(auth, {ISSUER: keys}), 1))

    known = TokenVerifier(auth, {ISSUER: keys})
    asyncio.run(verify(known, 1))

    def remembered() -> None:
        asyncio.run(verify(known, 20))

    return (
        microseconds(by_pyjwt, TOKENS),
        microseconds(first, TOKENS),
        microseconds(remembered, TOKENS * 20),
    )


def main() -> None:
    """Print one line per algorithm."""
    ArgumentParser(prog="scripts/bench tokens", description=__doc__).parse_args()
    print("microseconds per token  PyJWT  first  remembered  PyJWT/remembered")
    for algorithm in ALGORITHMS:
        by_pyjwt, first, remembered = measure(algorithm)
        ratio = by_pyjwt / remembered
        print(f"{algorithm:20} {by_pyjwt:6.1f} {first:6.1f} {remembered:11.2f} {ratio:17.0f}")


if __name__ == "__main__":
    main()
