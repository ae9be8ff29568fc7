"""Puts large values into claims, for a parent that kills it or starts two of them."""

import random
import sys
from hashlib import sha256

from beluga_graph.temporal.claims.claims import open_claims

SIZE = 2_000_000


def value_of(index: int) -> bytes:
    """Return the value of an index: the same in each process."""
    return random.Random(index).randbytes(SIZE)


def main() -> None:
    """Put the values in order; print each index when its value is stored."""
    place, count = sys.argv[1], int(sys.argv[2])
    claims = open_claims(place)
    assert claims is not None
    values = [value_of(index) for index in range(min(count, 8))]
    print("ready", flush=True)
    sys.stdin.readline()
    for index in range(count):
        data = values[index] if index < len(values) else value_of(index)
        claims.put(sha256(data).digest(), data)
        print(index, flush=True)
    claims.close()


if __name__ == "__main__":
    main()
