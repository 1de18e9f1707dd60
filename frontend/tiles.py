"""A grid of small pictures that people open, tick or answer; the browser draws it in one go, however many there are."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import streamlit as st
from streamlit import runtime

_STATIC = Path(__file__).parent / "static"
_grid = st.components.v2.component(
    "tiles",
    html="<ul></ul>",
    css=(_STATIC / "tiles.css").read_text(),
    js=(_STATIC / "tiles.js").read_text(),
)


@dataclass(frozen=True)
class Tile:
    """A picture, what stands under it, and what can be said about it.

    Attributes:
        id: names it in events.
        picture: encoded; None when it cannot be shown.
        alt_text: what a screen reader says of it.
        title: what stands under it, as plain text.
        note: what stands under the title.
        choices: answers, of which a click chooses one.
    """

    id: str
    picture: bytes | None
    alt_text: str
    title: str = ""
    note: str = ""
    choices: Sequence[str] = ()


def tiles(
    items: Sequence[Tile],
    key: str,
    look_at: Callable[[str], None] | None = None,
    choose: Callable[[str, str], None] | None = None,
) -> None:
    """Draw pictures; a click on one calls `look_at` with its id, a click on a choice `choose` with both."""

    def opened() -> None:
        if look_at and (tile := st.session_state[_key(key)].opened):
            look_at(tile)

    def chosen() -> None:
        if choose and (answer := st.session_state[_key(key)].chosen):
            choose(*answer)

    _draw(items, key, {"opens": look_at is not None}, on_opened_change=opened, on_chosen_change=chosen)


def tickable_tiles(items: Sequence[Tile], key: str, ticked: Collection[str], on_tick: Callable[[], None]) -> None:
    """Draw pictures that can be ticked, some of them ticked at first; `ticked_of` says which are."""
    options: dict[str, object] = {"ticked": list(ticked), "toggled": _toggled(key)}
    _draw(items, key, options, default={"toggled": []}, on_toggled_change=on_tick)


def ticked_of(key: str, at_first: Collection[str]) -> set[str]:
    """The ids of the tiles that are ticked, and of some that are no longer shown."""
    return set(at_first) ^ set(_toggled(key))


def _toggled(key: str) -> list[str]:
    state = st.session_state.get(_key(key))
    return list(state.toggled) if state else []


def _draw(items: Sequence[Tile], key: str, options: dict[str, object], **events: object) -> None:
    rows = [asdict(item) | {"picture": _address(item.picture, f"{key}-{item.id}")} for item in items]
    with st.container(key=f"tiles-{key}"):
        _grid(key=_key(key), data={"tiles": rows, **options}, **events)  # type: ignore[arg-type]


def _key(key: str) -> str:
    return f"grid-{key}"


def _address(picture: bytes | None, place: str) -> str | None:
    """Where the browser finds a picture, as for `st.image`; a grid that is drawn again does not send it again."""
    if picture is None:
        return None
    base = st.get_option("server.baseUrlPath").strip("/")
    return (f"/{base}" if base else "") + runtime.get_instance().media_file_mgr.add(picture, "image/jpeg", place)
