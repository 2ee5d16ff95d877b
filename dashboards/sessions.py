"""How many look at this dashboard: the sessions of this process that are connected."""

from streamlit import runtime
from streamlit.runtime.stats import ACTIVE_SESSIONS_FAMILY, GaugeStat


def open_now() -> int | None:
    """Browser tabs that are connected, the viewer's own among them; None outside a server."""
    if not runtime.exists():
        return None
    found = runtime.get_instance().stats_mgr.get_stats([ACTIVE_SESSIONS_FAMILY])
    gauges = found.get(ACTIVE_SESSIONS_FAMILY, ())
    return sum(gauge.value for gauge in gauges if isinstance(gauge, GaugeStat))


def told(sessions: int) -> str:
    """The number in words.

    >>> told(1), told(2)
    ('This is the only open view of this dashboard', '2 views of this dashboard are open')
    """
    if sessions == 1:
        return "This is the only open view of this dashboard"
    return f"{sessions} views of this dashboard are open"
