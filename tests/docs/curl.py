"""What pages ask curl for, where a machine has none: ``make test`` needs no more than Python, make and git."""

import argparse
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main() -> None:
    """Send what the options of the real one say, and print the body of the answer."""
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", "--data-binary", dest="data")
    parser.add_argument("url")
    asked = parser.parse_args()
    data = asked.data and (Path(asked.data[1:]).read_bytes() if asked.data[0] == "@" else asked.data.encode())
    headers = dict(one.split(": ", 1) for one in asked.headers)
    request = urllib.request.Request(asked.url, data or None, headers, method=asked.method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        reply = opener.open(request, timeout=20)
    except urllib.error.HTTPError as error:
        reply = error
    with reply:
        sys.stdout.write(reply.read().decode())


if __name__ == "__main__":
    main()
