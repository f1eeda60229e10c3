"""The one place of the API that catches everything, so that no traceback and no detail gets out."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openaperture.manager.refusals import refuse_failure
from openaperture.ports import Observer


class Boundary:
    """Middleware: an unexpected failure is told to the observer and answered with one sentence."""

    def __init__(self, app: ASGIApp, *, observer: Observer | None) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as exc:
            if self._observer is not None:
                self._observer.emit("manager.failed", method=scope["method"], path=scope["path"], error=exc)
            if begun:
                # Too late for another answer: the server breaks the connection off.
                raise
            await refuse_failure()(scope, receive, send)
