"""An HTTP/1.1 server for any Tornado application, on asyncio and llhttp."""
