"""Ask the admin listener of the service in this container; the exit code is the answer.

healthcheck.py /livez    whether it should be restarted
healthcheck.py /readyz   whether it should be sent requests
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

SECONDS = 4


def main(path: str) -> int:
    """0 if the answer is a 200, else 1."""
    port = int(os.environ.get("MEMBERS_ADMIN__PORT", "8889"))
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        sys.stdout.write(answer.read(4096).decode("utf-8", "replace"))
    except (OSError, HTTPException) as error:
        sys.stdout.write(f"{path} does not answer: {error}\n")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
