"""What attention keeps of earlier tokens while texts grow: written once, never moved.

Beams of one text share the keys of its prompt, and those of the tokens that several of them continue. So keys are kept
per text, one column each, in the order in which they came, and a mask tells each beam which of them it descends from.
Where beams take the places of others only masks change, and the beams of a text are queries of one product.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_ROOM, ROOM = 64, 0.25
"""Columns that are made room for when there is none left: this many, or this share of those in use."""
READ = 128
"""Columns that attention reads are a multiple of this where room is fixed, so that shapes repeat."""
PRUNED, DEAD = 8, 0.25
"""So many steps apart, columns that no beam descends from are dropped, if they are at least this share."""


def with_slack(count: int) -> int:
    """Columns of a buffer for `count` of them."""
    return count + max(LEAST_ROOM, int(ROOM * count))


class Past:
    """The columns of a batch, and which of them its rows see.

    Attributes:
        texts, beams: there are texts * beams rows, those of a text side by side.
        prompt: tokens of the first pass; `tokens`: of a text so far, that of the current step included.
        first, columns: the first column of the current step; all columns so far.
        hidden: (texts, beams, room) what is added to scores: 0, or -inf where a row must not look; None: it sees all.
        places: (texts, own columns) to which token a column after the prompt belongs, where there are beams.
        kept: keys and values of all layers.
        like: of the type of keys.
        room: columns that buffers have from the start (a static cache); None: they grow.
        at: (beams,) the columns of the current step as numbers on the device, where room is fixed.
    """

    def __init__(self, texts: int, prompt: int, mask: Tensor | None, like: Tensor, *, room: int | None = None) -> None:
        """`mask`: (texts, prompt) bool, True at real tokens; None if all are."""
        self.texts, self.beams, self.prompt = texts, 1, prompt
        self.tokens = self.first = self.columns = prompt
        self.hidden: Tensor | None = None
        self.places: Tensor | None = None
        self.kept: list[Kept] = []
        self.like, self._steps = like, 0
        self.room, self.at = room, None if room is None else torch.zeros(1, dtype=torch.long, device=like.device)
        if mask is not None:
            self.hidden = like.new_zeros(texts, 1, prompt).masked_fill_(~mask[:, None], -torch.inf)

    def keep(self, key: Tensor, value: Tensor, *, grows: bool = True) -> Kept:
        """Keys and values (texts, heads, prompt, head_size) of the first pass, to which those of a layer are added."""
        room = (self.room or with_slack(key.shape[2])) if grows else key.shape[2]
        self.kept.append(Kept(key, value, room, grows=grows))
        return self.kept[-1]

    def repeat(self, times: int) -> None:
        """Each text becomes `times` texts, side by side."""
        self.texts *= times
        if self.hidden is not None:
            self.hidden = self.hidden.repeat_interleave(times, 0)
        for kept in self.kept:
            kept.store = kept.store.repeat_interleave(times, 1)

    def fan_out(self, beams: int) -> None:
        """From now on `beams` rows continue each text."""
        hidden = self.like.new_zeros(self.texts, 1, self.prompt) if self.hidden is None else self.hidden
        self.beams, self.hidden = beams, hidden.expand(-1, beams, -1).contiguous()
        self.places = torch.empty(self.texts, 0, dtype=torch.long, device=hidden.device)
        self.at = None if self.at is None else self.at.repeat(beams)

    def reorder(self, rows: Tensor) -> None:
        """Row i takes up row `rows[i]`, which continues the same text."""
        assert self.hidden is not None
        own = self.hidden.flatten(0, 1)[:, self.prompt : self.columns]
        own.copy_(own.index_select(0, rows))
        self._steps += 1
        if self._steps % PRUNED == 0:
            self._prune()

    def _prune(self) -> None:
        """Drop columns that no beam descends from; what stays of all texts fits in the columns of the longest."""
        assert self.hidden is not None
        assert self.places is not None
        own = self.hidden[:, :, self.prompt : self.columns]
        seen = (own == 0).any(1)
        count = int(seen.sum(1).max())
        if count > (1 - DEAD) * own.shape[2]:
            return
        order = (~seen).byte().argsort(dim=1, stable=True)[:, :count]
        own[:, :, :count] = own.gather(2, order[:, None].expand(-1, self.beams, -1))
        self.places = self.places.gather(1, order)
        for kept in self.kept:
            kept.select(order, self.prompt, self.columns)
        self.columns = self.prompt + count

    def advance(self) -> None:
        """Begin a step: one more token per row."""
        self.first, self.columns, self.tokens = self.columns, self.columns + self.beams, self.tokens + 1
        if self.at is not None:
            torch.arange(self.first, self.columns, out=self.at)
        if (hidden := self.hidden) is None:
            return
        if self.columns > hidden.shape[2]:
            self.hidden = hidden.new_empty(self.texts, self.beams, with_slack(self.columns))
            self.hidden[:, :, : self.first] = hidden[:, :, : self.first]
        new = self.hidden[:, :, self.first : self.columns]  # type: ignore[index]
        new.fill_(-torch.inf).diagonal(dim1=1, dim2=2).zero_()
        if self.places is not None:
            self.places = torch.cat((self.places, self.places.new_full((self.texts, self.beams), self.tokens - 1)), 1)

    @property
    def seen(self) -> int:
        """The columns that attention reads: those so far or, where room is fixed, the next multiple of `READ`."""
        return self.columns if self.room is None else min(self.room, -(-self.columns // READ) * READ)

    def over_seen(self, added: Tensor | None) -> Tensor:
        """What is added to scores (..., columns) -> (..., seen): columns that are not written yet are hidden."""
        added = self.like.new_zeros(1, 1, 1, self.columns) if added is None else added
        return F.pad(added, (0, self.seen - self.columns), value=-torch.inf)

    def mask(self, groups: int) -> Tensor | None:
        """(texts, 1, queries, columns) what is added to the scores of queries in the order of `folded`."""
        if self.hidden is None:
            return None
        hidden = self.hidden[:, None, :, : self.columns]
        return hidden if groups == 1 else hidden.repeat_interleave(groups, 2)

    def biased(self, bias: Tensor, kv_heads: int) -> Tensor:
        """The same with a bias (1, texts or rows; heads; 1; tokens) -> (1 or texts, kv_heads, queries, columns)."""
        if len(bias) == self.texts * self.beams:
            bias = bias[:: self.beams]
        if self.places is not None:
            prompt = torch.arange(self.prompt, device=bias.device).expand(self.texts, -1)
            index = torch.cat((prompt, self.places), 1)[:, None, None].expand(-1, bias.shape[1], 1, -1)
            bias = bias.expand(self.texts, -1, -1, -1).gather(3, index)
        if self.hidden is not None:
            bias = bias + self.hidden[:, None, :, : self.columns]
        groups = bias.shape[1] // kv_heads
        if groups > 1:
            bias = bias.unflatten(1, (kv_heads, groups)).transpose(2, 3).flatten(2, 3)
        return bias.to(self.like.dtype)

    def folded(self, query: Tensor, kv_heads: int) -> Tensor:
        """(rows, heads, head_size) -> (texts, kv_heads, queries, head_size): beams, and heads that share keys."""
        if self.beams == 1:
            return query.view(self.texts, kv_heads, -1, query.shape[2])
        query = query.view(self.texts, self.beams, kv_heads, -1, query.shape[2])
        return query.transpose(1, 2).flatten(2, 3)

    def unfolded(self, mixed: Tensor) -> Tensor:
        """The inverse, heads side by side: (rows, heads * head_size)."""
        if self.beams > 1:
            mixed = mixed.unflatten(2, (self.beams, -1)).transpose(1, 2)
        return mixed.reshape(self.texts * self.beams, -1)


class Kept:
    """Keys and values of a layer: `store` (2, texts, kv_heads, room, head_size)."""

    def __init__(self, key: Tensor, value: Tensor, room: int, *, grows: bool) -> None:
        self.store = key.new_empty(2, *key.shape[:2], room, key.shape[3])
        self.store[:, :, :, key.shape[2] :] = 0  # what is read must be finite, also where it is hidden
        self.store[0, :, :, : key.shape[2]] = key
        self.store[1, :, :, : key.shape[2]] = value
        self.grows = grows

    def add(self, new: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """Keys and values of a step, (rows, 2 * kv_heads, head_size) -> all, (texts, kv_heads, seen, head_size)."""
        store = self.with_room(past)
        columns = new.view(past.texts, past.beams, 2, store.shape[2], store.shape[4]).permute(2, 0, 3, 1, 4)
        if past.at is None:
            store.narrow(3, past.first, past.beams).copy_(columns)
        else:
            store.index_copy_(3, past.at, columns)
        key, value = store.narrow(3, 0, past.seen).unbind(0)
        return key, value

    def with_room(self, past: Past) -> Tensor:
        """The store, with room for the columns of a step."""
        if self.grows and past.columns > self.store.shape[3]:
            earlier = self.store[:, :, :, : past.first]
            self.store = self.store.new_empty(*self.store.shape[:3], with_slack(past.columns), self.store.shape[4])
            self.store[:, :, :, : past.first] = earlier
        return self.store

    def select(self, order: Tensor, prompt: int, columns: int) -> None:
        """Keep the columns `order` (texts, n) of those after the prompt."""
        if not self.grows:
            return
        own = self.store[:, :, :, prompt:columns]
        index = order[None, :, None, :, None].expand(2, -1, own.shape[2], -1, own.shape[4])
        own[:, :, :, : order.shape[1]] = own.gather(3, index)
