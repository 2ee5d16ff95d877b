"""Who looks: the name that stands beside what is done here, or why there is none."""

from importlib.util import find_spec
from typing import NamedTuple

import streamlit as st

from dashboards import gate, source, words

_CLAIMS = ("email", "preferred_username", "name", "sub")
"""What a login may tell of a person, the best known first."""


READS_ONLY = (
    "The settings do not say how viewers are known: set dashboard.identity (the header of a proxy, "
    "or a login) and start the dashboard again, see Who acts in docs/dashboard.md."
)


class Viewer(NamedTuple):
    """Who looks. Without a name there is a reason, and perhaps a way to log in."""

    name: str | None
    reason: str = ""
    can_log_in: bool = False


def who() -> str | None:
    """The viewer's name; None for one who may only look."""
    return viewer().name


def viewer() -> Viewer:
    """The viewer of this session, as the settings say that viewers are known."""
    found = source.current()
    told = found.settings.dashboard.identity
    if found.act is None:
        return Viewer(None, READS_ONLY)
    if told.oidc is not None:
        return _logged_in()
    if told.header is None:
        return Viewer(None, READS_ONLY)
    name = gate.viewer_of(st.context.headers.get(gate.VOUCHED))
    if name is None:
        return Viewer(None, f"No trusted proxy names you in the header {told.header}.")
    return Viewer(name)


def _logged_in() -> Viewer:
    if find_spec("authlib") is None:
        return Viewer(None, "The login needs a package: pip install 'recallwatch[oidc]'.")
    told = st.user.to_dict()
    if "is_logged_in" not in told:
        return Viewer(None, "The file of dashboard.identity.oidc has no section [auth].")
    if not told["is_logged_in"]:
        return Viewer(None, "You are not logged in.", can_log_in=True)
    if told.get("email_verified") is False:
        told.pop("email", None)
    said = (words.one_line(str(told[claim])) for claim in _CLAIMS if told.get(claim))
    name = next((each for each in said if each), None)
    return Viewer(name, "" if name else "Your login does not tell who you are.")
