"""Charts, each with a text for screen readers."""

from collections.abc import Sequence

import altair as alt
import pandas as pd
import streamlit as st

from client import Row
from components import percent

_ACCENT = "#3a8fb0"  # legible on light and on dark backgrounds
_TEXT = {False: "#4d5b61", True: "#c4ced2"}  # beside bars, in the light and the dark theme
_NUMBERS = alt.NumberLocale(decimal=".", thousands=",", grouping=[3], currency=["", ""], percent=" %")
_Chart = alt.Chart | alt.LayerChart


def show(chart: _Chart, alt_text: str) -> None:
    """Draw a chart, in which `.0%` gives `98 %`, as in the sentences around it."""
    st.altair_chart(chart.configure(locale=alt.Locale(number=_NUMBERS)), alt=alt_text)


def bars(values: dict[str, float], axis: str) -> None:
    """Horizontal bars, largest first, with their values, 0..1."""
    table = pd.DataFrame({"label": list(values), "value": list(values.values())})
    scale = alt.Scale(domain=[0, 1])
    chart = alt.Chart(table).encode(
        x=alt.X("value:Q", title=axis, scale=scale, axis=alt.Axis(format=".0%", tickCount=4)),
        y=alt.Y("label:N", title=None, sort="-x", axis=alt.Axis(labelOverlap=False)),
        tooltip=["label:N", alt.Tooltip("value:Q", format=".0%")],
    )
    colour = _TEXT[st.context.theme.type == "dark"]
    text = chart.mark_text(align="left", dx=4, color=colour).encode(text=alt.Text("value:Q", format=".0%"))
    figures = ", ".join(f"{label} {percent(value)}" for label, value in values.items())
    show((chart.mark_bar(color=_ACCENT) + text).properties(height=alt.Step(28)), f"{axis}: {figures}")


def recalls(metrics: Row) -> dict[str, float]:
    """Recall of each label that has held-out pictures, 0..1."""
    return {label: row["recall"] for label, row in metrics["per_class"].items() if row["support"]}


def side_by_side(figures: dict[str, dict[str, float]], title: str) -> None:
    """Grouped bars: for each label one bar per series, values 0..1."""
    table = pd.DataFrame(
        [{"label": label, "of": name, "value": value} for name, row in figures.items() for label, value in row.items()]
    )
    order = list(figures)
    colour = alt.Color(
        "of:N",
        title=None,
        scale=alt.Scale(domain=order, range=["#9aa5b1", _ACCENT]),
        legend=alt.Legend(orient="top", columns=1),
    )
    chart = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X("value:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%", tickCount=4)),
            y=alt.Y("label:N", title=None, sort=None),
            yOffset=alt.YOffset("of:N", sort=order),
            color=colour,
            tooltip=["label:N", "of:N", alt.Tooltip("value:Q", format=".1%")],
        )
    )
    series = (
        f"{name}: " + ", ".join(f"{label} {percent(value)}" for label, value in row.items())
        for name, row in figures.items()
    )
    show(chart.properties(height=alt.Step(16)), f"{title}, {'; '.join(series)}")


def learning_curve(points: Sequence[Sequence[float]]) -> None:
    """Recall with fewer pictures, as pairs of pictures and recall, 0..1."""
    table = pd.DataFrame(points, columns=["pictures", "recall"])
    chart = (
        alt.Chart(table)
        .mark_line(point=True, color=_ACCENT)
        .encode(
            x=alt.X("pictures:Q", title="pictures of it", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("recall:Q", title="recall", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%")),
        )
    )
    figures = ", ".join(f"{percent(recall)} with {number:.0f} pictures" for number, recall in points)
    show(chart.properties(height=200), f"recall: {figures}")
