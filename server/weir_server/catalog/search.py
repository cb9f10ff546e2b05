# SPDX-License-Identifier: Apache-2.0
"""Search over cards: every word of the search stands somewhere in the card's public words.

Words are compared without case and in Unicode's compatibility form, so that full-width letters are found too; a run of
Chinese is one word, found wherever it stands inside another.
"""

from __future__ import annotations

import unicodedata

from weir_server.catalog.card import DatasetCard, Dimension, Measure


def found(search: str, text: str) -> bool:
    """Whether all words of `search` stand in what `searchable` gave of a card; true for an empty search."""
    return all(word in text for word in _plain(search).split())


def searchable(card: DatasetCard) -> str:
    """Names, titles, description, keywords, provenance, unit and columns, a line each, ready to be compared."""
    columns: tuple[Dimension | Measure, ...] = (*card.dimensions, *card.measures)
    words = (card.name, card.title, card.description, *card.keywords, card.provenance, card.responsible, card.unit_name)
    return _plain("\n".join((*words, *(text for column in columns for text in (column.name, column.title)))))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
