"""Energy per route of an asyncio server, where many requests share one thread.

Each handler is tracked: a request is billed for the CPU time of its own steps, not for
the time it waits or for what other requests do meanwhile. Below about 0.3 s a single
request is mostly uncertainty; the sum per route is the figure to look at.
"""

from __future__ import annotations

import asyncio

from carbon_ops import EnergyLogger

REQUESTS = 20
logger = EnergyLogger()


@logger.track("GET /work")
async def work() -> str:
    total = 0
    for part in range(5):
        total += sum(i * part for i in range(60_000))
        await asyncio.sleep(0)  # others run here, and are not ours to pay for
    return str(total)


@logger.track("GET /wait")
async def wait() -> str:
    await asyncio.sleep(0.2)
    return "done"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = (await reader.readline()).decode().strip()
    answer = await (work() if path == "/work" else wait())
    writer.write(answer.encode() + b"\n")
    await writer.drain()
    writer.close()


async def ask(port: int, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(path.encode() + b"\n")
    await reader.readline()
    writer.close()
    await writer.wait_closed()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        await asyncio.gather(
            *(ask(port, path) for _ in range(REQUESTS) for path in ("/work", "/wait"))
        )
    cpu = {"GET /work": 0.0, "GET /wait": 0.0}
    for metric in logger.metrics:
        cpu[metric["operation"]] += metric["cpu"]["process_s"]
    for route, row in logger.summary().items():
        print(
            f"{route}: {row['calls']} requests, {cpu[route]:.3f} s of CPU, "
            f"{row['joules']:.2f} J, each {row['p50_s']:.2f} s (median)"
        )
    last = logger.metrics[-1]["energy"]
    print(f"source: {last['components']['cpu']['source']}, reason: {last['reason']}")
    logger.close()


if __name__ == "__main__":
    asyncio.run(main())
