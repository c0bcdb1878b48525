"""Things that go on beside a story."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from e2e.world import PAUSE_SECONDS, World

LOG_SECONDS = 60


@contextmanager
def repeating(action: Callable[[], object]) -> Iterator[None]:
    """Something is done again and again, within; its failure is the story's."""
    over, failures = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            while not over.wait(PAUSE_SECONDS):
                action()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


@contextmanager
def followed(world: World, names: set[str]) -> Iterator[dict[str, str]]:
    """Yield the output of pods until they end, complete after the block, which has to end them."""
    said: dict[str, str] = {}
    with ExitStack() as stack:
        processes = {}
        for name in sorted(names):
            command = world.cluster.command("-n", world.namespace, "logs", "-f", name)
            process = subprocess.Popen(
                command, env=world.cluster.env, stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.kill)
            processes[name] = process
        yield said
        for name, process in processes.items():
            said[name] = process.communicate(timeout=LOG_SECONDS)[0]
