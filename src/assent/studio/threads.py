"""Threads for calls that wait for the store: enough that many people's leases enter one group commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
_STORE = ThreadPoolExecutor(48, thread_name_prefix="studio-store")


async def in_thread(call: Callable[Parameters, Result], *given: Parameters.args, **named: Parameters.kwargs) -> Result:
    """What `call` returns, without the event loop waiting for it."""
    return await asyncio.get_running_loop().run_in_executor(_STORE, lambda: call(*given, **named))
