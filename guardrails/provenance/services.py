"""Keys behind a function: what a KMS or HSM client does is slow, remote, and fails in its own ways."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Call:
    """One signature by a key service, with a time limit; what went wrong is kept.

    The SDK calls this from native code, which cannot carry an exception: it only says that the signature is invalid.

    Attributes:
        seconds: to wait; a call that hangs is left behind in a daemon thread.
        fault: what the service raised, or the time-out; None while all is well.
    """

    service: Callable[[bytes], bytes]
    seconds: float
    fault: BaseException | None = field(default=None, init=False)

    def __call__(self, data: bytes) -> bytes:
        """The signature.

        Raises:
            TimeoutError: no answer in time.
            TypeError: an answer that is not bytes.
            Exception: whatever the service raised.
        """
        answers: list[bytes] = []
        # With the context of the caller, so that what the service does belongs to the same trace.
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(self._run, data, answers), daemon=True)
        thread.start()
        thread.join(self.seconds)
        if self.fault is None and not answers:
            self.fault = TimeoutError(f"no signature within {self.seconds:g} s")
        if self.fault is not None:
            raise self.fault
        return answers[0]

    def _run(self, data: bytes, answers: list[bytes]) -> None:
        try:
            answer = self.service(data)
            if not isinstance(answer, bytes):
                raise TypeError(f"the key service gave {type(answer).__name__} instead of bytes")
            answers.append(answer)
        except BaseException as error:  # it belongs to another thread, where it would be lost
            self.fault = self.fault or error
