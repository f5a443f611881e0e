"""SIGHUP: the configuration is read again, and what can change while connections live is put in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.app.parts import Parts
from proxy.authentication import Authenticator
from proxy.caller_settings import problems_with
from proxy.events import configure_logging
from proxy.settings import Settings, SettingsError, differences, exposed
from proxy.tls import Tls


@dataclass(slots=True)
class Reloading:
    """Puts new settings in force. `read` reads them; `settings`: those in force."""

    settings: Settings
    read: Callable[[], Settings]
    parts: Parts
    tls: Tls
    authenticator: Authenticator

    def reload(self) -> None:
        """Read all again; where something of it cannot be used, everything stays as it was, and is told.

        What needs a restart is told too, and stays. A refused password may be tried again.
        """
        before, events = self.settings, self.parts.events
        try:
            wanted = self.read()
            self._put_in_force(_reloadable(before, wanted))
        except SettingsError as error:
            events.proxy_reloaded(problems=error.problems)
        else:
            events.proxy_reloaded(
                changed=[*differences(before, self.settings)],
                need_restart=[*differences(self.settings, wanted)],
            )
        for gate in self.parts.upstream.gates:
            gate.forget()

    def _put_in_force(self, settings: Settings) -> None:
        """Raises SettingsError, and then nothing has changed."""
        parts = self.parts
        wrong = [
            *exposed(settings),
            *problems_with(settings.callers, parts.metadata.model, settings.models),
        ]
        if wrong:
            raise SettingsError(wrong)
        self.tls.reload(settings)
        self.authenticator.use(settings.callers)
        parts.sets.policies = settings.policies()
        if settings.log != self.settings.log:
            configure_logging(settings.log.level, settings.log.format)
        self.settings = settings


def _reloadable(before: Settings, after: Settings) -> Settings:
    """The settings in force after a reload: `after`'s, as far as they can be put in force."""
    changed = {name: getattr(after, name) for name in ("callers", "defaults", "log", "sets")}
    if bool(before.tls.certificate) == bool(after.tls.certificate):  # listeners speak TLS, or do not
        changed["tls"] = after.tls
    changed["upstream"] = before.upstream.model_copy(update={"tls": after.upstream.tls})
    return before.model_copy(update=changed)
