"""A forward proxy as a process: `python forward_proxy.py PORT` connects every host to this port.

It prints its own port, and then one line per request: the request line and, if present,
Proxy-Authorization.
"""

import asyncio
import sys


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction of a tunnel."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main(target: int) -> None:
    """Serve until the process is ended."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *headers = head.decode().split("\r\n")
        credentials = [h for h in headers if h.lower().startswith("proxy-authorization")]
        print(line, *credentials, flush=True)  # noqa: T201  # for the test
        if "refused.example" in line:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        upstream, downstream = await asyncio.open_connection("127.0.0.1", target)
        if line.startswith("CONNECT"):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:  # absolute form; the key server reads the path only
            _, url, _ = line.split(" ")
            path = "/" + url.split("/", 3)[3]
            downstream.write(head.replace(url.encode(), path.encode(), 1))
        await asyncio.gather(pipe(reader, downstream), pipe(upstream, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201  # for the test
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
