"""Probe the admin listener of the service in this container, and exit with 0 on a 200.

healthcheck.py /livez    fails if the service should be restarted
healthcheck.py /readyz   fails if the service should receive no requests
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

SECONDS = 4


def main(path: str) -> int:
    """Return 0 if the response is a 200, else 1."""
    port = int(os.environ.get("MEMBERS_ADMIN__PORT", "8889"))
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        sys.stdout.write(response.read(4096).decode("utf-8", "replace"))
    except (OSError, HTTPException) as error:
        sys.stdout.write(f"{path} does not respond: {error}\n")
        return 1
    finally:
        connection.close()
    return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
